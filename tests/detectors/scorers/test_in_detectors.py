"""Every registered scorer works in a detector: for whole images and for locations, stored and loaded."""

from dataclasses import replace

import pytest
import torch

import augmentations
import detectors
from augmentations.randomness import generator
from detectors import Preset, ScorerSpec, load
from detectors.pixels import Pixels, PixelsSettings


@pytest.mark.parametrize("name", detectors.scorer_names())
def test_a_detector_scores_and_localizes_with_it(name, tmp_path):
    train = 0.5 + 0.1 * torch.rand(40, 3, 16, 16, generator=generator(0, "train"))
    test = 0.5 + 0.1 * torch.rand(4, 3, 16, 16, generator=generator(0, "test"))
    test[2:, 0, 4:8, 4:8] = 0
    detector = Pixels(PixelsSettings(image_size=16, side=8), scorer=name, device="cpu").fit(train)
    scores, maps = detector.score_and_map(test)
    assert scores[2:].min() > scores[:2].max()
    assert maps.shape == (4, 16, 16)
    assert maps[2:, 4:8, 4:8].mean() > maps[2:, 10:, 10:].mean()
    again = load(detector.save(tmp_path / "detector.safetensors"), device="cpu")
    assert torch.equal(again.score(test), scores)


@pytest.mark.parametrize("name", ["rotation", "frozen", "discriminator"])
@pytest.mark.parametrize("scorer", ["ocsvm_linear", "ocsvm"])
def test_a_scorer_sees_rows_as_it_wants_them(name, scorer, monkeypatch):
    """Sohn et al. give a linear machine features that are not normalised; all else sees the unit sphere."""
    seen = []
    kind = ScorerSpec(scorer).kind
    fit = kind.fit

    def watched(self, rows):
        seen.append(rows.clone())
        return fit(self, rows)

    monkeypatch.setattr(kind, "fit", watched)
    images = 0.5 + 0.1 * torch.rand(24, 1, 32, 32, generator=generator(0, "train"))
    settings = detectors.get(name).settings_for(Preset("small", 32, head=(8,), steps=2, batch=4))
    small = {"encoder": "small"} | ({"pool": 8, "steps": 2} if name == "discriminator" else {})
    augmentation = augmentations.make("cutout") if name == "discriminator" else None
    detector = detectors.get(name)(replace(settings, **small), augmentation, scorer=scorer, device="cpu").fit(images)
    module = detector.module()
    features = next(detector._features(module, images))
    norms = module.rows(features).norm(dim=1)
    is_normalised = scorer == "ocsvm"
    assert torch.allclose(norms, torch.ones(len(norms))) == is_normalised
    if not is_normalised:
        (rows,) = (each for each in seen if len(each) == len(images))
        torch.testing.assert_close(rows, module.rows(features))
        directions = torch.nn.functional.normalize(rows, dim=1)
        if name != "frozen":  # whose levels are of unit norm each
            torch.testing.assert_close(directions, detector.embed(images))
    assert (detector.score_embeddings(detector.embed(images)) is None) != is_normalised
    assert torch.isfinite(detector.score(images)).all()
