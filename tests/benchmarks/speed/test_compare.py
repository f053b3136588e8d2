"""Speed: the references do what they are compared with, and the measuring measures."""

import math
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from augmentations import InputError, make
from augmentations.randomness import generator
from benchmarks.speed import cases, command, compare, kinds
from benchmarks.speed import naive as references
from benchmarks.speed.cases import photographs, pictures_of
from benchmarks.speed.compare import Case
from benchmarks.speed.naive import PerImageAugmentation
from benchmarks.speed.selection_cost import Size, SyntheticEvidence, selection_cost
from detectors import Classifier, get_preset
from detectors.base import as_float
from detectors.encoders import pool
from detectors.frozen_levels import FrozenKind
from selector import Evidence, consensus, criteria
from selector.execution.threads import in_threads

PX = 32
GRID = {"cutout": [{"area": (0.02, 0.1)}, {"area": (0.03, 0.1)}]}


@pytest.fixture
def images():
    """(6,3,32,32) uint8 images without black pixels."""
    return photographs(6, PX).clamp(min=1)


@pytest.fixture
def no_memory(monkeypatch):
    """Nothing is started to measure memory in."""
    monkeypatch.setattr(compare, "megabytes_of", None)
    for module in (compare, cases):
        monkeypatch.setattr(module, "in_fresh_process", lambda task, *arguments: task(*arguments) if task else 0.0)


def tensors(pictures):
    return torch.stack([references.to_tensor(picture) for picture in pictures])


def patches(parameters, x="x", y="y"):
    """Left and top, and width and height, of whole-pixel patches."""
    wide, high = parameters["width"], parameters["height"]
    corners = torch.stack([parameters[x] - wide / 2, parameters[y] - high / 2], 1).int().tolist()
    return list(map(tuple, corners)), list(map(tuple, torch.stack([wide, high], 1).int().tolist()))


def test_the_pil_cutout_of_a_patch_is_ours(images):
    ours = make("cutout")
    drawn = ours.sample(len(images), (PX, PX), generator(0))
    cut = map(references.cut_out, pictures_of(images), *patches(drawn))
    assert torch.equal(tensors(cut), ours.apply(as_float(images), drawn))


def test_the_pil_cutpaste_of_a_patch_is_ours_where_colours_stay(images):
    ours = make("cutpaste", jitter=0)
    drawn = ours.sample(len(images), (PX, PX), generator(0))
    corners, sizes = patches(drawn)
    sources, _ = patches(drawn, "source_x", "source_y")
    keep = [references.unchanged] * len(images)
    pasted = map(references.cut_paste, pictures_of(images), sources, corners, sizes, keep)
    pasted = tensors(pasted)
    torch.testing.assert_close(pasted, ours.apply(as_float(images), drawn), atol=1e-6, rtol=0)
    assert not torch.equal(pasted, as_float(images))


def test_patches_of_the_reference_are_drawn_as_ours():
    (picture,) = pictures_of(photographs(1, 256))
    reference = PerImageAugmentation("cutout", cases.AREA)
    sizes = torch.tensor([reference.draw_size(picture) for _ in range(2000)]).double()
    drawn = make("cutout", area=cases.AREA, aspect=references.ASPECT).sample(2000, (256, 256), generator(0))
    ours = torch.stack([drawn["width"], drawn["height"]], 1).double()
    for of in (lambda s: s.prod(1) / 256**2, lambda s: (s[:, 0] / s[:, 1]).log()):
        spread = float(of(ours).std())
        assert float(of(sizes).mean()) == pytest.approx(float(of(ours).mean()), abs=0.1 * spread)
        assert float(of(sizes).std()) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize("name", ["cutout", "cutpaste"])
def test_the_reference_changes_one_patch_another_each_time(images, name):
    (picture,) = pictures_of(images[:1])
    augment = PerImageAugmentation(name, cases.AREA, jitter=0.1)
    first, second = (as_float(images[:1]) != tensors([augment(picture)]) for _ in range(2))
    for changed in (first, second):
        rows, columns = changed[0].any(0).nonzero().T
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        # Sides are whole pixels, so that areas are as requested but for rounding.
        assert 0.01 < box / PX**2 < 0.18
    assert not torch.equal(first, second)


def test_the_plain_criteria_are_ours():
    x, y, z = cases.embeddings(40, width=24)
    x, y, z = x[:30], y[:35], (z + x) / 2
    ours = criteria.evaluate(Evidence(train=x, augmented=y, test=z), cases.EMBEDDING_CRITERIA)
    plain = references.plain_criteria(x, y, z)
    assert len(ours) == 10
    assert plain == pytest.approx(ours, rel=1e-4, abs=1e-6)


def test_scipy_pair_by_pair_is_our_model_centrality():
    scores = np.round(cases.score_matrix(30, 6), 1)  # with ties
    np.testing.assert_allclose(references.pair_by_pair(scores), consensus.evaluate(scores, ["mc"])["mc"], atol=1e-10)


