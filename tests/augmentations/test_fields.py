import torch

from augmentations.fields import draw_seeds, perlin, share_above, white, white_gaussian
from augmentations.randomness import generator


def seeds(n=4):
    return draw_seeds(n, generator(0))


def test_white_noise_is_uniform_and_has_no_neighbours_in_common():
    field = white(seeds(), (3, 64, 64), torch.float64)
    assert abs(field.mean() - 0.5) < 0.01
    assert abs(field.var() - 1 / 12) < 0.002
    for shifted in (field.roll(1, 3), field.roll(1, 2), field.roll(1, 1), field.roll(1, 0)):
        assert torch.corrcoef(torch.stack((field.flatten(), shifted.flatten())))[0, 1].abs() < 0.02


def test_gaussian_noise_has_moments_of_a_standard_normal():
    field = white_gaussian(seeds(), (3, 64, 64), torch.float64)
    assert abs(field.mean()) < 0.02
    assert abs(field.std() - 1) < 0.02
    assert abs((field**4).mean() - 3) < 0.15
    torch.testing.assert_close(
        white_gaussian(seeds(), (3, 64, 64), torch.float32).double(), field, atol=1e-5, rtol=1e-5
    )


def test_a_field_depends_on_its_seed_alone():
    many = perlin(seeds(), torch.tensor([2.0, 3.0, 5.0, 8.0]), (32, 48))
    alone = perlin(seeds()[2:3], torch.tensor([5.0]), (32, 48))
    assert torch.equal(many[2:3], alone)
    assert not torch.equal(many[0], perlin(seeds()[1:2], torch.tensor([2.0]), (32, 48))[0])


def test_perlin_noise_is_smooth_and_zero_at_the_points_of_its_lattice():
    field = perlin(seeds(), torch.full((4,), 4.0, dtype=torch.float64), (65, 65))
    assert field.abs().max() < 0.8
    assert field.std() > 0.1
    assert field.diff(dim=2).abs().max() < 0.3 * field.abs().max()
    at_lattice = perlin(
        seeds(), torch.full((4,), 33.0, dtype=torch.float64), (11, 11)
    )  # pixel centres at 1.5, 4.5, ...
    assert at_lattice.std() > 0
    assert perlin(seeds(), torch.full((4,), 22.0, dtype=torch.float64), (11, 11)).abs().max() < 1e-12


def test_the_share_above_is_that_of_the_field():
    field = perlin(seeds(), torch.full((4,), 3.0), (64, 64))
    shares = torch.tensor([0.05, 0.2, 0.5, 0.9])
    covered = (field > share_above(field, shares)).float().mean((1, 2))
    torch.testing.assert_close(covered, shares, atol=0.02, rtol=0)
