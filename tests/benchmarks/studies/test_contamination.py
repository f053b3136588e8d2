"""Metrics by the share of anomalies among the train images."""

import torch

from benchmarks.studies.contamination import scores_of
from benchmarks.tasks.task import Task


def test_both_protocols_score_the_images_of_their_task(stripes, scratched, tiny):
    test = torch.cat([stripes(10, 5), scratched(20)])
    task = Task("stripes", stripes(60), test, torch.tensor([0] * 10 + [1] * 20, dtype=torch.uint8))
    scores = scores_of(task, 0.1, 0, tiny)
    assert set(scores) == {"unlabeled", "semi-supervised"}
    for part, values in scores.values():
        assert values.shape == part.labels.shape
        assert values.isfinite().all()
