"""The ensemble: the highest of its members' scores, in multiples of normal."""

import math
from collections import Counter

import pytest
import torch

import augmentations
import detectors
from augmentations import InputError
from augmentations.randomness import generator
from detectors import Classifier, ClassifierSettings, Ensemble
from detectors.discriminator import Discriminator, DiscriminatorSettings
from detectors.encoders import EncoderSpec, lite0_is_installed
from detectors.ensemble import Normalization, combine_normalized, normalizations
from detectors.frozen import Frozen, FrozenSettings
from detectors.pixels import Pixels, PixelsSettings
from selector.export.export import Calibrated, _traced
from selector.export.formats import onnx_bytes
from selector.testing.detector import DetectorContract


def member(augmentation, seed=0, steps=3, **ranges):
    settings = ClassifierSettings("small", 32, head=(8,), steps=steps, batch=4)
    return Classifier(settings, augmentations.make(augmentation, **ranges), seed=seed, device="cpu")


class TestEnsemble(DetectorContract):
    def make(self, *, seed=0, channels=1):
        return Ensemble([member("cutout", seed), member("cutpaste", seed)])

    def learn(self):
        return Ensemble([member("cutout", steps=60, area=(0.03, 0.15)), member("cutpaste", steps=60)])


@pytest.fixture(scope="module")
def ensemble(striped):
    images = striped(16)
    trained = [member("cutout", steps=20).fit(images[:12]), member("cutpaste", steps=20).fit(images[:12])]
    return Ensemble.from_trained(trained, images[12:])


@pytest.mark.parametrize("is_distance", [True, False])
def test_a_member_that_scores_in_other_units_changes_nothing(is_distance):
    draws = torch.rand(2, 40, generator=torch.Generator().manual_seed(0)) + 0.1
    normal, new = draws[:, :20], draws[:, 20:]
    expected = combine_normalized(new, [Normalization.of(scores, is_distance) for scores in normal])
    units = [Normalization.of(normal[0], is_distance), Normalization.of(1000 * normal[1], is_distance)]
    torch.testing.assert_close(combine_normalized([new[0], 1000 * new[1]], units), expected)


def test_scores_that_are_no_distances_may_have_any_offset_and_sign():
    draws = torch.randn(2, 60, generator=torch.Generator().manual_seed(0))
    normal, new = draws[:, :30], draws[:, 30:]
    expected = combine_normalized(new, [Normalization.of(scores, False) for scores in normal])
    units = [Normalization.of(normal[0], False), Normalization.of(3 * normal[1] - 500, False)]
    torch.testing.assert_close(combine_normalized([new[0], 3 * new[1] - 500], units), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("value", "is_distance"),
    [(0.0, True), (math.nan, True), (math.inf, True), (-1.0, True), (5.0, False), (math.nan, False)],
)
def test_scores_that_nothing_can_be_compared_by_are_refused(value, is_distance):
    with pytest.raises(FloatingPointError, match="be normalised"):
        Normalization.of(torch.full((9,), value), is_distance)


@pytest.mark.parametrize("offset", [0.0, -1e6])
@pytest.mark.parametrize("sparse", [[0.0] * 98 + [1.0, 4.0], [0.0, 4.0], [-4.0] + [0.0] * 99], ids=len)
def test_other_scores_of_which_most_are_equal_are_measured_by_their_range(sparse, offset):
    normal = torch.tensor(sparse) + offset
    normalized = combine_normalized([normal], [Normalization.of(normal, False)])
    assert normalized.max() - normalized.min() == 1


def test_distances_are_compared_as_other_scores_where_one_member_gives_none(ensemble, striped, monkeypatch):
    images = striped(9, seed=3)
    monkeypatch.setattr(ensemble.members[0], "score_is_distance", False)
    mixed = Ensemble.from_trained(ensemble.members, images)
    assert not mixed.score_is_distance
    for member, (location, scale, _) in zip(mixed.members, mixed.normalizations, strict=True):
        scores = member.score(images)
        assert location == scores.median()
        assert location + scale == pytest.approx(scores.max().item())


