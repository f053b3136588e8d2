"""What the contracts of criteria and of consensus functions share: a value, computed from arrays of samples."""

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

Arrays = dict[str, Any]  # the inputs by name, samples in the first axis
NOT_FINITE = (math.nan, math.inf, -math.inf)


class ValueContract:
    """Tests that need to know nothing but how a value is computed; ``subject`` is what computes it."""

    @pytest.fixture
    def subject(self) -> Any:
        """What is under test."""
        raise NotImplementedError

    def make(self, seed: int = 0) -> Arrays:
        """Inputs, others for every seed."""
        raise NotImplementedError

    def needs(self, subject: Any) -> Collection[str]:
        """The names of the inputs that the subject says it reads."""
        raise NotImplementedError

    def value(self, subject: Any, inputs: Mapping[str, Any]) -> np.ndarray:
        """The subject's value, float64."""
        raise NotImplementedError

    def shuffled(
        self, subject: Any, inputs: Arrays, source: np.random.Generator
    ) -> tuple[Arrays, Callable[[np.ndarray], np.ndarray]]:
        """The same samples in another order, and what must become of the value."""
        raise NotImplementedError

    def shows(self, value: np.ndarray, sample: int) -> bool:
        """Whether a value shows that this sample of one input was not finite."""
        return not np.isfinite(value).any()

    def assert_same(self, value: np.ndarray, expected: Any, rtol: float = 1e-9) -> None:
        """Assert that two values are equal but for rounding."""
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=1e-11)

    def test_it_says_what_it_is(self, subject: Any) -> None:
        assert subject.name
        assert subject.source
        assert subject.description.endswith(".")
        assert subject.description.count(".") - subject.description.count(" .") == 1

    def test_it_varies_with_everything_that_it_declares(self, subject: Any) -> None:
        for name in self.needs(subject):
            unchanged = [
                np.array_equal(self.value(subject, self.make(seed)), self.value(subject, self.make(seed) | other))
                for seed in range(4)
                for other in [{name: self.make(seed + 1)[name]}]
            ]
            assert not all(unchanged), name

    def test_it_varies_with_nothing_else(self, subject: Any) -> None:
        inputs = self.make()
        expected = self.value(subject, inputs)
        for name in set(inputs) - set(self.needs(subject)):
            assert np.array_equal(self.value(subject, inputs | {name: self.make(1)[name]}), expected), name

    def test_the_order_of_samples_does_not_matter(self, subject: Any) -> None:
        for seed in range(3):
            inputs = self.make(seed)
            shuffled, after = self.shuffled(subject, inputs, np.random.default_rng(seed))
            self.assert_same(self.value(subject, shuffled), after(self.value(subject, inputs)))

    def test_it_is_deterministic(self, subject: Any) -> None:
        first = self.value(subject, self.make())
        np.random.seed(7)  # noqa: NPY002  global generators must not matter
        torch.manual_seed(7)
        state = torch.get_rng_state()
        assert np.array_equal(self.value(subject, self.make()), first)
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_number_of_threads_does_not_matter(self, subject: Any) -> None:
        values, before = [], torch.get_num_threads()
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                with threadpool_limits(threads):
                    values.append(self.value(subject, self.make()))
        finally:
            torch.set_num_threads(before)
        self.assert_same(values[0], values[1])

    def test_it_leaves_its_inputs_alone(self, subject: Any) -> None:
        inputs = self.make()
        self.value(subject, inputs)
        assert all(np.array_equal(value, self.make()[name]) for name, value in inputs.items())

    def test_arrays_and_tensors_of_either_precision_agree(self, subject: Any) -> None:
        conversions: dict[type, tuple[Callable[[Any], Any], ...]] = {
            np.float64: (torch.tensor, np.asfortranarray, lambda x: torch.tensor(x).requires_grad_()),
            np.float32: (torch.tensor, np.asfortranarray, lambda x: torch.tensor(np.repeat(x, 2, 0))[::2]),
        }
        exact = self.value(subject, self.make())
        for dtype, others in conversions.items():
            inputs = {n: x if np.asarray(x).dtype.kind != "f" else x.astype(dtype) for n, x in self.make().items()}
            expected = self.value(subject, inputs)
            self.assert_same(expected, exact, rtol=1e-4)
            for convert in others:
                converted = {
                    n: convert(x) if n in self.needs(subject) and np.asarray(x).dtype.kind == "f" else x
                    for n, x in inputs.items()
                }
                self.assert_same(self.value(subject, converted), expected)

    @pytest.mark.parametrize("bad", NOT_FINITE)
    def test_what_is_not_finite_never_gives_a_plausible_value(self, subject: Any, bad: float) -> None:
        for name in self.needs(subject):
            inputs = self.make()
            if np.asarray(inputs[name]).dtype.kind == "f":
                inputs[name][0, ...].flat[0] = bad
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)
                    assert self.shows(self.value(subject, inputs), sample=0), name
