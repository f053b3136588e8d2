"""What every one-class scorer must do, whatever it measures."""

import json

import pytest
import torch
from torch import Tensor

from augmentations import InputError
from augmentations.randomness import generator
from detectors import Scorer


class ScorerContract:
    """Tests that every scorer must pass. Scores may be of any scale and sign.

    Inherit, and say in ``make`` how a scorer is made that is not fitted yet.

    too_few: a number of rows that can't be fitted to. width: values of a row. n: rows that are fitted to.
    far: what is added to rows (about 3) to make them anomalous; a scorer that sees the direction of a row alone has
    only numbers below 0 here.

    Example, in a file that pytest collects:

        class TestMine(ScorerContract):
            def make(self):
                return Mine(k=3)
    """

    too_few = 1
    width = 5
    n = 60
    far: tuple[float, ...] = (30.0, -30.0)

    def make(self) -> Scorer:
        """A scorer that is not fitted yet."""
        raise NotImplementedError

    @pytest.fixture
    def rows(self) -> Tensor:
        """Rows (n,d) of normal images."""
        return 3 + torch.randn(self.n, self.width, generator=generator(0, "rows"))

    @pytest.fixture
    def others(self) -> Tensor:
        """More such rows, (12,d), which are not fitted to."""
        return 3 + torch.randn(12, self.width, generator=generator(1, "rows"))

    @pytest.fixture
    def fitted(self, rows: Tensor) -> Scorer:
        return self.make().fit(rows)

    def make_per_location(self) -> Scorer:
        """The form with one model for each location; a scorer that has none skips the test."""
        scorer = self.make()
        if scorer.per_location is None:
            pytest.skip("this scorer has no form by location")
        return scorer.per_location(**scorer.settings)

    @pytest.fixture
    def places(self) -> Tensor:
        """Rows (n,2,3,d) of normal images by location, each location about a centre of its own."""
        centres = 40 * torch.randn(2, 3, self.width, generator=generator(0, "centres"))
        return centres + torch.randn(self.n, 2, 3, self.width, generator=generator(0, "places"))

    def test_it_is_fitted_in_place(self, rows):
        scorer = self.make()
        assert scorer.fit(rows) is scorer

    def test_far_rows_score_higher(self, fitted, rows, others):
        near = torch.cat([fitted.score(rows), fitted.score(others)])
        for distance in self.far:
            assert fitted.score(others + distance).min() > near.max()

    def test_a_score_is_a_finite_number_for_each_row(self, fitted, others):
        scores = fitted.score(others)
        assert scores.shape == (12,)
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()

    def test_rows_have_any_leading_shape(self, fitted, others):
        scores = fitted.score(others.view(2, 3, 2, self.width))
        assert scores.shape == (2, 3, 2)
        torch.testing.assert_close(scores.flatten(), fitted.score(others), rtol=1e-4, atol=1e-4)

    def test_distances_are_positive(self, fitted, others):
        if fitted.score_is_distance:
            assert (fitted.score(others) > 0).all()

    def test_its_state_is_all_of_it(self, fitted, others):
        restored = self.make().restore(fitted.state_dict())
        assert torch.equal(restored.score(others), fitted.score(others))

    def test_its_settings_are_json_and_make_an_equal_one(self, fitted, rows, others):
        settings = json.loads(json.dumps(fitted.settings, allow_nan=False))
        again = type(fitted)(**settings)
        assert again.settings == fitted.settings
        assert torch.equal(again.fit(rows).score(others), fitted.score(others))

    def test_fitting_is_deterministic_and_draws_from_no_global_generator(self, fitted, rows, others):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(123)
            before = torch.get_rng_state()
            again = self.make().fit(rows)
            assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(again.score(others), fitted.score(others))

    def test_fitting_leaves_the_rows_as_they_are(self, rows):
        before = rows.clone()
        self.make().fit(rows)
        assert torch.equal(rows, before)

    def test_it_keeps_its_own_copy_of_what_it_learned(self, rows, others):
        fitted = self.make().fit(rows)
        before = fitted.score(others)
        rows.zero_()
        assert torch.equal(fitted.score(others), before)

    def test_fitting_again_leaves_nothing_of_the_former_rows(self, rows, fitted, others):
        again = self.make().fit(10 * rows + 7).fit(rows)
        assert torch.equal(again.score(others), fitted.score(others))

    def test_it_needs_no_gradients(self, rows):
        fitted = self.make().fit(rows.requires_grad_())
        assert fitted.state_dict()
        assert not any(tensor.requires_grad for tensor in fitted.state_dict().values())

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
    def test_rows_that_are_not_finite_are_refused(self, rows, value):
        rows[3, 2] = value
        with pytest.raises(InputError):
            self.make().fit(rows)

    def test_too_few_rows_are_refused(self, rows):
        with pytest.raises(InputError):
            self.make().fit(rows[: self.too_few])

    def test_it_can_be_exported(self, fitted, others):
        assert_exported(fitted, others)

    def test_each_location_is_scored_by_its_own_rows(self, places):
        scorer = self.make_per_location().fit(places)
        scores = scorer.score(places)
        assert scores.shape == places.shape[:-1]
        exchanged = places.clone()
        exchanged[:, 0, 0], exchanged[:, 1, 2] = places[:, 1, 2], places[:, 0, 0]
        elsewhere = scorer.score(exchanged)
        for row, column in ((0, 0), (1, 2)):
            assert elsewhere[:, row, column].min() > scores[:, row, column].max()
        torch.testing.assert_close(elsewhere[:, :, 1], scores[:, :, 1])

    def test_a_location_is_fitted_whatever_the_others_are(self, places):
        scores = self.make_per_location().fit(places).score(places)
        moved = places.clone()
        moved[:, 1, 1] += 100
        others = self.make_per_location().fit(moved).score(places)
        torch.testing.assert_close(others[:, 0], scores[:, 0], rtol=1e-4, atol=1e-4)
        assert others[:, 1, 1].min() > scores[:, 1, 1].max()

    def test_the_form_by_location_can_be_stored_and_exported(self, places):
        scorer = self.make_per_location().fit(places)
        restored = self.make_per_location().restore(scorer.state_dict())
        assert torch.equal(restored.score(places), scorer.score(places))
        assert_exported(scorer, places[:12])

    def test_the_form_by_location_refuses_what_can_not_be_fitted(self, places):
        with pytest.raises(InputError):
            self.make_per_location().fit(places[: self.too_few])
        places[3, 1, 1, 0] = torch.nan
        with pytest.raises(InputError):
            self.make_per_location().fit(places)


def assert_exported(scorer: Scorer, rows: Tensor) -> None:
    """Trace a scorer with another number of rows, run the program on ``rows``, and compare."""
    shapes = ({0: torch.export.Dim("n", min=1)},)
    with torch.no_grad():
        program = torch.export.export(scorer.eval(), (rows[:3],), dynamic_shapes=shapes, strict=False)
        torch.testing.assert_close(program.module()(rows), scorer(rows), rtol=1e-4, atol=1e-4)
