import pytest
import torch
from torch import fx, nn

from augmentations import InputError
from detectors.encoders.capture import Hooked, capture, layers_by_stride


class Branching(nn.Module):
    """Its stages can be traced only where nobody looks inside; as a whole it can't be."""

    def __init__(self, *, inner):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.block = Checked() if inner else nn.Conv2d(4, 4, 3, 2, 1)
        self.head = nn.Conv2d(4, 8, 1)
        self.inner = inner

    def forward(self, images):
        if not self.inner and images.sum() > 1e9:
            raise ValueError("never")
        return self.head(self.block(self.stem(images)))


class Checked(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features):
        return self.relu(features) if features.mean() < 1e9 else features


@pytest.mark.parametrize(("inner", "kind"), [(True, fx.GraphModule), (False, Hooked)])
def test_outputs_of_layers_as_they_were(inner, kind):
    network = Branching(inner=inner).eval()
    images = torch.rand(2, 3, 16, 16)
    stem = network.stem(images)
    captured = capture(network, ("block", "stem"), "mine")
    assert isinstance(captured, kind)
    block, first = captured(images)
    assert torch.equal(first, stem), "the next layer, which works in place, changed it"
    torch.testing.assert_close(block, network.block(stem.clone()))
    if inner:
        assert "head" not in dict(captured.named_modules()), "what comes after is computed"


def test_layers_inside_others_can_be_chosen_beside_them():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Conv2d(4, 2, 1)).eval()
    inner, outer = capture(network, ("0.0", "0"), "mine")(torch.rand(1, 3, 4, 4))
    torch.testing.assert_close(outer, inner.relu())


@pytest.mark.parametrize(
    ("layer", "message"),
    [("blok", "did you mean block or block.relu?"), ("zzz", "known: stem, block, block.relu, head")],
)
def test_an_unknown_layer_is_refused_with_those_near_it(layer, message):
    with pytest.raises(InputError, match="is not in encoder 'mine'") as refused:
        capture(Branching(inner=True), (layer,), "mine")
    assert message in str(refused.value)


def test_layers_by_stride_are_the_last_at_each():
    stages = [nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.ReLU()) for _ in range(5)]
    network = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1))
    assert layers_by_stride(network, 3) == ("2", "3", "4")
