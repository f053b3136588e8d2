import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from augmentations.randomness import generator, log_uniform, uniform


def test_depends_on_seed_and_purpose_only():
    assert torch.equal(torch.rand(5, generator=generator(1, "a", 2)), torch.rand(5, generator=generator(1, "a", 2)))
    draws = [torch.rand(5, generator=g) for g in (generator(1), generator(2), generator(1, "a"), generator(1, "b"))]
    assert len({tuple(draw.tolist()) for draw in draws}) == 4


@given(low=st.floats(-1e3, 1e3, allow_nan=False), width=st.floats(0, 1e3), seed=st.integers(0, 2**32))
def test_uniform_stays_in_its_range(low, width, seed):
    draws = uniform((low, low + width), 50, generator(seed))
    assert draws.min() >= low - 1e-9
    assert draws.max() <= low + width + 1e-9


def test_uniform_and_log_uniform_are_what_they_say():
    draws = uniform((2.0, 5.0), 5000, generator(0))
    assert stats.kstest(draws.numpy(), stats.uniform(2, 3).cdf).pvalue > 0.01
    draws = log_uniform((0.25, 4.0), 5000, generator(0))
    assert stats.kstest(draws.numpy(), stats.loguniform(0.25, 4).cdf).pvalue > 0.01


def test_a_range_changes_no_later_draw():
    # Points keep the stream where ranges do, so that comparing settings compares like with like.
    for value in ((0.1, 0.1), (0.1, 0.9)):
        g = generator(0)
        uniform(value, 10, g)
        after = torch.rand(1, generator=g)
        g = generator(0)
        log_uniform((0.2, 0.3), 10, g)
        assert torch.equal(after, torch.rand(1, generator=g))


def test_draws_are_smooth_in_the_ends():
    low, high = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, 2.0))
    for draw in (uniform, log_uniform):
        torch.autograd.gradcheck(lambda a, b, draw=draw: draw((a, b), 4, generator(0)), (low, high))
