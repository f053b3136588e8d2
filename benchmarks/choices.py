"""What the labels say of a finished selection. Nothing here flows back into one."""

import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.task import Task
from selector import Selection, criteria


def aurocs(selection: Selection, task: Task) -> pd.Series:
    """The test AUROC of every trained candidate, by id, in the order of the ranking."""
    trained = selection.ranking[selection.ranking.status != "failed"].candidate
    scores = {i: selection.zoo.evidence(i)[0].test_scores for i in trained}
    return pd.Series({i: roc_auc_score(task.labels, test_scores) for i, test_scores in scores.items()})


def choices(selection: Selection, task: Task) -> pd.DataFrame:
    """For every criterion, and for the selection's own rule as ``default``: the AUROC of the candidate it puts
    first, among those that did not collapse, and the regret, the best candidate's AUROC minus that."""
    auroc = aurocs(selection, task)
    ranking = selection.ranking.set_index("candidate")
    trusted = ranking[ranking.status == "ok"]
    rows = {"default": ranking.index[0]}
    for name in criteria.names():
        values = trusted[name].dropna()
        if len(values):
            rows[name] = values.idxmax() if criteria.get(name).higher_is_better else values.idxmin()
    chosen = pd.Series(rows)
    table = pd.DataFrame({"candidate": chosen, "auroc": auroc[chosen].to_numpy()})
    return table.assign(regret=auroc.max() - table.auroc)
