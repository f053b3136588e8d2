import pytest
import torch

from augmentations import InputError
from detectors.scorers import SCORERS
from detectors.scorers import get as scorer


@pytest.fixture(params=list(SCORERS))
def kind(request):
    return scorer(request.param)


def test_far_rows_score_higher(kind):
    train = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    fitted = kind().fit(train)
    assert fitted.score(train + 10).min() > fitted.score(train).max()
    assert fitted.score(train).shape == (60,)


def test_state_is_tensors_and_enough(kind):
    train = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    fitted = kind().fit(train)
    assert torch.equal(kind().restore(fitted.state_dict()).score(train), fitted.score(train))


def test_distances_are_positive(kind):
    train = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    if kind.score_is_distance:
        assert (kind().fit(train).score(train) > 0).all()


def test_unknown_name():
    with pytest.raises(InputError, match="did you mean gaussian"):
        scorer("gausian")
