"""The verdict and the explanation of an outcome."""

from selector.outcome import Outcome
from selector.verdict.contamination import contamination_of
from selector.verdict.explanation import Explanation, explain
from selector.verdict.sample_size import sample_size_warnings, sampled_pairs
from selector.verdict.untrained import worth_of_training
from selector.verdict.verdict import recommendation, sentences


def answer(outcome: Outcome) -> list[str]:
    """The verdict: which candidate, how sure that is, what is recommended, warnings and advice, in sentences."""
    second = outcome.zoo[outcome.ranking.candidate[1]] if len(outcome.ranking) > 1 else None
    store = outcome.zoo.store
    groups = store.groups("validation")
    n_validation, n_test = (len(store.names(split)) for split in ("validation", "test"))
    n_groups = None if groups is None else len(set(groups))
    few = sample_size_warnings(outcome.result.rule, n_validation, n_test, n_groups)
    warnings = [f"Warning: {warning}." for warning in (*store.run["warnings"], *few, *contamination_of(outcome))]
    return [
        *sentences(outcome.result, outcome.best, second),
        *worth_of_training(outcome.result, {i: outcome.zoo[i] for i in outcome.ranking.candidate}),
        *recommendation(outcome.result, outcome.members),
        *warnings,
        *sampled_pairs({split: len(store.names(split)) for split in ("train", "test")}),
        *store.run.get("advice", []),
    ]


def explanation_of(outcome: Outcome) -> Explanation:
    """What each criterion prefers, how far they agree, and which hyperparameters mattered."""
    store = outcome.zoo.store
    trusted = outcome.ranking.candidate[outcome.ranking.status == "ok"]
    by_candidate = {i: scores for i in trusted if (scores := store.evidence(i)[0].test_scores) is not None}
    return explain(outcome.result, by_candidate, store.run["settings"]["seed"])
