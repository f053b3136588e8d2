"""The report: self-contained, complete, safe with hostile names, and the same twice."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch

from augmentations import InputError
from detectors.checksums import with_checksum
from selector import consensus, criteria, load, select_best
from selector.detection.conformal import p_values
from selector.detection.detections import NO_PLACE
from selector.evidence.evidence import Evidence
from selector.inputs.digests import image_digest
from selector.ranking import cross_fit
from selector.ranking.rules import DEFAULT_MEMBERS
from selector.report import content, figures, write_report
from selector.report import page as report_page
from selector.report.content import hyperparameters, project, seriated
from selector.report.leaderboard import leaderboard
from selector.report.page import environment, source_hash
from selector.report.score_threshold import apply_threshold
from selector.selection import Selection
from selector.verdict.verdict import number

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
    result = replace(selection.result, table=table, **changes)
    return Selection(selection.zoo, result, result.members(DEFAULT_MEMBERS), (), selection.correction)


def without_values(table, row, status, reason):
    table = table.copy()
    table.loc[row, ["criterion", *criteria.names()]] = math.nan
    table.loc[row, ["status", "reason"]] = status, reason
    return table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    select_best(noise(40), noise(12, seed=1), GRIDS, preset="tiny", jobs=1, device="cpu", out=folder)
    # Names of files are the user's, and no file system is needed to have nasty ones.
    described = json.loads((folder / "run.json").read_text())
    described["names"]["test"] = [HOSTILE.replace("1", str(i)) for i in range(12)]
    described["skipped"] = [{"role": "test", "name": HOSTILE, "reason": f"is corrupt: {HOSTILE}"}]
    described["notes"] = [f"test: {HOSTILE}"]
    (folder / "run.json").write_text(json.dumps(with_checksum(described)))
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
    wanted = "leaderboard why hyperparameters embeddings samples scores gallery sheet training skipped provenance"
    assert found == wanted.split()


def test_it_says_that_train_images_are_not_checked(page):
    assert "an anomaly among those images goes unnoticed" in page[page.index('<section id="provenance">') :]


def test_the_contact_sheet_shows_test_images_by_falling_score(page, selection):
    sheet = page[page.index('<ol class="sheet">') : page.index("</ol>", page.index('<ol class="sheet">'))]
    shown = [unescape(name) for name in re.findall(r'<span class="clip" title="([^"]*)"', sheet)]
    names = selection.zoo.store.names("test")
    scores = selection.zoo.scores([member.id for member in selection.members]).test_scores
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


def test_pictures_have_the_aspect_of_the_original_and_levels_that_can_be_seen():
    from selector.report.pictures import for_show

    dark = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0)) / 16
    strip = for_show(dark, (40, 800))
    assert strip.shape == (1, 11, 224)
    assert strip.max() > 0.8
    assert for_show(torch.rand(1, 32, 32), (48, 48)).shape == (1, 48, 48)


def test_the_run_keeps_the_sizes_that_images_were_read_at(selection, page):
    store = selection.zoo.store
    assert store.run["sizes"]["test"] == [[32, 32]] * 12
    assert content.original_sizes(store, "train") == [(32, 32)] * len(store.names("train"))


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


def section(page, name):
    start = page.index(f'<section id="{name}"')
    return page[start : page.index("</section>", start)]


def test_why_shows_what_every_criterion_and_consensus_prefers_and_how_far_they_agree(page, selection):
    text = section(page, "why").replace("<wbr>", "")
    found = dict(re.findall(r"<li>(?:<b>)?(\w+)(?:</b>)? <span class=\"spread\">([^<]*)</span>", text))
    preferred = selection.why().preferred
    assert set(found) == {*criteria.names(), *consensus.names()} == set(preferred.criterion)
    assert found == {row["criterion"]: number(row["value"]) for row in preferred.to_dict("records")}
    assert unescape(text).count(selection.why().summary) == 1
    drawing = text[text.index("<svg") : text.index("</svg>")]
    for name in found:
        assert f">{name}</text>" in drawing
    shown = np.tril(selection.why().agreement.notna().to_numpy(), -1).sum()
    labels = [
        label for label in re.findall(r">([^<]*)</text>", drawing) if re.fullmatch(r"[\N{MINUS SIGN}.\d]+", label)
    ]
    assert len(labels) == shown


def test_names_in_the_explanation_are_escaped(selection, tmp_path, monkeypatch):
    why = selection.why()
    hostile = {why.deciding: HOSTILE}
    shares = pd.DataFrame([(HOSTILE, HOSTILE, 1.0)], columns=["augmentation", "hyperparameter", "importance"])
    changed = replace(
        why,
        preferred=why.preferred.assign(description=HOSTILE).replace({"criterion": hostile}),
        agreement=why.agreement.rename(hostile, axis=0).rename(hostile, axis=1),
        importances=shares,
        deciding=HOSTILE,
        absent={HOSTILE: HOSTILE},
    )
    monkeypatch.setattr(content, "explanation_of", lambda outcome: changed)
    page = write_report(selection, tmp_path).read_text("utf-8")
    assert "<script>alert" not in page
    assert section(page, "why").count("&lt;script&gt;alert") >= 8
    json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=refuse)


def test_importances_are_shown_with_their_bars(selection, tmp_path, monkeypatch):
    rows = [("all", "augmentation", 0.75), ("all", "hyperparameters", 0.25), ("cutout", "area", 0.9)]
    shares = pd.DataFrame(rows, columns=["augmentation", "hyperparameter", "importance"])
    changed = replace(selection.why(), importances=shares)
    monkeypatch.setattr(content, "explanation_of", lambda outcome: changed)
    text = section(write_report(selection, tmp_path).read_text("utf-8"), "why")
    assert re.findall(r"<caption>(.*?)</caption>", text) == ["Importance of augmentations", "Importance within cutout"]
    assert re.findall(r"</span> ([\d.]+)%</td>", text) == ["75", "25", "90"]
    widths = [float(width) for width in re.findall(r'class="bar" style="width: ([\d.]+)%"', text)]
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.01)
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["why"]["importances"] == shares.to_dict("records")


def test_what_agrees_is_side_by_side_and_every_pair_is_drawn_once():
    names = [f"{kind}_{i}" for i in range(3) for kind in ("a", "b", "c")]
    agreed = pd.DataFrame(
        [[1.0 if i == j else 0.8 if i[0] == j[0] else -0.3 for j in names] for i in names], names, names
    )
    ordered = seriated(agreed)
    assert "".join(name[0] for name in ordered) in {"".join(k * 3 for k in p) for p in permutations("abc")}
    pd.testing.assert_frame_equal(ordered.loc[names, names], agreed)
    drawing, width = figures.agreement(ordered, ["a_0"])
    assert drawing.count(">.80</text>") == 9
    assert drawing.count(">\N{MINUS SIGN}.30</text>") == 27
    assert f'viewBox="0 0 {width} {width}"' in drawing
    ordered.iloc[0, 1] = ordered.iloc[1, 0] = math.nan
    assert figures.agreement(ordered, [])[0].count(".80</text>") == 8
    assert figures.agreement(ordered.iloc[:1, :1], []) is None
    assert figures.agreement(pd.DataFrame(dtype=float), []) is None


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


def test_json_and_csv_are_there_and_valid(selection, page, tmp_path):
    written = write_report(selection, tmp_path / "elsewhere")
    assert written == tmp_path / "elsewhere" / "index.html"
    assert written.read_text("utf-8") == page
    assert sorted(p.name for p in written.parent.iterdir()) == ["index.html", "ranking.csv", "report.json"]
    assert (written.parent / "ranking.csv").read_bytes() == (selection.path / "ranking.csv").read_bytes()
    report = json.loads((written.parent / "report.json").read_text("utf-8"), parse_constant=refuse)
    assert report["verdict"] == selection.verdict
    assert [row["candidate"] for row in report["ranking"]] == list(selection.ranking.candidate)
    assert report["ranking"][0]["rtm"] == selection.ranking.rtm[0]
    assert report["rule"]["names"] == list(selection.result.rule.names)
    assert report["skipped"][0]["name"] == HOSTILE
    assert len(report["decision"]["test"]) == 12
    assert report["why"]["summary"] == selection.why().summary
    assert report["why"]["agreement"]["rtm"]["dsv"] == report["why"]["agreement"]["dsv"]["rtm"]
    assert len(report["why"]["preferred"]) == len(selection.why().preferred)
    assert {"versions", "settings", "spread", "margin", "notes"} <= set(report)


def test_an_anomaly_without_a_place_is_said_by_the_threshold_that_the_pictures_are_drawn_with(selection):
    chosen = content.gather(selection).chosen
    shown = [*chosen.highest, *chosen.lowest]
    assert any(sample.is_anomaly for sample in shown)
    for sample in shown:
        has_no_place = sample.is_anomaly and not bool((sample.score_map > chosen.map_threshold).any())
        assert sample.remark == (NO_PLACE if has_no_place else "")
    rows = np.arange(3)
    everywhere, nowhere = (content._samples(selection, chosen.decision, above, rows) for above in (-math.inf, math.inf))
    assert not any(sample.remark for sample in everywhere)
    assert [sample.remark for sample in nowhere] == [NO_PLACE if sample.is_anomaly else "" for sample in nowhere]


def test_an_html_path_names_the_page(selection, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "render", lambda content: "")
    written = write_report(selection, tmp_path / "deep" / "answer.html")
    assert written == tmp_path / "deep" / "answer.html"
    assert sorted(p.name for p in written.parent.iterdir()) == ["answer.html", "ranking.csv", "report.json"]


def test_two_writes_are_the_same(run, selection, page):
    write_report(load(run, device="cpu"), selection.path)
    assert (selection.path / "index.html").read_text("utf-8") == page


def test_a_failed_and_a_collapsed_candidate_are_listed_with_their_reasons(selection, tmp_path):
    table = without_values(selection.ranking, 2, "failed", f"ValueError: {HOSTILE}")
    table.loc[1, ["status", "reason"]] = "collapsed", "pseudo anomalies are not distinguished from normal images"
    changed = with_table(selection, table, margin=math.nan, margin_spread=math.nan, share_first=math.nan)
    page = write_report(changed, tmp_path).read_text("utf-8")
    assert "<script>alert" not in page
    assert page.count("ValueError") >= 2  # in the leaderboard and under training
    assert page.count("pseudo anomalies are not distinguished from normal images") >= 2
    json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=refuse)
    assert not re.search(r"\bnan\b", page[page.index("<body>") : page.index("<svg")])


def test_all_collapsed(selection, tmp_path):
    table = selection.ranking.assign(status="collapsed", reason="AUROC 0.5")
    page = write_report(with_table(selection, table, margin=math.nan), tmp_path).read_text("utf-8")
    assert "No candidate can be trusted" in page
    assert "no candidate has status ok" in section(page, "why")
    assert "<svg" not in section(page, "why")
    assert 'class="verdict doubtful"' in page


def test_one_candidate(selection, tmp_path):
    only = with_table(selection, selection.ranking.iloc[:1], margin=math.nan)
    page = write_report(only, tmp_path).read_text("utf-8")
    assert "no other trained candidate" in page
    assert "needs two candidates with status ok" in section(page, "why")
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
        preset="tiny",
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
    report = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=refuse)
    assert report["decision"]["test"] == []
    assert [column.name for column in leaderboard(selection.result).columns] == ["pseudo_auc", "npd"]
    assert "Not computed" in page
    assert set(selection.why().preferred.criterion) <= {"pseudo_auc", "npd"}
    assert "needs test images" in section(page, "why")


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
    found = apply_threshold(Evidence(**scores), calibration, [str(i) for i in range(400)])
    flagged = p_values(calibration, test) <= found.rate
    assert torch.equal(test > found.threshold, flagged)
    assert found.n_flagged == int(flagged.sum())
    assert found.expected <= found.rate + 1e-12
    assert found.between[0] < found.expected < found.between[1]
    np.testing.assert_allclose(found.share.sum(), 1)


def test_an_image_that_others_decide_on_is_counted_and_shows_its_p_value(selection, tmp_path):
    one = cross_fit.CrossFitPValue(5, image_digest(selection.zoo.store.images["test"][5]), 0.125)
    members = [member.id for member in selection.members]
    page = write_report(
        Selection(selection.zoo, selection.result, members, (one,), selection.correction), tmp_path
    ).read_text("utf-8")
    assert "other candidates for 1 of them" in page
    shown = json.loads((tmp_path / "report.json").read_text("utf-8"))["decision"]["test"]
    assert shown[5]["p_value"] == 0.125


def test_the_interval_of_the_rate_holds_over_calibration_sets():
    generator = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(400):
        calibration = torch.rand(30, generator=generator)  # the true rate is 1 - threshold
        scores = dict.fromkeys(("validation_scores", "augmented_scores", "test_scores"), calibration)
        found = apply_threshold(Evidence(**scores), calibration, [""] * 30)
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


KIND = '''
from dataclasses import dataclass
from torch import nn
from detectors import Kind


@dataclass(frozen=True)
class Settings:
    image_size: int
    side: int = 8


class Average(Kind):
    """A scorer on the means of squares."""

    name = "average"
    Settings = Settings
    uses_augmentation = False

    def build_encoder(self, channels):
        return nn.Sequential(nn.AvgPool2d(self.settings.side), nn.PixelUnshuffle(2))
'''


@pytest.mark.parametrize("n_test", [0, 12])
def test_kinds_that_learn_against_nothing_are_shown_without_augmentations(tmp_path, monkeypatch, n_test):
    """No augmentation, no losses and no pseudo anomalies: neither theirs nor, in evidence, any but the run's."""
    (tmp_path / "average_kind.py").write_text(KIND)
    monkeypatch.syspath_prepend(tmp_path)
    kinds = {"average_kind:Average": [{"side": 4}, {"side": 8}]}
    test = noise(n_test, seed=1) if n_test else None
    out = tmp_path / "run"
    made = select_best(noise(40), test, GRIDS, kinds, preset="tiny", jobs=1, device="cpu", out=out)
    selection = load(out, device="cpu")
    pd.testing.assert_frame_equal(selection.ranking, made.ranking)
    page = write_report(selection, tmp_path / "report").read_text("utf-8")
    table = selection.ranking
    assert len(table) == 2
    assert set(table.augmentation) == {"none"}
    assert set(table.status) == {"ok"}
    assert f"<title>Selection report: {table.detector[0]}</title>" in page
    assert table.detector.str.fullmatch(r"average_kind:Average \(side [48]\)").all()
    assert section(page, "leaderboard").count('<span class="clip" title="none">none</span>') == len(table)
    assert "learns from normal images alone" in section(page, "samples")
    assert "<img" not in section(page, "samples")
    assert "no losses to show" in section(page, "training")
    assert ">augmented</text>" not in section(page, "embeddings")
    json.loads((tmp_path / "report" / "report.json").read_text("utf-8"), parse_constant=refuse)


