"""Tables as Markdown."""

import pandas as pd

from benchmarks.leaderboard.markdown import markdown_table


def test_cells_are_text_without_padding():
    table = pd.DataFrame({"name": ["a", "longer name"], "value": ["0.950", "10"]})
    assert markdown_table(table).splitlines() == [
        "| name | value |",
        "|:---|---:|",
        "| a | 0.950 |",
        "| longer name | 10 |",
    ]


def test_a_row_does_not_depend_on_the_others():
    rows = [("a", "1"), ("much longer", "1000000")]
    alone = markdown_table(pd.DataFrame(rows[:1], columns=["x", "y"])).splitlines()
    assert markdown_table(pd.DataFrame(rows, columns=["x", "y"])).splitlines()[2] == alone[2]


def test_an_empty_table_has_its_head():
    assert markdown_table(pd.DataFrame({"x": [], "y": []})).splitlines()[0] == "| x | y |"
