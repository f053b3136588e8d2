from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur

import augmentations
from augmentations import InputError
from augmentations.randomness import generator
from detectors import Classifier, ClassifierSettings, classifier, kind
from detectors import images as images_module
from detectors.encoders import pool
from detectors.scorers import Gaussian
from detectors.scoring import locations, upsample
from detectors.training import TrainingDivergedError


def make(settings, name="cutout", **arguments):
    return Classifier(settings, augmentations.make(name), device="cpu", **arguments)


def test_the_two_stages_are_fit(striped, brief):
    images = striped(8)
    once = make(brief).fit(images)
    twice = make(brief).train(images).fit_scorer(images)
    assert torch.equal(once.score_map(images), twice.score_map(images))
    assert torch.equal(once.score(images), twice.score(images))
    assert torch.equal(once.losses, twice.losses)


def test_score_is_the_gaussian_distance_of_embeddings(fitted, striped):
    expected = Gaussian().fit(fitted.embed(striped())).score(fitted.embed(striped(5, seed=1)))
    torch.testing.assert_close(fitted.score(striped(5, seed=1)), expected, rtol=1e-3, atol=1e-3)
    assert fitted.score_is_distance


def test_score_map_is_the_gaussian_distance_of_locations(fitted, striped):
    with torch.no_grad():
        train, test = fitted.encoder(striped()), fitted.encoder(striped(5, seed=1))
    gaussian = Gaussian().fit(locations(train).flatten(0, 2))
    expected = upsample(gaussian.score(locations(test)), (32, 32))
    torch.testing.assert_close(fitted.score_map(striped(5, seed=1)), expected, rtol=1e-3, atol=1e-3)


def test_locations_have_unit_norm_and_keep_their_place():
    features = torch.randn(2, 5, 3, 4)
    rows = locations(features)
    assert rows.shape == (2, 3, 4, 5)
    expected = features[1, :, 2, 3] / features[1, :, 2, 3].norm()
    torch.testing.assert_close(rows[1, 2, 3], expected)


