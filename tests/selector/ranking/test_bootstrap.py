"""Resamples: which rows belong together."""

import torch

from selector.evidence.evidence import SCORES, Evidence
from selector.ranking.bootstrap import _bootstraps, rows_of


def test_what_was_made_of_a_validation_image_goes_with_it():
    """Blocks of pseudo anomalies, one for each validation image: a resample takes the same images of each."""
    h = torch.arange(6.0)
    whole = Evidence(validation_scores=h, augmented_scores=h + 10, pseudo_scores=torch.cat([h + 20, h + 30]))
    test, validation = (rows[0] for rows in _bootstraps(whole, torch.Generator().manual_seed(0)))
    again = whole.subset(**rows_of(whole, test, validation, SCORES))
    assert again.test_scores is None
    for scores, offset in ((again.augmented_scores, 10), (again.pseudo_scores[:6], 20), (again.pseudo_scores[6:], 30)):
        assert torch.equal(scores, again.validation_scores + offset)