def test_one_member_that_sees_an_anomaly_is_enough():
    """Where members see different kinds, the maximum finds both kinds and the average neither as well."""
    source = torch.Generator().manual_seed(0)
    normal, test = torch.randn(8, 200, generator=source).exp(), torch.randn(8, 200, generator=source).exp()
    test[0, :20] *= 40
    test[1, 20:40] *= 40
    maximum = combine_normalized(test, [Normalization.of(scores, True) for scores in normal])
    average = test.argsort(1).argsort(1).double().mean(0)
    anomalous = torch.arange(200) < 40

    def auroc(scores):
        return (scores[anomalous][:, None] > scores[~anomalous]).double().mean().item()

    assert auroc(maximum) > 0.9 > auroc(average) + 0.1


def test_scores_and_maps_of_a_few_members_are_their_mean_and_the_highest_where_that_is_said(ensemble, striped):
    images, normal = striped(5, seed=1), striped(16)[12:]
    for method in ("score", "score_map"):
        by_hand = [getattr(each, method)(images) / getattr(each, method)(normal).mean() for each in ensemble.members]
        torch.testing.assert_close(getattr(ensemble, method)(images), torch.stack(by_hand).mean(0))
        highest = Ensemble(ensemble.members, "max").with_normalization(
            ensemble.normalizations, ensemble.map_normalizations
        )
        torch.testing.assert_close(getattr(highest, method)(images), torch.maximum(*by_hand))


def test_pseudo_anomalies_are_the_members_in_turns(ensemble, striped):
    images = striped(6, seed=1)
    found = ensemble.pseudo_anomalies(images, generator(0))
    source = generator(0)
    for turn, each in enumerate(ensemble.members):
        assert torch.equal(found[turn::2], each.pseudo_anomalies(images[turn::2], source))


def test_no_member_is_refused(striped):
    for make in (lambda: Ensemble([]), lambda: Ensemble.from_trained([], striped(3))):
        with pytest.raises(InputError, match="0 detectors"):
            make()


def test_normalisations_of_other_members_are_refused(ensemble):
    with pytest.raises(InputError, match="1 and 2 normalisations"):
        Ensemble(ensemble.members).with_normalization(ensemble.normalizations[:1], ensemble.map_normalizations)


def test_fit_holds_images_out_to_normalise_by(striped, monkeypatch):
    images = striped(20)
    seen = []
    fit = Classifier.fit

    def watched(self, given, **rest):
        seen.append(len(given))
        return fit(self, given, **rest)

    monkeypatch.setattr(Classifier, "fit", watched)
    fitted = Ensemble([member("cutout"), member("cutdiff")]).fit(images)
    assert seen == [17, 17]
    assert len(fitted.normalizations) == 2


@pytest.mark.parametrize("missing", ["normalizations", "members"])
def test_a_state_that_is_not_whole_is_refused(ensemble, missing):
    state = ensemble.state()
    del state.settings[missing]
    with pytest.raises(InputError, match="incomplete"):
        Ensemble.from_state(state, torch.device("cpu"))


def test_is_no_detector_to_train_a_zoo_of():
    assert Ensemble.name not in detectors.names()


def draws(seed=0, members=3, n=400):
    return torch.randn(members, n, generator=torch.Generator().manual_seed(seed))


def test_members_of_several_kinds_are_compared_whatever_their_scale_sign_and_spread():
    """Distances by their logarithms: a power of one, as well as a multiple, changes nothing."""
    normal, new = draws(0), draws(1)
    expected = combine_normalized(new, normalizations(normal, [False] * 3, ["a", "b", "c"]))
    ways = [lambda x: 100 * (3 * x).exp(), lambda x: 7 * x - 1000, lambda x: 0.01 * (0.1 * x).exp()]
    scored = [[way(x) for way, x in zip(ways, part, strict=True)] for part in (normal, new)]
    units = normalizations(scored[0], [True, False, True], ["a", "b", "c"])
    torch.testing.assert_close(combine_normalized(scored[1], units), expected, rtol=1e-3, atol=1e-3)