def test_images_one_at_a_time_and_the_encoder_alone_are_our_detection():
    images = as_float(photographs(12, PX))
    detector = (
        Classifier(Classifier.settings_for(get_preset("tiny")), make("cutout"), device="cpu")
        .random_init(images)
        .fit_scorer(images)
    )
    for plain, ours in zip(references.one_at_a_time(detector, images), detector.score_and_map(images), strict=True):
        torch.testing.assert_close(plain, ours, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pool(references.forward(detector, images)), detector.embed(images))


def test_the_plain_candidate_is_trained_like_ours_and_detects(stripes, scratched, tiny):
    normal, odd = ((255 * images(32).expand(-1, 3, -1, -1)).byte() for images in (stripes, scratched))
    settings, seen = Classifier.settings_for(get_preset(tiny)), []
    augment = PerImageAugmentation("cutout", cases.AREA)
    train = pictures_of(normal)

    def counted(picture):
        seen.append(picture)
        return augment(picture)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, scores = references.plain_candidate(train, train + pictures_of(odd), counted, settings)
    ours = Classifier(settings, make("cutout"), device="cpu").train(normal)
    shapes, ours_shapes = ({k: v.shape for k, v in e.state_dict().items()} for e in (encoder, ours.encoder))
    assert shapes == ours_shapes
    steps = {int(v) for e in (encoder, ours.encoder) for k, v in e.state_dict().items() if "num_batches" in k}
    assert steps == {settings.steps}
    assert len(seen) == settings.steps * settings.batch + len(train)
    assert scores[32:].mean() > scores[:32].mean()


def test_a_candidate_shares_features_and_a_classifier_is_the_usual_one(monkeypatch):
    trained, passes = [], []
    make, seen = kinds.train_and_evaluate, FrozenKind._computed

    def noted(candidates, *rest, **options):
        trained.append(candidates[0].training.detector)
        passes.clear()
        return make(candidates, *rest, **options)

    def computed(self, images, depth=None):
        passes.append(len(images))
        return seen(self, images, depth)

    monkeypatch.setattr(kinds, "train_and_evaluate", noted)
    monkeypatch.setattr(FrozenKind, "_computed", computed)
    case = kinds.candidate_case("frozen", "", *cases.TINY.candidate)
    case.ours()
    assert not passes, "features of known images are there already"
    case.usual()
    assert trained == ["frozen", "frozen", "classifier"]


def test_a_contrastive_training_is_beside_as_many_passes_of_its_encoder(monkeypatch):
    batches = []
    encoder = nn.Conv2d(3, 2, 1)
    encoder.register_forward_hook(lambda module, inputs, output: batches.append(inputs[0].shape))
    monkeypatch.setattr(kinds.Contrastive, "build_encoder", lambda self, channels: encoder)
    px, _, steps = cases.TINY.contrastive[0]
    batch = kinds.Contrastive.settings_for(get_preset("quick")).batch
    monkeypatch.setattr(kinds.Contrastive, "build_head", lambda self: nn.Linear(2, 4))
    case = kinds.contrastive_case(*cases.TINY.contrastive[0])
    assert len(case.ours()) == steps
    assert [shape[0] for shape in batches] == [2 * batch] * steps
    batches.clear()
    case.usual()
    assert batches == [(2 * batch, 3, px, px)] * steps
    assert encoder.weight.grad is not None


def test_ours_and_usual_run_in_turn_and_ratios_are_of_pairs(monkeypatch, no_memory):
    ran = []
    seconds = {"ours": iter([1.0, 2.0, 1.0]), "usual": iter([1.0, 3.0, 4.0])}

    def timed(run):
        run()
        return next(seconds[ran[-1]])

    monkeypatch.setattr(compare, "seconds_of", timed)
    case = Case(lambda: ran.append("ours"), lambda: ran.append("usual"), scale=2.0)
    row = compare.compare("part", "setting", lambda: case, lambda: case, pairs=3)
    assert ran == ["ours", "usual"] * 4  # the first pair warms up
    assert (row.ours_seconds, row.usual_seconds) == (1.0, 6.0)
    assert (row.ratio, row.ratio_low, row.ratio_high) == (3.0, 2.0, 8.0)


@pytest.mark.parametrize("power", [1, 2])
def test_the_exponent_is_that_of_the_cost(monkeypatch, power):
    monkeypatch.setattr(compare, "seconds_of", lambda run: 0.3 * run() ** power)
    growth = compare.grow("", "", (1, 2, 4), lambda size: Case(lambda: size, lambda: None), repeats=1)
    assert growth.exponent == pytest.approx(power)


