"""The page: self-contained, complete, safe with hostile names, and there whatever a run lacks."""

import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from benchmarks.leaderboard import write
from benchmarks.leaderboard.page import order, share
from benchmarks.leaderboard.text import NONE, signed

SECTIONS = [
    "table",
    "label-resolvable",
    "regret",
    "ranks",
    "tests",
    "gains",
    "tasks",
    "kinds",
    "detectors",
    "published",
    "failures",
    "provenance",
]


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    return write(run, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(written):
    return written.read_text("utf-8")


class Reader(HTMLParser):
    """Collects elements in their order."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))


def section(page, name):
    start = page.index(f'<section id="{name}">')
    return unescape(page[start : page.index("</section>", start)])


def test_the_page_and_its_other_formats_are_written_beside_the_run_or_elsewhere(run, written, page):
    assert sorted(path.name for path in written.parent.iterdir()) == [
        "index.html",
        "leaderboard.md",
        "leaderboard.tex",
        "summary.csv",
    ]
    assert write(run) == run / "index.html"
    assert (run / "index.html").read_text("utf-8") == page
    assert {"leaderboard.csv", "candidates.csv", "settings.json"} < {path.name for path in run.iterdir()}


def test_the_page_loads_nothing(page):
    for tag, attributes in Reader(page).elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", page))
    assert "default-src 'none'" in page


def test_the_sections_come_in_their_order_under_one_title(page):
    elements = Reader(page).elements
    assert [a["id"] for tag, a in elements if tag == "section"] == SECTIONS
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert elements[0] == ("html", {"lang": "en"})


def test_every_table_has_a_caption_and_every_scrolling_box_the_focus(page):
    elements = Reader(page).elements
    for i, (tag, _) in enumerate(elements):
        if tag == "table":
            assert elements[i + 1][0] == "caption"
    boxes = [a for _, a in elements if "scroll" in a.get("class", "").split()]
    assert boxes
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in boxes)
    assert next(a["href"] for tag, a in elements if tag == "a") == "#main"


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)
    assert {a or b for a, b in references} <= set(ids)


def test_rows_are_sorted_by_mean_regret_and_can_be_sorted_by_every_column(page, written):
    summary = pd.read_csv(written.parent / "summary.csv")
    table = page[page.index('<table class="sortable">') : page.index("</table>")]
    cells = [a for tag, a in Reader(table).elements if tag == "th" and a.get("scope") == "row"]
    assert [a["data-order"] for a in cells] == list(summary.criterion)
    assert summary.mean_regret.is_monotonic_increasing
    head = Reader(table[: table.index("</thead>")]).elements
    headings = [a for tag, a in head if tag == "th"]
    assert len([tag for tag, _ in head if tag == "button"]) == len(headings)
    assert sum("aria-sort" in a for a in headings) == 1
    classes = [a["class"] for tag, a in Reader(table).elements if tag == "tr" and "data-rank" in a]
    assert classes == list(summary.kind)


def test_the_verdict_names_the_best_default_random_and_dsv_with_their_numbers(page, written):
    summary = pd.read_csv(written.parent / "summary.csv", index_col="criterion")
    headline = unescape(re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)[1])
    best = next(name for name in summary.index if name in ("dsv", "mc", "rtm", "default"))
    assert f"Over 48 cases, {best} loses least" in headline
    for name in (best, "default", "random", "dsv"):
        assert f"{summary.mean_regret[name]:.3f}" in headline


def test_a_failed_row_and_a_failed_candidate_are_shown_with_their_reasons(page, hostile):
    found = section(page, "failures")
    assert f"ValueError: {hostile}" in found
    assert "a-cutout, seed 0, ratio 5%" in found
    assert "no memory" in found


def test_nothing_breaks_out_of_the_page(make_run, hostile):
    def edit(rows, candidates):
        rows["criterion"] = rows.criterion.replace("rtm", hostile)
        candidates["augmentation"] = candidates.augmentation.replace("cutout", hostile)
        for table in (rows, candidates):
            table["reason"] = hostile

    tasks = {hostile: (hostile, hostile), "other": ("other", "cutpaste")}
    everywhere = {"command": hostile, "suite": hostile, "versions": {hostile: hostile}, hostile: [hostile]}
    page = write(make_run(tasks, edit=edit, **everywhere)).read_text("utf-8")
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") >= 12
    elements = Reader(page).elements
    assert [attributes for tag, attributes in elements if tag == "script"] == [{}]
    # Read back whole: nothing broke out of an attribute.
    assert hostile in [attributes.get("data-order") for _, attributes in elements]


def test_no_value_is_a_dash(page):
    body = re.sub(r"<svg.*?</svg>", "", page[page.index("<body>") :], flags=re.DOTALL)
    assert not re.search(r"\b(nan|NaN|None|inf)\b", body)
    assert f"{NONE}</td>" in body


def test_the_diagonal_is_marked_where_kind_and_augmentation_are_one(page):
    kinds = section(page, "kinds")
    assert kinds.count(", made alike</span>") == 4  # two augmentations in two tables
    assert "bias of self-supervision" in kinds


def decided(rows, candidates):
    """As if half of the labels had chosen: perfectly on a and b, no better than a random pick on c."""
    idle = rows[rows.criterion == "average"]
    half = idle.assign(criterion="half_label_oracle", regret=np.where(idle.task.str.startswith("c"), 0.1, 0.0))
    rows.loc[rows.criterion == "average", "regret"] = 0.1
    for row in half.to_dict("records"):
        rows.loc[rows.index.max() + 1] = row


def test_all_data_sets_and_the_label_resolvable_ones_are_shown_together(make_run):
    folder = make_run(edit=decided)
    page = write(folder).read_text("utf-8")
    found = section(page, "label-resolvable")
    assert "Not label-resolvable: c (labels lose 0.100, the mean candidate 0.100)" in found
    assert "Without c, where labels can't choose either: default 0." in unescape(page)
    assert re.findall(r"<td>(yes|no)</td>", found) == ["yes", "yes", "no"]
    summary = pd.read_csv(folder / "summary.csv", index_col="criterion")
    rows = pd.read_csv(folder / "leaderboard.csv")
    mean = rows[(rows.criterion == "dsv") & ~rows.task.str.startswith("c")].regret.mean()
    assert summary.label_resolvable_mean_regret["dsv"] == pytest.approx(mean)
    assert summary.mean_regret["dsv"] == pytest.approx(rows[rows.criterion == "dsv"].regret.mean())
    assert page.count('<table class="sortable">') == 2
    for name in ("leaderboard.md", "leaderboard.tex"):
        text = (folder / name).read_text("utf-8")
        assert len(re.findall(r"^(?:\| )?default ", text, re.MULTILINE)) == 2
        assert "Not label-resolvable: c " in text


def test_where_all_data_sets_are_label_resolvable_there_is_one_table(make_run):
    tasks = {"a": ("a", None), "b": ("b", None)}
    folder = make_run(tasks, edit=decided)
    page = write(folder).read_text("utf-8")
    assert "All are." in section(page, "label-resolvable")
    assert page.count('<table class="sortable">') == 1
    assert "label_resolvable_cases" not in (folder / "summary.csv").read_text()


def test_a_run_of_before_says_how_to_learn_what_is_label_resolvable(page):
    assert "ssad benchmark evaluate" in section(page, "label-resolvable")


def test_one_task_one_seed_one_ratio_and_no_kinds(make_run):
    folder = make_run({"only": ("only", None)}, seeds=(0,), ratios=(np.nan,))
    page = write(folder).read_text("utf-8")
    assert "Over 1 case," in page
    assert "augmentations can't be compared by kind" in page
    assert "Ranks need at least" in page
    assert "±&nbsp;" not in section(page, "tasks")
    assert pd.read_csv(folder / "summary.csv").mean_regret_low.isna().all()


def test_a_run_that_failed_as_a_whole_is_reported(make_run):
    def edit(rows, candidates):
        rows[["auroc", "regret", "rank", "spearman"]] = np.nan
        rows["reason"] = "no memory"
        candidates["auroc"], candidates["status"], candidates["reason"] = np.nan, "failed", "no memory"

    page = write(make_run(edit=edit)).read_text("utf-8")
    assert "Nothing chose a candidate" in page
    assert "nothing to draw" in page
    assert "no memory" in section(page, "failures")


def test_a_run_without_default_dsv_and_baselines(make_run):
    folder = make_run()
    table = pd.read_csv(folder / "leaderboard.csv")
    table[table.criterion.isin(["mc", "rtm"])].to_csv(folder / "leaderboard.csv", index=False)
    page = write(folder).read_text("utf-8")
    assert "The test needs the row" in section(page, "tests")
    assert "loses least" in page


def test_cells_say_their_sign_order_and_share():
    assert [signed(value) for value in (0.1234, -0.1234, -0.0001, np.nan)] == [
        "+0.123",
        "\N{MINUS SIGN}0.123",
        "+0.000",
        NONE,
    ]
    assert [order(value) for value in (0.25, np.nan)] == ["0.25", ""]
    assert [share(value, (0.5, 1)) for value in (0.4, 0.5, 0.75, 1, np.nan)] == [0, 0, 50, 100, 0]
    assert [share(value, (0, 0.2)) for value in (-0.2, 0.1, 0.0)] == [100, 50, 0]
    assert share(0.0, (0, 0.0)) == 0
