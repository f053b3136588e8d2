import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf, ledoit_wolf

from augmentations import InputError
from detectors.scorers import gaussian as module
from detectors.scorers.gaussian import Gaussian, GaussianPerLocation, ledoit_wolf_covariances


def rows(n, d, seed=0):
    numbers = np.random.default_rng(seed)
    return torch.from_numpy(numbers.normal(size=(n, d)) @ numbers.normal(size=(d, d)) + 3).float()


@pytest.mark.parametrize(("n", "d"), [(200, 6), (10, 30), (3, 4), (50, 1)])
def test_is_the_mahalanobis_distance_under_a_ledoit_wolf_covariance(n, d):
    train, test = rows(n, d), rows(7, d, seed=1)
    estimate = LedoitWolf().fit(train.double().numpy())
    precision = np.linalg.inv(estimate.covariance_)
    expected = [
        float(np.sqrt((row - estimate.location_) @ precision @ (row - estimate.location_)))
        for row in test.double().numpy()
    ]
    scores = Gaussian().fit(train).score(test)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.numpy(), expected, rtol=2e-4)


def test_precision_of_short_rows():
    # Unit rows that hardly differ, in more dimensions than there are rows: where float32 would lose.
    train = torch.nn.functional.normalize(1 + 1e-3 * rows(40, 64), dim=1)
    estimate = LedoitWolf().fit(train.double().numpy())
    expected = np.sqrt(estimate.mahalanobis(train.double().numpy()))
    np.testing.assert_allclose(Gaussian().fit(train).score(train).numpy(), expected, rtol=2e-2)


def test_scores_any_leading_shape():
    gaussian, test = Gaussian().fit(rows(50, 4)), rows(12, 4, seed=1)
    torch.testing.assert_close(gaussian.score(test.view(2, 3, 2, 4)).flatten(), gaussian.score(test))


def test_the_mean_scores_zero_and_distance_grows_from_it():
    gaussian = Gaussian().fit(rows(50, 4))
    away = torch.linspace(0, 3, 5)[:, None] * torch.ones(4) + gaussian.mean
    scores = gaussian.score(away)
    assert scores[0] == 0
    assert (scores.diff() > 0).all()


def test_dead_features_are_no_obstacle():
    train = rows(40, 6)
    train[:, 2:] = 0
    assert Gaussian().fit(train).score(rows(5, 6, seed=1)).isfinite().all()


@pytest.mark.parametrize(
    "same",
    [
        torch.zeros(10, 4),
        torch.full((10, 4), 0.5),
        rows(1, 4),
        torch.nn.functional.normalize(torch.ones(10, 4) + 1e-7 * rows(10, 4), dim=1),
    ],
    ids=["zeros", "constant", "one row", "rounding noise"],
)
def test_refuses_rows_that_are_all_the_same(same):
    with pytest.raises(InputError, match="all the same"):
        Gaussian().fit(same)


@pytest.mark.parametrize("same", [rows(2, 4), rows(2, 4).repeat(6, 1)], ids=["two rows", "two, repeated"])
def test_refuses_rows_that_no_shrinkage_helps(same):
    # Two rows lie on a line, and Ledoit and Wolf's estimate of the noise in their covariance is 0.
    with pytest.raises(InputError, match="too few directions"):
        Gaussian().fit(same)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_refuses_rows_that_are_not_finite(value):
    bad = rows(10, 4)
    bad[3, 2] = value
    with pytest.raises(InputError, match="finite"):
        Gaussian().fit(bad)


def test_state_holds_all_of_it():
    gaussian, test = Gaussian().fit(rows(50, 4)), rows(7, 4, seed=1)
    assert torch.equal(Gaussian().restore(gaussian.state_dict()).score(test), gaussian.score(test))


def test_wants_no_gradients_from_training():
    assert not Gaussian().fit(rows(50, 4).requires_grad_()).mean.requires_grad


def places(n, height=2, width=3, d=5, seed=0):
    """(n,height,width,d): each location with a distribution of its own."""
    return torch.stack([rows(n, d, seed=100 * seed + i) + i for i in range(height * width)], 1).view(
        n, height, width, d
    )


@pytest.mark.parametrize(("n", "d"), [(200, 6), (10, 30), (3, 4), (50, 1), (6, 64)])
def test_covariances_by_location_are_those_of_sklearn(n, d):
    groups = torch.stack([rows(n, d, seed=seed) for seed in range(4)]).double()
    for group, covariance in zip(groups, ledoit_wolf_covariances(groups), strict=True):
        expected, _ = ledoit_wolf(group.numpy())
        np.testing.assert_allclose(covariance.numpy(), expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_covariance_of_rows_that_are_the_same_is_zero():
    assert torch.equal(ledoit_wolf_covariances(torch.ones(2, 9, 4).double()), torch.zeros(2, 4, 4).double())


@pytest.mark.parametrize("block", [2**22, 1], ids=["at once", "one by one"])
def test_by_location_each_is_a_gaussian_of_its_own(block, monkeypatch):
    monkeypatch.setattr(module, "LOCATION_BLOCK", block)
    train, test = places(40), places(7, seed=1)
    scores = GaussianPerLocation().fit(train).score(test)
    assert scores.shape == (7, 2, 3)
    for i in range(2):
        for j in range(3):
            expected = Gaussian().fit(train[:, i, j]).score(test[:, i, j])
            torch.testing.assert_close(scores[:, i, j], expected, rtol=1e-4, atol=1e-4)


def test_a_location_where_nothing_varies_stays_finite_and_leaves_the_others_alone():
    train, test = places(40), places(7, seed=1)
    train[:, 1, 2] = 0.5
    others = GaussianPerLocation().fit(train).score(test)
    assert others.isfinite().all()
    expected = Gaussian().fit(train[:, 0, 1]).score(test[:, 0, 1])
    torch.testing.assert_close(others[:, 0, 1], expected, rtol=1e-4, atol=1e-4)
    typical = train.double().var(0, correction=0).mean()
    away = (test[:, 1, 2] - 0.5).double().norm(dim=1) / (module.LEAST_VARIANCE * typical).sqrt()
    torch.testing.assert_close(others[:, 1, 2].double(), away, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.full((9, 2, 2, 3), 0.5), "all the same"),
        (places(2).repeat(4, 1, 1, 1), "too few directions"),
        (places(9).fill_(torch.nan), "finite"),
    ],
    ids=["constant", "two, repeated", "nan"],
)
def test_by_location_refuses_what_no_gaussian_fits(bad, said):
    with pytest.raises(InputError, match=said):
        GaussianPerLocation().fit(bad)


def test_state_by_location_holds_all_of_it():
    fitted, test = GaussianPerLocation().fit(places(40).requires_grad_()), places(7, seed=1)
    assert torch.equal(GaussianPerLocation().restore(fitted.state_dict()).score(test), fitted.score(test))
    assert not fitted.whitening.requires_grad
