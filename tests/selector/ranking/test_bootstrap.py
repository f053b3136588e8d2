"""Resamples: which rows belong together."""

import torch

from augmentations.randomness import generator
from selector.evidence.evidence import SCORES, Evidence
from selector.ranking.bootstrap import RESAMPLES, _bootstraps, rows_of

GROUPS = [0] * 6 + [1] * 3 + [2] * 9 + [3] * 6


def test_what_was_made_of_a_validation_image_goes_with_it():
    """Blocks of pseudo anomalies, one for each validation image: a resample takes the same images of each."""
    h = torch.arange(6.0)
    whole = Evidence(validation_scores=h, augmented_scores=h + 10, pseudo_scores=torch.cat([h + 20, h + 30]))
    test, validation = (rows[0] for rows in _bootstraps(whole, torch.Generator().manual_seed(0)))
    again = whole.subset(**rows_of(whole, test, validation, SCORES))
    assert again.test_scores is None
    for scores, offset in ((again.augmented_scores, 10), (again.pseudo_scores[:6], 20), (again.pseudo_scores[6:], 30)):
        assert torch.equal(scores, again.validation_scores + offset)


def rows(groups):
    evidence = Evidence(validation_scores=torch.rand(len(GROUPS)), test_scores=torch.rand(5))
    return _bootstraps(evidence, generator(0), groups)[1]


def test_a_resample_has_as_many_validation_images_of_the_groups_it_drew():
    drawn = rows(GROUPS)
    assert drawn.shape == (RESAMPLES, len(GROUPS))
    groups = torch.tensor(GROUPS)[drawn]
    counts = [len(set(resample.tolist())) for resample in groups]
    assert min(counts) < 3 < len(GROUPS), "some draw a group several times, and leave others out"
    assert max(counts) <= 4


def test_with_groups_means_vary_as_groups_do():
    scores = torch.tensor(GROUPS).double()  # images of one group are the same
    spread = {name: scores[rows(groups)].mean(1).std() for name, groups in (("groups", GROUPS), ("images", None))}
    assert spread["groups"] > 1.5 * spread["images"]


def test_groups_of_one_image_each_are_images():
    spread = [rows(groups).double().mean(1).std() for groups in (list(range(len(GROUPS))), None)]
    assert 0.7 < spread[0] / spread[1] < 1.4