def test_in_multiples_of_the_mean_the_kind_with_the_widest_scores_would_speak_alone():
    normal, new = draws(0, 2), draws(1, 2)
    new[1, :40] += 4
    anomalous = torch.arange(400) < 40
    wide, narrow = (lambda x: (0.5 * x).exp()), (lambda x: (0.01 * x).exp())
    scored = [(wide(part[0]), narrow(part[1])) for part in (normal, new)]

    def auroc(kinds):
        scores = combine_normalized(scored[1], normalizations(scored[0], [True, True], kinds))
        return (scores[anomalous][:, None] > scores[~anomalous]).double().mean().item()

    assert auroc(["same", "same"]) < 0.75
    assert auroc(["one", "other"]) > 0.9


def test_members_of_one_kind_are_compared_in_multiples_of_their_mean():
    normal = draws().exp()
    assert normalizations(normal, [True] * 3, ["same"] * 3) == [Normalization.of(each, True) for each in normal]
    assert all(location == 0 for location, _, _ in normalizations(normal, [True] * 3, ["same"] * 3))


def test_a_distance_of_zero_stays_finite():
    unit = Normalization.robust(torch.rand(50) + 1, True)
    applied = unit.apply(torch.tensor([0.0, 0.5, 2.0]))
    assert applied.isfinite().all()
    assert (applied.diff() > 0).all()


def test_the_mean_is_that_of_the_normalised_scores():
    normal, new = draws(0).exp(), draws(1).exp()
    units = normalizations(normal, [True] * 3, ["same"] * 3)
    by_hand = torch.stack([unit.apply(each) for unit, each in zip(units, new, strict=True)]).mean(0)
    torch.testing.assert_close(combine_normalized(new, units, "mean"), by_hand)


@pytest.fixture(scope="module", params=["max", "mean"])
def across(request, striped):
    """An ensemble of a classifier, pixels and a frozen encoder."""
    images = striped(24)
    trained = [
        member("cutout", steps=20).fit(images[:16]),
        Pixels(PixelsSettings(32, side=8), device="cpu").fit(images[:16]),
        Frozen(FrozenSettings(32, score="locations", channels=10), device="cpu").fit(images[:16]),
    ]
    return Ensemble.from_trained(trained, images[16:], request.param)


