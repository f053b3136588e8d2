import numpy as np
import pytest
import torch
from sklearn.neighbors import KernelDensity

from augmentations import InputError
from augmentations.randomness import generator
from detectors.scorers import KDE, rows
from detectors.scorers.kde import kernel_width


def features(n, d, seed=0):
    """Like pooled features after a ReLU: not below 0."""
    return torch.randn(n, d, generator=generator(seed, "features")).relu() + 0.1


def normalised(values):
    return torch.nn.functional.normalize(values.double(), dim=1).numpy()


def test_gamma_is_ten_times_that_of_scikit_learn_on_unit_rows():
    train = features(200, 32)
    expected = 10 / (32 * normalised(train).var())
    assert KDE().fit(train).gamma.item() == pytest.approx(expected, rel=1e-5)
    assert KDE(gamma_factor=80).fit(train).gamma.item() == pytest.approx(8 * expected, rel=1e-5)
    assert expected >= 10
    assert kernel_width(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 10).item() == 20


@pytest.mark.parametrize(("n", "d"), [(200, 6), (300, 64), (3, 2)])
def test_is_the_density_of_scikit_learn_up_to_a_constant(n, d):
    train, test = features(n, d), features(40, d, seed=1)
    scorer = KDE().fit(train)
    gamma = scorer.gamma.item()
    density = KernelDensity(bandwidth=(2 * gamma) ** -0.5).fit(normalised(train))
    difference = scorer.score(test).double().numpy() + density.score_samples(normalised(test)) / gamma
    np.testing.assert_allclose(difference, difference[0], atol=1e-5)


def test_the_length_of_a_row_is_nothing():
    train, test = features(50, 6), features(9, 6, seed=1)
    torch.testing.assert_close(KDE().fit(3 * train).score(7 * test), KDE().fit(train).score(test))


def test_rows_beyond_the_limit_are_left_out_always_the_same_ones():
    train, test = features(300, 6), features(9, 6, seed=1)
    few = KDE(limit=100).fit(train)
    assert few.known.shape == (100, 6)
    assert torch.equal(few.score(test), KDE(limit=100).fit(train).score(test))
    assert few.gamma == KDE().fit(train).gamma


@pytest.mark.parametrize("block", [1, 700])
def test_scoring_in_blocks_changes_nothing(block, monkeypatch):
    scorer, test = KDE().fit(features(50, 6)), features(20, 6, seed=1)
    expected = scorer.score(test)
    monkeypatch.setattr(rows, "BLOCK", block)
    torch.testing.assert_close(scorer.score(test.view(4, 5, 6)).flatten(), expected)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (torch.ones(9, 4), "all the same"),
        (torch.ones(9, 4) * torch.arange(1, 10)[:, None], "all the same"),
        (features(1, 4), "1 rows of features: are too few for scorer 'kde', which needs 2; give more images"),
        (features(9, 4).fill_(torch.nan), "must be finite"),
    ],
    ids=["same", "same direction", "one row", "nan"],
)
def test_refuses_what_has_no_density(train, said):
    with pytest.raises(InputError) as refusal:
        KDE().fit(train)
    assert said in str(refusal.value)
