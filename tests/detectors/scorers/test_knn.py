import math

import numpy as np
import pytest
import torch

from augmentations import InputError
from augmentations.randomness import generator
from detectors.scorers import NearestNeighbours, rows
from detectors.scorers.coreset import coreset


def features(n, d, seed=0):
    return torch.randn(n, d, generator=generator(seed, "features")) + 2


def brute_force(train, test, k, average, distance):
    """Sorted distances, one pair at a time, in float64."""
    scores = []
    for row in test.double().numpy():
        distances = []
        for other in train.double().numpy():
            if distance == "cosine":
                distances.append(1 - row @ other / np.linalg.norm(row) / np.linalg.norm(other))
            else:
                distances.append(math.dist(row, other))
        nearest = sorted(distances)[:k]
        scores.append(sum(nearest) / k if average else nearest[-1])
    return scores


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize(("k", "average"), [(1, True), (5, True), (5, False)])
def test_is_brute_force(k, average, distance):
    train, test = features(60, 7), features(20, 7, seed=1)
    scores = NearestNeighbours(k=k, average=average, distance=distance).fit(train).score(test)
    np.testing.assert_allclose(scores.numpy(), brute_force(train, test, k, average, distance), rtol=1e-4)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_small_distances_far_from_zero_are_not_lost(distance):
    train = 100 + features(30, 8)
    test = train[:5] + 1e-2 * features(5, 8, seed=1)
    scores = NearestNeighbours(k=1, distance=distance).fit(train).score(test)
    np.testing.assert_allclose(scores.numpy(), brute_force(train, test, 1, True, distance), rtol=2e-2)


def test_a_remembered_row_scores_next_to_nothing_but_not_zero():
    train = features(30, 8)
    scorer = NearestNeighbours(k=1).fit(train)
    scores = scorer.score(train)
    assert (scores > 0).all()
    assert scores.max() < 1e-5 * scorer.score(features(30, 8, seed=1)).median()


def exhaustive(points, size):
    """Greedy k-centre search over all pairs of rows, from the one nearest to the mean."""
    values = points.double().numpy()
    chosen = [int(np.linalg.norm(values - values.mean(0), axis=1).argmin())]
    while len(chosen) < size:
        gaps = [min(math.dist(value, values[i]) for i in chosen) for value in values]
        chosen.append(int(np.argmax([-1 if i in chosen else gap for i, gap in enumerate(gaps)])))
    return chosen


@pytest.mark.parametrize(("n", "d", "size"), [(40, 5, 12), (25, 64, 25), (9, 1, 1)])
def test_a_coreset_is_the_exhaustive_greedy_search(n, d, size):
    points = features(n, d)
    assert coreset(points, size).tolist() == exhaustive(points, size)


def test_a_coreset_of_long_rows_is_that_of_their_projections():
    points = features(80, 200)
    chosen = coreset(points, 16)
    assert len(chosen.unique()) == 16
    assert torch.equal(chosen, coreset(points, 16))

    def radius(indices):
        return torch.cdist(points, points[indices]).amin(1).max()

    assert radius(chosen) < 1.15 * radius(torch.tensor(exhaustive(points, 16)))


def test_a_coreset_covers_small_clusters_that_chance_misses():
    points = torch.cat([features(500, 5), *(features(2, 5, seed=i) + 40 * i for i in range(1, 6))])
    assert {int(i) for i in coreset(points, 6)} & set(range(500))
    assert torch.cdist(points, points[coreset(points, 12)]).amin(1).max() < 8


def test_no_row_is_chosen_twice_even_among_duplicates():
    points = features(4, 3).repeat(5, 1)
    assert len(coreset(points, 20).unique()) == 20


@pytest.mark.parametrize(("memory", "expected"), [(1.0, 50), (1, 50), (0.2, 10), (10, 10), (4000, 50), (7.0, 7)])
def test_the_memory_is_a_share_or_a_number_of_rows(memory, expected):
    scorer = NearestNeighbours(memory=memory).fit(features(50, 6))
    assert scorer.memory.shape == (expected, 6)
    assert type(scorer.settings["memory"]) is (float if memory <= 1 else int)


def test_a_memory_of_all_rows_is_no_coreset():
    train, test = features(50, 6), features(9, 6, seed=1)
    assert torch.equal(
        NearestNeighbours(memory=1.0).fit(train).score(test), NearestNeighbours(memory=50).fit(train).score(test)
    )


@pytest.mark.parametrize("block", [1, 700])
def test_scoring_in_blocks_changes_nothing(block, monkeypatch):
    scorer, test = NearestNeighbours().fit(features(50, 6)), features(20, 6, seed=1)
    expected = scorer.score(test)
    monkeypatch.setattr(rows, "BLOCK", block)
    torch.testing.assert_close(scorer.score(test.view(4, 5, 6)).flatten(), expected)


@pytest.mark.parametrize(
    ("settings", "n", "said"),
    [
        ({"k": 10}, 9, "9 rows of features: are too few for scorer 'knn', which needs 10; give more images"),
        ({"k": 3, "memory": 0.1}, 20, "memory=0.1: leaves 2 of 20 rows, fewer than k=3; give a larger share"),
    ],
)
def test_fewer_rows_than_neighbours_are_refused(settings, n, said):
    with pytest.raises(InputError) as refusal:
        NearestNeighbours(**settings).fit(features(n, 4))
    assert said in str(refusal.value)


def test_rows_that_differ_in_length_alone_have_one_direction():
    train = torch.ones(9, 4) * torch.arange(1, 10)[:, None]
    with pytest.raises(InputError, match="all the same"):
        NearestNeighbours().fit(train)
    assert NearestNeighbours(distance="euclidean").fit(train).score(train).isfinite().all()