def test_scores_and_maps_of_several_kinds_are_combined_on_one_footing(across, striped):
    assert not across.score_is_distance
    normal, new = striped(24)[16:], striped(5, seed=1)
    for method in ("score", "score_map"):
        by_hand = []
        for each in across.members:
            logs = getattr(each, method)(normal).log().flatten().double().sort().values
            location, upper = logs[len(logs) // 2], logs[math.ceil(0.95 * len(logs)) if len(logs) > 20 else -1]
            by_hand.append((getattr(each, method)(new).log() - location) / (upper - location))
        stacked = torch.stack(by_hand).float()
        expected = stacked.amax(0) if across.combine == "max" else stacked.mean(0)
        torch.testing.assert_close(getattr(across, method)(new), expected, rtol=1e-3, atol=1e-3)


def test_an_ensemble_of_several_kinds_survives_a_file(across, striped, tmp_path):
    images = striped(5, seed=1)
    loaded = detectors.load(across.save(tmp_path / "ensemble"), device="cpu")
    assert loaded.combine == across.combine
    assert torch.equal(loaded.score(images), across.score(images))
    assert torch.equal(loaded.score_map(images), across.score_map(images))


def test_an_ensemble_of_several_kinds_can_be_exported(across, striped, program):
    images = striped(5, seed=1)
    scores, maps, _ = program(across, striped(4))(images)
    torch.testing.assert_close(scores, across.score(images), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(maps, across.score_map(images), rtol=1e-3, atol=1e-3)


def test_an_unknown_combination_is_refused(ensemble):
    with pytest.raises(InputError, match="did you mean mean"):
        Ensemble(ensemble.members, "mea")


class TestSharedEncoders:
    """Members whose encoders stay as they were built, and are equal, have one between them."""

    @pytest.fixture(scope="class")
    @classmethod
    def sharing(cls, striped):
        """Three members with one encoder, one with that of another seed, and one that learned its own."""
        images = striped(24)
        head = DiscriminatorSettings(32, levels=(1, 2), width=8, steps=3, batch=4, pool=8)
        members = [
            Frozen(FrozenSettings(32), scorer="knn", device="cpu"),
            Frozen(FrozenSettings(32, score="locations", channels=8), device="cpu"),
            Discriminator(head, augmentations.make("cutout"), device="cpu"),
            Frozen(FrozenSettings(32), seed=1, device="cpu"),
            member("cutout"),
        ]
        trained = [each.fit(images[:16]) for each in members]
        alone = [(each.score(images), each.score_map(images)) for each in trained]
        assert len({id(each.encoder) for each in trained}) == 5
        return Ensemble.from_trained(trained, images[16:]), images, alone

    @pytest.fixture
    def count(self, monkeypatch):
        """Counts how often the first layer of an encoder runs while something is done."""

        def counted(encoder, do):
            calls = []
            handle = encoder[0].register_forward_hook(lambda *_: calls.append(1))
            try:
                do()
            finally:
                handle.remove()
            return len(calls)

        return counted

    def test_equal_ones_are_one(self, sharing):
        first, second, third, other, learned = (each.encoder for each in sharing[0].members)
        assert first is second is third
        assert len({id(first), id(other), id(learned)}) == 3

    @pytest.mark.parametrize("method", ["embed", "score", "score_map", "score_and_map"])
    def test_it_sees_each_batch_once(self, sharing, count, method):
        ensemble, images, _ = sharing
        assert count(ensemble.members[0].encoder, lambda: getattr(ensemble, method)(images)) == 1

    def test_so_it_does_where_trained_members_are_normalised(self, sharing, count):
        ensemble, images, _ = sharing
        assert count(ensemble.members[0].encoder, lambda: Ensemble.from_trained(ensemble.members, images)) == 1

    def test_sharing_changes_nothing(self, sharing):
        ensemble, images, alone = sharing
        scores, maps = zip(*alone, strict=True)
        assert torch.equal(ensemble.score(images), combine_normalized(scores, ensemble.normalizations))
        assert torch.equal(ensemble.score_map(images), combine_normalized(maps, ensemble.map_normalizations))

    def test_files_hold_it_once_and_who_loads_them_has_one(self, sharing, tmp_path):
        ensemble, images, _ = sharing
        names = ensemble.state().trained
        assert {name.partition(".")[0] for name in names if ".encoder." in name} == {"0", "3", "4"}
        assert any(name.startswith("2.head.") for name in names)
        loaded = detectors.load(ensemble.save(tmp_path / "ensemble"), device="cpu")
        assert len({id(each.encoder) for each in loaded.members}) == 3
        assert torch.equal(loaded.score(images), ensemble.score(images))
        assert loaded.save(tmp_path / "again").read_bytes() == (tmp_path / "ensemble").read_bytes()

    @pytest.mark.slow
    def test_exported_programs_hold_it_once_and_run_it_once(self, sharing):
        onnx = pytest.importorskip("onnx")
        ensemble, images, _ = sharing
        only = Ensemble.from_trained(ensemble.members[:2], images)
        written = onnx_bytes(_traced(Calibrated(only.module(), only.score(images), 0.0), images))
        graph = onnx.load_from_string(written).graph
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        layers = [layer for layer in only.members[0].encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
        expected = Counter(tuple(layer.weight.shape) for layer in layers)
        assert len(convolutions) == len(layers)
        assert Counter(dims for each in graph.initializer if (dims := tuple(each.dims)) in expected) == expected

    @pytest.mark.skipif(not lite0_is_installed(), reason="needs the package of lite0")
    def test_pretrained_ones_are_equal_whatever_the_seed(self, striped):
        images = striped(12)
        settings = FrozenSettings(32, EncoderSpec("lite0", input_size=32), channels=8)
        ensemble = Ensemble([Frozen(settings, seed=seed, device="cpu") for seed in range(2)]).fit(images)
        assert ensemble.members[0].encoder is ensemble.members[1].encoder
