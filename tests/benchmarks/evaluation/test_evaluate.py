"""Rows of a leaderboard on zoos made by hand, where the answers are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.evaluation.evaluate import evaluate
from selector.ranking.rules import DEFAULT_MEMBERS


@pytest.fixture
def rows(made_zoo):
    """The rows of a zoo of twelve: six that each detect one kind of anomaly only, six that detect none."""
    zoo = made_zoo()
    table, _ = evaluate(zoo, (0.2, 0.5))
    return zoo, table.set_index(["anomaly_ratio", "criterion"])


def normalized(zoo):
    """Test scores divided by the mean score of validation images."""
    return zoo.scores["test"] / zoo.scores["validation"].mean()


def test_the_maximum_of_all_divides_each_by_its_mean_normal_score(rows):
    zoo, found = rows
    expected = roc_auc_score(zoo.views[0].labels, normalized(zoo)[zoo.trusted()].max(axis=1))
    for ratio in (0.2, 0.5):
        assert found.auroc[ratio, "max_all"] == pytest.approx(expected)
        assert found.regret[ratio, "max_all"] == pytest.approx(found.auroc[ratio, "oracle"] - expected)


def test_ranks_of_all_are_averaged(rows):
    zoo, found = rows
    expected = roc_auc_score(zoo.views[0].labels, zoo.scores["test"][zoo.trusted()].rank().mean(axis=1))
    assert found.auroc[0.2, "mean_rank_all"] == pytest.approx(expected)


def test_specialists_together_find_what_none_finds_alone_and_their_mean_rank_does_not(rows):
    _, found = rows
    assert found.auroc[0.5, "max_all"] > found.auroc[0.5, "oracle"] + 0.1
    assert found.auroc[0.5, "max_all"] > found.auroc[0.5, "mean_rank_all"] + 0.1


def test_an_ensemble_is_of_the_few_that_default_places_highest(made_zoo):
    """With as many candidates as members both ensembles are those of all, whatever the order."""
    zoo = made_zoo(specialists=3, blind=DEFAULT_MEMBERS - 3)
    assert len(zoo.trusted()) == DEFAULT_MEMBERS
    table, _ = evaluate(zoo, (0.2,))
    auroc = table.set_index("criterion").auroc
    assert auroc["ensemble"] == pytest.approx(auroc["max_all"])
    # Sums of ranks in another order round differently, which breaks ties between images.
    assert auroc["ensemble_ranks"] == pytest.approx(auroc["mean_rank_all"], abs=0.005)
    larger = evaluate(made_zoo(), (0.2,))[0].set_index("criterion").auroc
    assert larger["ensemble"] != pytest.approx(larger["max_all"])


def test_the_oracle_of_half_of_the_labels_loses_the_same_at_every_ratio(rows):
    _, found = rows
    of_half = found.xs("half_label_oracle", level="criterion")
    assert of_half.regret.nunique() == of_half.auroc.nunique() == 1
    assert of_half.regret.iloc[0] >= 0
    assert of_half["rank"].isna().all()


def test_a_candidate_that_gives_all_validation_images_one_score_has_no_part(made_zoo):
    zoo = made_zoo()
    lost = zoo.trained[0]
    zoo.scores["validation"][lost] = 1.0
    assert lost not in zoo.trusted()
    assert np.isfinite(evaluate(zoo, (0.2,))[0].regret).all()


def test_evaluating_twice_gives_the_same(made_zoo):
    pd.testing.assert_frame_equal(evaluate(made_zoo(), (0.2,))[0], evaluate(made_zoo(), (0.2,))[0])


def test_a_random_pick_is_of_what_no_guard_strikes_out_and_the_average_of_all(made_zoo):
    zoo = made_zoo()
    collapsed = zoo.trained[:2]
    for candidate in collapsed:
        zoo.scores["augmented"][candidate] = zoo.scores["validation"][candidate].to_numpy()
    auroc = pd.Series({i: roc_auc_score(zoo.views[0].labels, zoo.scores["test"][i]) for i in zoo.trained})
    found = evaluate(zoo, (0.2, 0.5))[0].set_index(["anomaly_ratio", "criterion"])
    for ratio in (0.2, 0.5):
        assert found.auroc[ratio, "random"] == pytest.approx(auroc.drop(collapsed).mean())
        assert found.auroc[ratio, "average"] == pytest.approx(auroc.mean())
        assert found.auroc[ratio, "random"] != pytest.approx(found.auroc[ratio, "average"])
        assert found["rank"][ratio, "random"] == pytest.approx(auroc.rank(ascending=False).drop(collapsed).mean())


def test_random_members_are_as_many_as_recommended_and_the_same_at_every_ratio(made_zoo):
    zoo = made_zoo()
    found = evaluate(zoo, (0.2, 0.5))[0].set_index(["anomaly_ratio", "criterion"]).auroc
    assert found[0.2, "random_members"] == found[0.5, "random_members"]
    source = np.random.default_rng(0)
    values, labels = normalized(zoo), zoo.views[0].labels
    drawn = [source.choice(zoo.trained, DEFAULT_MEMBERS, replace=False) for _ in range(400)]
    aurocs = [roc_auc_score(labels, values[members].max(axis=1)) for members in drawn]
    error = np.std(aurocs) * (1 / 50 + 1 / 400) ** 0.5
    assert found[0.2, "random_members"] == pytest.approx(np.mean(aurocs), abs=4 * error)
    few = evaluate(made_zoo(specialists=3, blind=DEFAULT_MEMBERS - 3), (0.2,))[0].set_index("criterion").auroc
    assert few["random_members"] == pytest.approx(few["max_all"])


def test_what_is_always_taken_has_the_auroc_of_that_candidate(made_zoo):
    zoo = made_zoo()
    kinds = ["frozen (score locations, neighbourhood 3)", "frozen (score pooled, neighbourhood 1)", "pixels"]
    kinds += ["classifier"] * (len(zoo.candidates) - len(kinds))
    zoo = replace(zoo, candidates=zoo.candidates.assign(detector=kinds))
    table, candidates = evaluate(zoo, (0.2, 0.5))
    auroc = candidates.set_index("candidate").auroc
    taken = dict(zip(("always_frozen", "always_frozen_pooled", "always_pixels"), zoo.trained, strict=False))
    for row, candidate in taken.items():
        found = table[table.criterion == row]
        assert len(found) == 2
        assert (found.auroc == auroc[candidate]).all()
        assert np.allclose(found.regret, auroc[zoo.trained].max() - auroc[candidate])


def test_a_candidate_that_was_not_trained_is_a_row_with_its_reason_and_one_that_is_not_there_is_none(made_zoo):
    zoo = made_zoo()
    assert not evaluate(zoo, (0.2,))[0].criterion.str.startswith("always").any()
    lost = zoo.candidates.iloc[:1].assign(detector="pixels", status="failed", reason="no memory").set_axis(["lost"])
    zoo = replace(zoo, candidates=pd.concat([zoo.candidates, lost]).rename_axis("id"))
    row = evaluate(zoo, (0.2,))[0].set_index("criterion").loc["always_pixels"]
    assert np.isnan(row.auroc)
    assert row.reason
