"""Every registered scorer can be written as ONNX, for rows of any number, and then gives the same scores."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from augmentations.randomness import generator
from detectors import scorers

pytestmark = pytest.mark.slow


class All(nn.Module):
    """All registered scorers side by side."""

    def __init__(self, rows):
        super().__init__()
        made = [scorers.make(name) for name in scorers.names()]
        self.scorers = nn.ModuleList([*(scorer.fit(rows) for scorer in made), scorers.make("knn", k=1, memory=0.2)])
        self.scorers[-1].fit(rows)

    def forward(self, rows):
        return torch.stack([scorer(rows) for scorer in self.scorers])


@pytest.mark.parametrize("n", [1, 5])
def test_scorers_in_onnx_are_those_of_torch(n, program):
    module, session = program
    rows = torch.randn(n, 3, 4, 6, generator=generator(n, "rows")) + 2
    (found,) = session.run(None, {"rows": rows.numpy()})
    np.testing.assert_allclose(found, module(rows).numpy(), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def program():
    module = All(torch.randn(50, 6, generator=generator(0, "rows")) + 2).eval()
    example = torch.randn(2, 3, 4, 6, generator=generator(1, "rows"))
    traced = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},), strict=False)
    written = torch.onnx.export(traced, dynamo=True, opset_version=18, input_names=["rows"], verbose=False)
    onnx.checker.check_model(written.model_proto, full_check=True)
    return module, onnxruntime.InferenceSession(written.model_proto.SerializeToString())
