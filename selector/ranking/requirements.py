"""What criteria need, against what the evidence of planned candidates will hold: refused before anything is trained."""

from collections.abc import Collection, Iterable, Mapping

import detectors
from augmentations import InputError
from detectors import Kind
from selector.criteria import Criterion
from selector.ranking.comparisons import Comparison
from selector.ranking.rules import Decision, Rule
from selector.zoo.candidates import Candidate

OWN = {"augmented", "augmented_scores"}  # fields of a candidate's own pseudo anomalies
OTHERS = "pseudo_scores"  # those of pseudo anomalies that it did not learn against


def planned_fields(candidate: Candidate, families: Collection[str], has_test: bool) -> frozenset[str]:
    """The fields that a candidate's evidence will hold, if it can be trained.

    Args:
        candidate: planned.
        families: of the augmentations that validation anomalies are made by.
        has_test: whether there are test images.
    """
    training = candidate.training
    kind = _kind(candidate)
    fields = {"train", "validation", "validation_scores"}
    fields |= {"test", "test_scores"} if has_test else set()
    fields |= OWN if kind.has_pseudo_anomalies() else set()
    if kind.scores_embeddings(training.settings) or set(families) - {training.family}:
        fields.add(OTHERS)
    return frozenset(fields)


def require_evidence(
    decision: Decision, candidates: Iterable[Candidate], families: Collection[str], has_test: bool
) -> None:
    """Refuse a decision that some of the candidates could not take part in, whatever their training gives.

    Args:
        decision: of the choice.
        candidates: those that are planned, of one seed.
        families: of the augmentations that validation anomalies are made by.
        has_test: whether there are test images.

    Raises:
        InputError: a criterion that the user named needs what a candidate will lack, or none of those of "auto" is
            possible for all of them.
    """
    planned = [(_kind(candidate).name, planned_fields(candidate, families, has_test)) for candidate in candidates]
    is_mixed = len({kind for kind, _ in planned}) > 1
    for rule in (decision.across_kinds,) if is_mixed else (decision.normal, decision.under_shift):
        for criterion in rule.supported_by([fields for _, fields in planned]).columns:
            lacking = {kind: set(criterion.needs) - fields for kind, fields in planned if set(criterion.needs) - fields}
            if lacking:
                raise _refusal(rule, criterion, lacking, families)


def _refusal(
    rule: Rule, criterion: Comparison | Criterion, lacking: Mapping[str, set[str]], families: Collection[str]
) -> InputError:
    by_auto = "" if rule.is_user_chosen else ', by which "auto" decides without test images,'
    kinds, missing = " and ".join(map(repr, lacking)), set.union(*lacking.values())
    another = "choose another criterion" if rule.is_user_chosen else "give test images"
    remedy = f"leave {kinds} out, or {another}"
    if missing & OWN:
        why = f"needs pseudo anomalies, which detectors of the kind {kinds} do not have"
    elif missing == {OTHERS}:
        only = " and ".join(map(repr, families))
        why = f"needs pseudo anomalies that a candidate was not trained against, and {kinds} would have those of {only}"
        why += " alone"
        remedy = f"add an augmentation of another family, {remedy}"
    else:
        why = f"needs {', '.join(sorted(missing))}, which detectors of the kind {kinds} do not have"
    return InputError(f"criterion {criterion.name!r}{by_auto}", why, remedy)


def _kind(candidate: Candidate) -> type[Kind]:
    return detectors.get(candidate.training.detector)
