"""Markdown and LaTeX say what they are given, whatever the names."""

import re

import pytest

from benchmarks.leaderboard import text
from benchmarks.leaderboard.content import gather
from benchmarks.leaderboard.result import read


@pytest.fixture(scope="module")
def content(run):
    return gather(read(run))


def test_every_special_character_of_markdown_is_escaped():
    assert text.markdown_escaped("a|b_c *d* <e>\n`f` [g] & \\") == r"a\|b\_c \*d\* \<e\> \`f\` \[g\] \& \\"


def test_every_special_character_of_latex_is_escaped():
    assert text.latex_escaped("a_b & 5% $ # { } ~ ^ \\\nc") == (
        r"a\_b \& 5\% \$ \# \{ \} \textasciitilde{} \textasciicircum{} \textbackslash{} c"
    )


def test_markdown_has_a_row_of_as_many_cells_for_every_criterion(content):
    lines = [line for line in text.markdown(content).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(content.summary)
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {3 + len(text.COLUMNS)}
    names = [line.split("|")[1].strip(" *").replace("\\", "") for line in lines[2:]]
    assert names == list(content.summary.index)


def test_latex_has_a_row_of_as_many_cells_for_every_criterion(content):
    whole = text.latex(content)
    body = whole[whole.index(r"\midrule") : whole.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == len(content.summary)
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {1 + len(text.COLUMNS)}
    assert r"\emph{trained\_random}" in whole or r"\emph{mean\_rank\_all}" in whole
    assert "nan" not in whole
    assert not re.search(r"(?<!\\)[%#]", whole)


def test_hostile_names_reach_neither_as_markup(make_run, hostile):
    def edit(rows, candidates):
        rows["criterion"] = rows.criterion.replace("rtm", hostile)

    content = gather(read(make_run({"a": ("a", None), "b": ("b", None)}, edit=edit, suite=hostile)))
    assert "<script>" not in text.markdown(content)
    assert r"|\_$%" in text.markdown(content)
    assert not re.search(r"(?<!\\)[$%#]", text.latex(content).replace("$<$", ""))


def test_numbers_have_three_decimals_and_no_value_a_dash():
    assert [text.decimals(value) for value in (0.12345, -0.5, float("nan"))] == ["0.123", "-0.500", text.NONE]
    assert [text.p_value(value) for value in (0.0, 0.0126, float("nan"))] == ["< 0.001", "0.013", text.NONE]
