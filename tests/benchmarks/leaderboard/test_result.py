"""What is no finished run is refused, by the name of the file."""

import json

import numpy as np
import pandas as pd
import pytest

from augmentations import InputError
from benchmarks.leaderboard import write
from benchmarks.leaderboard.result import read

FILES = ("leaderboard.csv", "candidates.csv", "settings.json")


def refusal(folder):
    with pytest.raises(InputError) as caught:
        write(folder)
    assert not (folder / "index.html").exists()
    return str(caught.value)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(make_run, file):
    folder = make_run()
    (folder / file).unlink()
    assert f"{file}: does not exist" in refusal(folder)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00nonsense", b"a,b\n1,2\n", b"[1, 2]", b"{}"])
def test_a_foreign_file_is_named(make_run, file, content):
    folder = make_run()
    (folder / file).write_bytes(content)
    assert file in refusal(folder)


def test_a_text_where_a_number_belongs_is_named(make_run):
    def edit(rows, candidates):
        rows["regret"] = rows.regret.astype(object)
        rows.loc[3, "regret"] = "much"

    message = refusal(make_run(edit=edit))
    assert "leaderboard.csv" in message
    assert "regret" in message


def test_a_task_that_the_settings_lack_is_named(make_run):
    folder = make_run()
    settings = json.loads((folder / "settings.json").read_text())
    del settings["tasks"]["a-wild"]
    (folder / "settings.json").write_text(json.dumps(settings))
    assert "a-wild" in refusal(folder)


def test_the_same_row_twice_is_refused(make_run):
    folder = make_run()
    table = pd.read_csv(folder / "leaderboard.csv")
    pd.concat([table, table.iloc[[4]]]).to_csv(folder / "leaderboard.csv", index=False)
    assert f"{table.criterion[4]} twice" in refusal(folder)


def test_an_empty_table_is_refused(make_run):
    folder = make_run()
    pd.read_csv(folder / "leaderboard.csv").iloc[:0].to_csv(folder / "leaderboard.csv", index=False)
    assert "has no rows" in refusal(folder)


def test_tables_are_read_as_they_were_written(make_run):
    folder = make_run(ratios=(0.2, 0.025, np.nan))
    result = read(folder)
    assert result.ratios == ["2.5%", "20%", "as is"]
    written = pd.read_csv(folder / "leaderboard.csv")
    np.testing.assert_allclose(result.rows.auroc, written.auroc)
    assert result.rows.reason.eq("").all()
    assert set(result.rows.data_set) == {"a", "b", "c"}
    assert set(result.candidates.kind) == {"cutout", "cutpaste", "scratch", ""}
