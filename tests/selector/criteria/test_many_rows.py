"""Evidence of many rows: what takes a sample of them, how far that is from all, and what it costs."""

import math
from time import process_time

import numpy as np
import pytest
import torch

from selector import criteria
from selector.criteria import embedding
from selector.evidence import pairwise
from selector.evidence.evidence import Evidence
from selector.evidence.pairwise import Pairwise

WIDTH = 16
EXACT = {"mmd_linear", "alignment", "separability_clamped", "negative_separability_unclamped"}  # the gap is of few rows
LIMIT = 256


def make(k, n=100, seed=0, width=WIDTH):
    source = torch.Generator().manual_seed(seed)
    x, y, z = (torch.randn(rows, width, generator=source) for rows in (n, n, k))
    return Evidence(x, y + 0.5, 0.9 * z + 0.2)


def sampled(evidence, limit=LIMIT):
    return evidence.with_pairwise(Pairwise(evidence.train, evidence.augmented, evidence.test, most_rows=limit))


def values(evidence):
    return criteria.evaluate(evidence, embedding.CRITERIA)


def test_a_sample_is_as_far_from_all_rows_as_its_standard_error_says():
    ratios = {criterion.name: [] for criterion in embedding.CRITERIA}
    for seed in range(8):
        evidence = make(2000, seed=seed)
        sample, exact = sampled(evidence), values(evidence)
        errors = embedding.standard_errors(sample, embedding.CRITERIA)
        for name, value in values(sample).items():
            if name in EXACT:
                assert value == pytest.approx(exact[name], rel=1e-12)
                assert errors[name] == 0
            else:
                ratios[name].append((value - exact[name]) / errors[name])
    for name in ratios.keys() - EXACT:
        size = math.sqrt(np.square(ratios[name]).mean())
        assert 0.1 < size < 2, name


def test_a_value_of_some_images_takes_those_of_the_sample():
    evidence = make(2000)
    sample = sampled(evidence)
    of_images = embedding.dsv_of_images(sample)
    assert float(of_images(torch.ones(2000, dtype=torch.bool))) == pytest.approx(float(embedding.dsv(sample)), rel=1e-9)
    near = sample.pairwise.mean_distances("test", "train")
    assert int(near.isfinite().sum()) == LIMIT
    assert near is sample.pairwise.with_augmented(sample.train).mean_distances("test", "train")  # draws share it
    kept = evidence.subset(test=near.isfinite())
    assert torch.allclose(near[near.isfinite()], torch.cdist(kept.test.double(), kept.train.double()).mean(1))


def test_up_to_the_limit_all_rows_count():
    evidence = make(LIMIT)
    assert values(sampled(evidence)) == values(evidence)
    assert not any(embedding.standard_errors(sampled(evidence), embedding.CRITERIA).values())


def test_the_same_rows_are_those_of_every_candidate_and_draw():
    evidence = make(1000)
    alike = Evidence(evidence.train, evidence.augmented, evidence.test.clone())
    first, second = (sampled(e).pairwise.mean("distance", "train", "test") for e in (evidence, alike))
    of_draw = sampled(evidence).with_augmented(evidence.augmented + 1).pairwise.mean("distance", "train", "test")
    assert float(first) == float(second) == float(of_draw)


def test_a_mean_over_a_sample_has_no_bias():
    """A row's pair with itself counts as often as it does among all rows."""
    found = []
    for seed in range(200):
        rows = make(40, seed=0).test[torch.randperm(40, generator=torch.Generator().manual_seed(seed))]
        found.append(float(Pairwise(rows, rows, rows, most_rows=10).mean("distance", "test", "test")))
    exact = float(torch.cdist(rows, rows).double().mean())
    assert np.mean(found) == pytest.approx(exact, abs=3 * np.std(found) / math.sqrt(200))
    assert 3 * np.std(found) / math.sqrt(200) < 0.02 * exact  # such pairs would take 7.5% of it away


def test_time_is_linear_in_test_rows():
    few, many = make(20_000, width=64), make(40_000, width=64)
    seconds = {id(few): [], id(many): []}
    for _ in range(3):
        for evidence in (few, many):
            started = process_time()
            values(sampled(evidence, 500))
            seconds[id(evidence)].append(process_time() - started)
    assert min(seconds[id(many)]) / min(seconds[id(few)]) < 2.6


def test_no_copy_of_a_large_set_is_made(monkeypatch):
    """Of values that are converted to float64 at once, which is what would double the memory of a set."""
    largest, minus = [], pairwise.minus
    monkeypatch.setattr(pairwise, "minus", lambda rows, at: (largest.append(rows.numel()), minus(rows, at))[1])
    values(sampled(make(200_000, width=8)))
    assert max(largest) <= pairwise.PAIRS_AT_ONCE
