import numpy as np
import pytest
import torch
from sklearn.svm import OneClassSVM

from augmentations import InputError
from augmentations.randomness import generator
from detectors.scorers import OCSVM, LinearOCSVM


def features(n, d, seed=0):
    return torch.randn(n, d, generator=generator(seed, "features")).relu() + 0.1


def normalised(values):
    return torch.nn.functional.normalize(values.double(), dim=1).numpy()


@pytest.mark.parametrize("nu", [0.5, 0.05])
@pytest.mark.parametrize(("n", "d"), [(200, 6), (300, 64)])
def test_is_that_of_scikit_learn_on_unit_rows(n, d, nu):
    train, test = features(n, d), features(40, d, seed=1)
    gamma = 10 / (d * normalised(train).var())
    expected = -OneClassSVM(kernel="rbf", gamma=gamma, nu=nu).fit(normalised(train)).score_samples(normalised(test))
    scores = OCSVM(nu=nu).fit(train).score(test).double().numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("nu", [0.5, 0.05])
def test_the_linear_one_is_that_of_scikit_learn_on_rows_as_they_are(nu):
    train, test = 3 * features(200, 6), 3 * features(40, 6, seed=1)
    machine = OneClassSVM(kernel="linear", nu=nu).fit(train.double().numpy())
    expected = -machine.score_samples(test.double().numpy())
    scores = LinearOCSVM(nu=nu).fit(train).score(test).double().numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_the_linear_one_remembers_one_direction():
    assert LinearOCSVM().fit(features(200, 6)).state_dict()["weight"].shape == (6,)


@pytest.mark.parametrize("kind", [OCSVM, LinearOCSVM])
def test_is_fitted_to_no_more_rows_than_its_limit(kind):
    train, test = features(300, 6), features(9, 6, seed=1)
    few = kind(limit=50).fit(train)
    assert torch.equal(few.score(test), kind(limit=50).fit(train).score(test))
    assert not torch.equal(few.score(test), kind().fit(train).score(test))


@pytest.mark.parametrize("kind", [OCSVM, LinearOCSVM])
@pytest.mark.parametrize(
    ("train", "said"), [(torch.ones(9, 4), "all the same"), (features(1, 4), "too few")], ids=["same", "one row"]
)
def test_refuses_rows_that_are_no_set(kind, train, said):
    with pytest.raises(InputError, match=said):
        kind().fit(train)


def test_gradients_reach_the_rows():
    row = features(4, 6, seed=1).requires_grad_()
    OCSVM().fit(features(50, 6)).score(row).sum().backward()
    assert row.grad.isfinite().all()
    assert row.grad.abs().max() > 0
