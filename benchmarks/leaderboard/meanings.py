"""What the rows and columns of a leaderboard mean, in words."""

from benchmarks.evaluation.ensembles import DRAWS
from selector import consensus, criteria
from selector.ranking.rules import COMPLEMENT, DEFAULT_MEMBERS, DEFAULT_MEMBERS_ACROSS_KINDS

BASELINES = {
    "average": "The mean over all candidates that were trained, also those that a guard strikes out.",
    "random": "A candidate at random, of those that no guard strikes out, as only they can be chosen: their mean.",
    "random_members": "As ensemble, of as many candidates at random that no guard strikes out: the mean over "
    f"{DRAWS} draws, the same for all rules.",
    "always_frozen": "Chooses nothing: the candidate that is a frozen encoder with a Gaussian for each location, over "
    "the mean of its neighbourhood of 3 x 3.",
    "always_frozen_pooled": "Chooses nothing: the candidate that is a frozen encoder with a Gaussian of its pooled "
    "features.",
    "always_pixels": "Chooses nothing: the candidate that is a Gaussian of raw pixels. The row pixels is fitted to all "
    "train images, a candidate to those that are not held out.",
    "trained_random": "One detector whose augmentation and hyperparameters are random for every image of every step.",
    "oracle": "The best candidate, chosen with all labels: no choice can do better.",
    "half_label_oracle": "An oracle with half of the labels: the best candidate on half of the images, evaluated on "
    "the other half against the best there. Where it loses as much as the mean candidate, the best is only the "
    "luckiest.",
    "max_all": "As ensemble, of all candidates that did not collapse: nothing is chosen.",
    "mean_rank_all": "As ensemble_ranks, of all candidates that did not collapse: nothing is chosen.",
    "untrained": "An encoder before its training: what is detected without any pseudo anomaly.",
    "pixels": "The same scorer on raw pixels: no encoder, no training.",
}
STRATEGIES = {
    "default": "What select_best does by default.",
    "ensemble": "What select_best recommends: of candidates of one kind the maximum over the scores of the "
    f"{DEFAULT_MEMBERS} that default ranks highest, of several kinds the mean over those of "
    f"{DEFAULT_MEMBERS_ACROSS_KINDS}, half of which are the best of the others by {COMPLEMENT}, each normalised by its "
    "scores of held-out normal images.",
    "ensemble_ranks": "The mean rank of a test image over these candidates; it depends on all test images.",
    "borda": "The candidate of the best mean rank over a few criteria of different sorts.",
}
COLUMNS = {
    "kind": "A criterion looks at one candidate, a consensus at the scores of all; a strategy combines or replaces "
    "these; a baseline is a reference.",
    "mean regret": "The AUROC of the best candidate minus that of the chosen one, averaged over cases.",
    "median regret": "The regret that half of the cases stay below.",
    "mean AUROC": "The chance that the chosen candidate scores an anomaly above a normal image, averaged over cases.",
    "average rank": "The place among all that choose a candidate, by regret, 1 = best, averaged over what the tests "
    "take as independent.",
    "place in zoo": "The place of the chosen candidate among all candidates by AUROC, 1 = best, averaged over cases.",
    "worse than mean": "The share of cases in which the chosen candidate's AUROC is more than .01 below random, "
    "the mean of the candidates that can be chosen.",
    "Spearman": "The rank correlation of the criterion with AUROC over the candidates, averaged over cases.",
    "seed spread": "The standard deviation of the regret over seeds of one task and anomaly ratio, averaged.",
    "p to default": "Wilcoxon's signed-rank test of the regret against that of default, corrected by Holm for the "
    "number of rows.",
}


def kind(name: str) -> str:
    """What a row is: criterion, consensus, baseline or strategy."""
    if name in criteria.names():
        return "criterion"
    if name in consensus.names():
        return "consensus"
    return "baseline" if name in BASELINES else "strategy"


def meaning(name: str) -> tuple[str, str]:
    """What a row does, and its source; both "" for a name that is not known here."""
    if kind(name) in ("criterion", "consensus"):
        known = criteria.get(name) if name in criteria.names() else consensus.get(name)
        return known.description, known.source
    return BASELINES.get(name) or STRATEGIES.get(name, ""), ""