def test_losses_of_several_kinds_have_a_panel_each_and_may_be_negative():
    curves = {("classifier", "cutout"): [0.7, 0.1], ("autoencoder", "autoencoder"): [-1.0, -3.0]}
    rows = [
        {"detector": detector, "group": group, "rank": rank, "status": "ok", "step": step, "loss": loss}
        for rank, ((detector, group), losses) in enumerate(curves.items(), 1)
        for step, loss in enumerate(losses, 1)
    ]
    panels = figures.loss_panels(pd.DataFrame(rows))
    assert [group for group, _ in panels] == ["cutout", "autoencoder"]
    assert "between \N{MINUS SIGN}3 and \N{MINUS SIGN}3" in panels[1][1]


@pytest.mark.parametrize(
    ("low", "high", "is_logarithmic"), [(-5.0, 5.0, False), (-50.0, -1.0, False), (0.0, 9.0, False), (0.1, 9.0, True)]
)
def test_only_positive_scores_over_more_than_a_decade_have_a_logarithmic_axis(low, high, is_logarithmic):
    scores = torch.linspace(low, high, 40)
    found = apply_threshold(Evidence(validation_scores=scores, test_scores=scores), scores, [""] * 40)
    assert found.is_logarithmic == is_logarithmic
    assert ("(log scale)" in figures.score_histogram(found)) == is_logarithmic
    np.testing.assert_allclose(found.share.sum(), 1)


def test_only_the_pages_own_script_is_allowed():
    """By its hash; and nothing is loaded from anywhere."""
    page = (
        environment("selector.report").from_string("{% extends 'base.html.jinja' %}").render(style="", script="let a;")
    )
    assert f"script-src '{source_hash('let a;')}'" in page
    assert "<script>let a;</script>" in page
    assert source_hash("let a;") == "sha256-" + base64.b64encode(hashlib.sha256(b"let a;").digest()).decode()
    assert "default-src 'none'" in page