@pytest.mark.slow
def test_memory_is_what_one_side_allocates():
    rows = 250
    case, warm = partial(cases.criteria_case, rows), partial(cases.criteria_case, 20)
    ours, usual = (compare.in_fresh_process(compare.megabytes_of, case, warm, side) for side in compare.SIDES)
    expected = 2 * rows * rows * cases.WIDTH * 4 / 1e6  # of train and augmented against test rows, in float32
    # Importing and making the inputs peaked too, and hides a little of the rise.
    assert 0.8 * expected < usual < 1.2 * expected + 20
    assert ours < 40


def checked(path, parts):
    rows = pd.read_csv(path)
    assert set(rows.part) == set(parts)
    times = rows[["ours_seconds", "usual_seconds", "ratio", "ratio_low", "ratio_high"]]
    assert ((times > 0) & np.isfinite(times)).all(axis=None)
    assert (rows.ratio_low <= rows.ratio).all()
    assert (rows.ratio <= rows.ratio_high).all()
    return rows


def test_the_table_has_every_row(tmp_path, capsys, no_memory):
    parts = ["augmentations", "criteria", "detection", "consensus"]
    command.speed([*parts, "selection"], repeat=2, out=tmp_path, tiny=True)
    rows = checked(tmp_path / "speed.csv", parts)
    assert len(rows) == 2 + 1 + 2 + 1
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2 + len(rows) + 4
    (cost,) = pd.read_csv(tmp_path / "selection.csv").to_dict("records")
    assert f"| {cost['setting']} |" in lines[-1]
    of = ("criteria_seconds", "ranking_seconds", "consensus_seconds", "cpu_seconds", "peak_mb")
    assert min(cost[name] for name in of) > 0
    assert all(
        f"| {row.part} | {row.setting} |" in line for row, line in zip(rows.itertuples(), lines[2:], strict=False)
    )


@pytest.mark.slow
def test_everything_runs_and_knows_its_memory(tmp_path, capsys):
    command.speed(None, repeat=1, out=tmp_path, tiny=True)
    rows = checked(tmp_path / "speed.csv", set(command.PARTS) - {"selection", "scaling"})
    assert (rows[["ours_mb", "usual_mb"]] >= 0).all(axis=None)
    # Two workers, each with the libraries in memory.
    assert rows.set_index("part").ours_mb["zoo"] > 200
    growth = pd.read_csv(tmp_path / "scaling.csv")
    assert list(growth.of) == ["candidates", "images", "px per side", "rows of each set"]
    assert all(map(math.isfinite, growth.exponent))
    printed = capsys.readouterr().out
    assert all(f"| {row.what} | {row.of} |" in printed for row in growth.itertuples())


def test_evidence_is_made_alike_each_time_and_as_large_as_said():
    candidates = cases.Plan.of(GRID, ["classifier"], ["gaussian"], get_preset("quick")).candidates(0)
    made = SyntheticEvidence(candidates, Size(2, 14, 9, 5))
    first, second = made
    draws, again = made[first], made[first]
    assert len(draws) == 5
    shapes = {name: tuple(rows.shape) for name, rows in draws[0].items()}
    assert [shapes[name] for name in ("train", "augmented", "test", "validation")] == [(14, 5), (14, 5), (9, 5), (3, 5)]
    assert all(torch.equal(rows, dict(again[0].items())[name]) for name, rows in draws[0].items())
    assert not torch.equal(draws[0].augmented, draws[1].augmented)
    other = dict(made[second][0].items())
    assert not any(torch.equal(rows, other[name]) for name, rows in draws[0].items())


def seconds_of_a_product(n_products):
    """Processor seconds of a product of 2,000 rows of 512 with themselves, as many at a time as candidates are."""
    torch.set_num_threads(1)
    rows = torch.randn(2000, 512, dtype=torch.float64)
    in_threads(lambda _: rows @ rows.T, range(4))
    start = time.process_time()
    in_threads(lambda _: rows @ rows.T, range(n_products))
    return (time.process_time() - start) / n_products


@pytest.mark.slow
def test_many_candidates_are_chosen_among_in_little_time_and_memory():
    """A tenth of 200 candidates with 500, 500 and 2,000 embeddings of 512: of all 200 embeddings alone take 2 GB."""
    few, more = (
        compare.in_fresh_process(selection_cost, Size(candidates, 500, 2000, 512), 1) for candidates in (4, 20)
    )
    # In products, as seconds depend on the machine and on what else it does: all pairs of all draws are three and a
    # half of them, and with all criteria a quiet core takes five to six.
    assert (more.cpu_seconds - few.cpu_seconds) / 16 < 12 * compare.in_fresh_process(seconds_of_a_product, 20)
    assert more.rise_mb < 250
    assert more.rise_mb - few.rise_mb < 60  # memory does not grow with candidates


def test_an_unknown_part_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setitem(command.PARTS, "criteria", lambda sizes, repeat: pytest.fail("ran"))
    with pytest.raises(InputError, match=r"part 'criterion'.*criteria"):
        command.speed(["criteria", "criterion"])