@pytest.mark.parametrize("cap", [100, 48, 5])
def test_rows_of_the_spatial_gaussian_are_capped(striped, brief, monkeypatch, cap):
    monkeypatch.setattr(kind, "LOCATION_ROWS", cap)
    counts = []
    fit = Gaussian.fit
    monkeypatch.setattr(Gaussian, "fit", lambda self, rows: (counts.append(len(rows)), fit(self, rows))[1])
    make(brief).fit(striped(24))
    # As many of each image, at least one.
    assert counts == [24, 24 * max(1, cap // 24)]


def test_memory_is_bounded_by_pieces(fitted, striped, monkeypatch):
    images = striped(7, seed=1)
    whole = fitted.embed(images), fitted.score_map(images), fitted.pseudo_anomalies(images, generator(0))
    monkeypatch.setattr(images_module, "BATCH_PIXELS", 3 * 32 * 32)
    sizes = []
    hook = fitted.encoder.register_forward_hook(lambda module, inputs, out: sizes.append(len(out)))
    pieces = fitted.embed(images), fitted.score_map(images), fitted.pseudo_anomalies(images, generator(0))
    hook.remove()
    assert sizes == [3, 3, 1] * 2
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_another_scorer_shares_the_encoder(striped, brief):
    images = striped(8)
    trained = make(brief).train(images)
    with pytest.raises(InputError, match="scorer"):
        trained.score(images)
    assert trained.embed(images).shape == (8, 64)
    other = trained.with_scorer("gaussian", images)
    assert other.encoder is trained.encoder
    assert other.scorer_spec.name == "gaussian"
    assert torch.equal(other.losses, trained.losses)
    assert torch.equal(other.score(images), trained.fit_scorer(images).score(images))
    with pytest.raises(InputError, match="not a known name"):
        trained.with_scorer("oracle", images)
    with pytest.raises(InputError, match="call fit"):
        make(brief).with_scorer("gaussian", images)
    with pytest.raises(InputError, match="call fit"):
        make(brief).trained_state()


def test_unknown_scorer_is_refused_before_training(brief):
    with pytest.raises(InputError, match="did you mean gaussian"):
        make(brief, scorer="gausian")


def test_state_is_split_by_stage(fitted, striped):
    state = fitted.state()
    assert all(name.startswith("encoder.") for name in state.trained)
    assert {name.split(".")[0] for name in state.fitted} == {"scorer", "map_scorer"}
    assert state.trained.keys() == fitted.trained_state().keys()
    again = Classifier.from_state(state, torch.device("cpu"))
    images = striped(5, seed=1)
    assert torch.equal(again.score(images), fitted.score(images))
    assert again.settings == fitted.settings
    assert again.augmentation == fitted.augmentation
    assert (again.seed, again.scorer_spec.name, again.channels) == (0, "gaussian", 1)


def test_a_detector_made_from_a_state_is_a_copy(fitted, striped):
    before = fitted.score(striped(5))
    again = Classifier.from_state(fitted.state(), torch.device("cpu"))
    with torch.no_grad():
        for parameter in again.encoder.parameters():
            parameter.zero_()
    assert torch.equal(fitted.score(striped(5)), before)


def test_trained_again_the_old_scorer_is_gone(striped, brief):
    images = striped(8)
    detector = make(brief).fit(images)
    detector.train(images)
    with pytest.raises(InputError, match="scorer"):
        detector.score(images)
    with pytest.raises(InputError, match="scorer"):
        detector.score_map(images)


def test_a_failed_training_leaves_the_detector_as_it_was(striped, brief, monkeypatch):
    images = striped(8)
    detector = make(brief).fit(images)
    before = detector.score(images)

    def diverge(*args, **kwargs):
        raise TrainingDivergedError("diverged")

    monkeypatch.setattr(classifier, "train", diverge)
    with pytest.raises(TrainingDivergedError):
        detector.fit(striped(8, channels=3))
    assert torch.equal(detector.score(images), before)
    fresh = make(brief)
    with pytest.raises(TrainingDivergedError):
        fresh.fit(images)
    with pytest.raises(InputError, match="call fit"):
        fresh.embed(images)


def test_divergence_is_reported(striped):
    settings = ClassifierSettings("small", 32, head=(8,), steps=30, batch=4, learning_rate=1e9)
    with pytest.raises(TrainingDivergedError, match="learning_rate"):
        make(settings).fit(striped(8))


@pytest.mark.parametrize(("name", "classes"), [("cutpaste", 2), ("cutpaste_3way", 3)])
def test_learns_as_many_classes_as_the_augmentation_has(striped, brief, monkeypatch, name, classes):
    models = []
    train = classifier.train
    monkeypatch.setattr(
        classifier, "train", lambda model, *args, **kw: (models.append(model), train(model, *args, **kw))[1]
    )
    detector = make(brief, name).fit(striped(8))
    last = [layer for layer in models[0].modules() if isinstance(layer, nn.Linear)][-1]
    assert last.out_features == classes
    assert detector.losses.shape == (3,)


def test_one_train_image_is_refused_clearly(striped, brief):
    with pytest.raises(InputError, match="to fit a Gaussian"):
        make(brief).fit(striped(1))


def test_identical_train_images_are_refused_clearly(striped, brief):
    with pytest.raises(InputError, match="all the same"):
        make(brief).fit(striped(1).repeat(9, 1, 1, 1))


def test_pseudo_anomalies_are_the_augmentation(fitted, striped):
    images = striped(5, seed=1)
    expected = fitted.augmentation(images, generator(3))
    assert torch.equal(fitted.pseudo_anomalies(images, generator(3)), expected)


def test_pseudo_anomalies_need_no_training_and_no_gradients(striped, brief):
    wanting = augmentations.make("cutdiff", area=(0.02, torch.tensor(0.1, requires_grad=True)))
    detector = Classifier(brief, wanting, device="cpu")
    assert not detector.pseudo_anomalies(striped(3), generator(0)).requires_grad
    assert detector.fit(striped(8)).score(striped(3)).shape == (3,)


def test_an_image_too_small_for_the_augmentation_is_refused_before_training(brief):
    reported = []
    detector = Classifier(brief, augmentations.make("cutpaste", area=0.6, aspect=1), device="cpu")
    with pytest.raises(InputError, match="fit in the 4x32"):
        detector.fit(torch.rand(8, 1, 4, 32), on_progress=lambda *progress: reported.append(progress))
    assert not reported


def test_device_may_be_auto_and_must_exist(brief):
    auto = Classifier(brief, augmentations.make("cutout"), device="auto")
    assert auto.device.type in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match="this machine can't use it"):
        Classifier(brief, augmentations.make("cutout"), device="cuda:4711")


def test_embeddings_are_float32_where_training_is_not(striped, brief, monkeypatch):
    # Emulated here, so slow, but the same arithmetic as where it pays.
    monkeypatch.setattr("detectors.devices.supports_bf16", lambda device: True)
    images = striped(8)
    detector = make(brief).train(images)
    assert all(value.dtype != torch.bfloat16 for value in detector.trained_state().values())
    with torch.no_grad():
        expected = pool(detector.encoder.double()(images.double())).float()
    detector.encoder.float()
    torch.testing.assert_close(detector.embed(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("grid", "size"),
    [((8, 8), (64, 64)), ((4, 6), (64, 96)), ((5, 3), (33, 20)), ((2, 3), (40, 48)), ((1, 5), (8, 40))],
    ids=str,
)
def test_upsample_is_bilinear_then_a_gaussian_of_half_a_spacing(grid, size):
    scores = torch.rand(3, *grid, generator=generator(0, "scores"))
    fine = nn.functional.interpolate(scores.double()[:, None], size, mode="bilinear", align_corners=False)
    sigmas = [side / places / 2 for side, places in zip(size, grid, strict=True)]
    kernel = [2 * min(round(3 * s), side - 1) + 1 for s, side in zip(sigmas, size, strict=True)]
    expected = gaussian_blur(fine, kernel[::-1], sigmas[::-1])[:, 0].float()
    torch.testing.assert_close(upsample(scores, size), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (64, 64), (100, 31)], ids=str)
def test_upsample_keeps_a_constant(size):
    grid = [-(-side // 8) for side in size]
    maps = upsample(torch.full((2, *grid), 3.0), size)
    torch.testing.assert_close(maps, torch.full((2, *size), 3.0))


def test_upsample_puts_a_location_where_it_is():
    scores = torch.zeros(1, 4, 8)
    scores[0, 1, 6] = 1
    peak = upsample(scores, (32, 64)).flatten().argmax().item()
    assert (peak // 64, peak % 64) in {(row, column) for row in (11, 12) for column in (51, 52)}


def test_an_average_of_larger_images_is_what_the_encoder_sees(brief, striped):
    """So that one zoo can hold kinds that need images of different sizes."""
    images = striped(8)
    larger = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    plain, reduced = make(brief).fit(images), make(replace(brief, reduction=2)).fit(larger)
    torch.testing.assert_close(reduced.score(larger), plain.score(images))
    assert reduced.score_map(larger).shape == (8, 64, 64)
    assert reduced.pseudo_anomalies(larger, generator(0)).shape == larger.shape
