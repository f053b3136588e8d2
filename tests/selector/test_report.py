"""The report: self-contained, complete, safe with hostile names, and the same twice."""

import json
import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

from augmentations import InputError
from selector import criteria, jackknife, load, select_best
from selector.decision import p_values
from selector.evidence import Evidence
from selector.report import figures, write_report
from selector.report.content import decision, hyperparameters, project
from selector.report.leaderboard import leaderboard
from selector.selection import Selection

HOSTILE = "<script>alert(1)</script>\"'&amp;.png"
GRIDS = {
    "cutout": [{"area": (0.02, 0.05)}, {"area": (0.05, 0.1)}],
    "cutpaste": [{"area": (0.02, 0.1)}],
}


def noise(n, channels=1, seed=0):
    return np.random.default_rng(seed).random((n, channels, 32, 32), dtype=np.float32)


def with_table(selection, table, **changes):
    """The same selection, as if its ranking had been this table."""
    table = table.reset_index(drop=True).assign(rank=range(1, len(table) + 1))
    return Selection(selection.zoo, replace(selection.result, table=table, **changes))


def without_values(table, row, status, reason):
    table = table.copy()
    table.loc[row, ["criterion", *criteria.names()]] = math.nan
    table.loc[row, ["status", "reason"]] = status, reason
    return table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    select_best(noise(40), noise(12, seed=1), GRIDS, image_size=32, jobs=1, device="cpu", out=folder)
    # Names of files are the user's, and no file system is needed to have nasty ones.
    kept = json.loads((folder / "run.json").read_text())
    kept["names"]["test"] = [HOSTILE.replace("1", str(i)) for i in range(12)]
    kept["skipped"] = [{"role": "test", "name": HOSTILE, "reason": f"is corrupt: {HOSTILE}"}]
    kept["notes"] = [f"test: {HOSTILE}"]
    (folder / "run.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture(scope="module")
def selection(run):
    return load(run, device="cpu")


@pytest.fixture(scope="module")
def page(selection):
    return write_report(selection, selection.path).read_text("utf-8")


class Reader(HTMLParser):
    """Collects elements and the text in them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.cells, self.stack = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def test_the_page_loads_nothing(page):
    for tag, attributes in Reader(page).elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            if name in attributes:
                assert attributes[name].startswith(("#", "data:image/")), (tag, attributes[name])
        assert tag not in ("link", "iframe", "object", "embed", "base")
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", page))
    assert "default-src 'none'" in page


def test_the_sections_come_in_their_order(page):
    found = [a["id"] for tag, a in Reader(page).elements if tag == "section"]
    wanted = "leaderboard hyperparameters embeddings samples scores gallery sheet training skipped provenance"
    assert found == wanted.split()


def test_the_contact_sheet_shows_test_images_by_falling_score(page, selection):
    sheet = page[page.index('<ol class="sheet">') : page.index("</ol>", page.index('<ol class="sheet">'))]
    shown = [unescape(name) for name in re.findall(r'<span class="clip" title="([^"]*)"', sheet)]
    names = selection.zoo.store.names("test")
    scores = selection.zoo.evidence(selection.best.id)[0].test_scores
    assert shown == [names[i] for i in scores.argsort(descending=True, stable=True).tolist()]


def test_an_outline_surrounds_what_exceeds_the_threshold():
    from selector.report.pictures import OUTLINE, OUTLINED, outlined, plain

    image, score_map = torch.full((1, 32, 32), 0.5), torch.zeros(32, 32)
    score_map[8:16, 8:16] = 1.0
    picture = outlined(image, score_map, 0.5)
    assert picture.shape == (OUTLINED, OUTLINED, 3)
    line = (picture == OUTLINE).all(-1)
    rows, _ = line.nonzero()
    factor = OUTLINED // 32
    assert abs(rows.min() - 8 * factor) <= 2
    assert abs(rows.max() - 16 * factor) <= 2
    assert not line[12 * factor, 12 * factor]
    assert not (outlined(image, score_map, math.inf) == OUTLINE).all(-1).any()
    assert plain(image).shape == (32, 32, 3)


def test_every_candidate_and_every_criterion_is_in_the_table(page, selection):
    table = page[page.index('<table class="sortable"') : page.index("</table>")]
    cells = Reader(table).cells
    for name in criteria.names():
        assert any(cell.startswith(name) for cell in cells), name
    for row in selection.ranking.to_dict("records"):
        assert any(row["candidate"] in cell for cell in cells)
    assert Reader(table).elements.count(("td", {"class": "rank", "data-order": "1"})) == 1
    text = unescape(page)
    assert all(sentence in text for sentence in selection.verdict)


def test_names_of_files_are_escaped(page):
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") >= 12
    scripts = [attributes for tag, attributes in Reader(page).elements if tag == "script"]
    assert scripts == [{}]
    titles = [attributes.get("title", "") for _, attributes in Reader(page).elements]
    assert HOSTILE in titles  # read back whole: nothing broke out of the attribute


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)
    assert {a or b for a, b in references} <= set(ids)


def test_figures_are_described(page):
    drawings = [attributes for tag, attributes in Reader(page).elements if tag == "svg"]
    assert drawings
    assert all(a["role"] == "img" and a["aria-label"] for a in drawings)
    pictures = [attributes for tag, attributes in Reader(page).elements if tag == "img"]
    assert all(a["alt"] for a in pictures)


def test_headings_can_be_sorted_by_keyboard(page):
    table = Reader(page[page.index("<thead>") : page.index("</thead>")])
    headings = [a for tag, a in table.elements if tag == "th"]
    assert len([tag for tag, _ in table.elements if tag == "button"]) == len(headings)
    assert sum("aria-sort" in a for a in headings) == 1


def refuse(constant):
    raise AssertionError(constant)


def test_twins_are_there_and_valid(selection, page, tmp_path):
    written = write_report(selection, tmp_path / "elsewhere")
    assert written == tmp_path / "elsewhere" / "index.html"
    assert written.read_text("utf-8") == page
    assert sorted(p.name for p in written.parent.iterdir()) == ["index.html", "ranking.csv", "report.json"]
    assert (written.parent / "ranking.csv").read_bytes() == (selection.path / "ranking.csv").read_bytes()
    twin = json.loads((written.parent / "report.json").read_text("utf-8"), parse_constant=refuse)
    assert twin["verdict"] == selection.verdict
    assert [row["candidate"] for row in twin["ranking"]] == list(selection.ranking.candidate)
    assert twin["ranking"][0]["rtm"] == selection.ranking.rtm[0]
    assert twin["rule"]["names"] == list(selection.result.rule.names)
    assert twin["skipped"][0]["name"] == HOSTILE
    assert len(twin["decision"]["test"]) == 12
    assert {"versions", "settings", "spread", "margin", "notes"} <= set(twin)


def test_an_html_path_names_the_page(selection, tmp_path):
    written = write_report(selection, tmp_path / "deep" / "answer.html")
    assert written == tmp_path / "deep" / "answer.html"
    assert sorted(p.name for p in written.parent.iterdir()) == ["answer.html", "ranking.csv", "report.json"]


def test_two_writes_are_the_same(run, selection, page):
    write_report(load(run, device="cpu"), selection.path)
    assert (selection.path / "index.html").read_text("utf-8") == page


def test_a_failed_and_a_collapsed_candidate_are_told_with_their_reasons(selection, tmp_path):
    table = without_values(selection.ranking, 2, "failed", f"ValueError: {HOSTILE}")
    table.loc[1, ["status", "reason"]] = "collapsed", "pseudo anomalies are not told from normal images"
    changed = with_table(selection, table, margin=math.nan, margin_spread=math.nan, share_first=math.nan)
    page = write_report(changed, tmp_path).read_text("utf-8")
    assert "<script>alert" not in page
    assert page.count("ValueError") >= 2  # in the leaderboard and under training
    assert page.count("pseudo anomalies are not told from normal images") >= 2
    json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=refuse)
    assert not re.search(r"\bnan\b", page[page.index("<body>") : page.index("<svg")])


def test_all_collapsed(selection, tmp_path):
    table = selection.ranking.assign(status="collapsed", reason="AUROC 0.5")
    page = write_report(with_table(selection, table, margin=math.nan), tmp_path).read_text("utf-8")
    assert "No candidate can be trusted" in page
    assert 'class="verdict doubtful"' in page


def test_one_candidate(selection, tmp_path):
    only = with_table(selection, selection.ranking.iloc[:1], margin=math.nan)
    page = write_report(only, tmp_path).read_text("utf-8")
    assert "no other trained candidate" in page
    assert "No hyperparameter varies" in page


def test_a_first_candidate_without_a_detector(selection, tmp_path, monkeypatch):
    table = without_values(selection.ranking, 0, "failed", "no memory")
    record = {"status": "failed", "reason": "no memory", "losses": []}
    monkeypatch.setattr(selection.zoo.store, "record", lambda candidate_id: record)
    page = write_report(with_table(selection, table), tmp_path).read_text("utf-8")
    assert "has no detector" in page
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["decision"] is None


def test_color_images_few_test_images_and_a_single_rule(tmp_path):
    selection = select_best(
        noise(20, channels=3),
        noise(3, channels=3, seed=1),
        {"cutout": [{"area": (0.02, 0.05)}]},
        criterion="pu_auc",
        image_size=32,
        jobs=1,
        device="cpu",
    )
    page = write_report(selection, tmp_path).read_text("utf-8")
    gallery = page[page.index('<section id="gallery"') : page.index('<section id="training"')]
    assert gallery.count('alt="its heatmap"') == 3
    assert "RGB" in page
    assert leaderboard(selection.result).columns[0].name == "pu_auc"


def test_without_test_images_the_report_says_so(tmp_path):
    selection = select_best(noise(20), augmentations=GRIDS, preset="tiny", jobs=1, device="cpu")
    page = write_report(selection, tmp_path).read_text("utf-8")
    assert page.count("No test images were given") == 2  # gallery and contact sheet
    assert "unlabeled test images" not in page
    assert "<div><dt>Test images</dt><dd>none</dd>" in page
    twin = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=refuse)
    assert twin["decision"]["test"] == []
    assert [column.name for column in leaderboard(selection.result).columns] == ["pseudo_auc", "npd"]
    assert "Not computed" in page


def test_the_best_value_of_a_column_is_bold_only_among_ok_candidates(selection):
    table = selection.ranking.copy()
    table["rtm"], table["dsv"] = [1.0, 3.0, 2.0], [0.5, 0.1, 0.2]  # higher, and lower, is better
    table["status"] = ["ok", "collapsed", "ok"]
    board = leaderboard(with_table(selection, table).result)
    names = [column.name for column in board.columns]
    for name in ("rtm", "dsv"):
        assert [row.cells[names.index(name)].is_best for row in board.rows] == [False, False, True]


@pytest.mark.parametrize("n", [3, 10, 19, 24, 150])
def test_the_threshold_separates_exactly_what_detect_flags(n):
    generator = torch.Generator().manual_seed(n)
    calibration, test = torch.rand(n, generator=generator), 1.5 * torch.rand(400, generator=generator)
    test[:n] = calibration[:400]  # ties with the calibration images as well
    scores = {"validation_scores": calibration, "augmented_scores": test, "test_scores": test}
    found = decision(Evidence(**scores), calibration, [str(i) for i in range(400)])
    flagged = p_values(calibration, test) <= found.rate
    assert torch.equal(test > found.threshold, flagged)
    assert found.n_flagged == int(flagged.sum())
    assert found.expected <= found.rate + 1e-12
    assert found.between[0] < found.expected < found.between[1]
    np.testing.assert_allclose(found.share.sum(), 1)


def test_an_image_that_another_candidate_decides_on_is_counted_and_shows_its_p_value(selection, tmp_path):
    other = selection.ranking.candidate[1]
    one = jackknife.Held(5, jackknife.digest(selection.zoo.store.images["test"][5]), other)
    doubtful = Selection(selection.zoo, selection.result, (one,))
    own = p_values(selection.zoo.store.calibration(other)["scores"], selection.zoo.evidence(other)[0].test_scores)
    page = write_report(doubtful, tmp_path).read_text("utf-8")
    assert "for 1 of them another one" in page
    shown = json.loads((tmp_path / "report.json").read_text("utf-8"))["decision"]["test"]
    assert shown[5]["p_value"] == pytest.approx(own[5].item())


def test_the_interval_of_the_rate_holds_over_calibration_sets():
    generator = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(400):
        calibration = torch.rand(30, generator=generator)  # the true rate is 1 - threshold
        scores = dict.fromkeys(("validation_scores", "augmented_scores", "test_scores"), calibration)
        found = decision(Evidence(**scores), calibration, [""] * 30)
        inside += found.between[0] <= 1 - found.threshold <= found.between[1]
    assert abs(inside / 400 - 0.9) < 0.05


def test_only_hyperparameters_that_vary_are_compared(selection):
    table = hyperparameters(selection.ranking)
    assert set(zip(table.augmentation, table.hyperparameter, strict=True)) == {("cutout", "area")}


def test_a_projection_finds_the_plane_that_the_points_lie_in(selection):
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(2, 16, generator=generator)
    train, augmented, test = (torch.randn(30, 2, generator=generator) @ plane for _ in range(3))
    found = project(selection.best, 1, Evidence(train=train, augmented=augmented, test=test))
    assert sum(found.explained) == pytest.approx(1)
    wanted = torch.pdist(torch.cat([train, augmented, test]))
    shown = torch.pdist(torch.tensor(found.points[["x", "y"]].to_numpy()).float())
    torch.testing.assert_close(shown, wanted, atol=1e-3, rtol=1e-3)


def test_embeddings_that_are_all_the_same_can_be_drawn(selection):
    same = torch.ones(5, 8)
    found = project(selection.best, 1, Evidence(train=same, augmented=same, test=same))
    assert found.explained == (0.0, 0.0)
    assert "<svg" in figures.projection(found)


def test_figures_of_nothing_are_none():
    assert figures.hyperparameter_panels(pd.DataFrame(), "rtm") == []
    assert figures.loss_panels(pd.DataFrame()) == []


def test_a_run_without_a_selection_is_refused(tmp_path):
    with pytest.raises(InputError):
        load(tmp_path)
