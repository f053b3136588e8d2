"""What a network computes at some of its layers, without what comes after the last of them."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, fx, nn

from augmentations.errors import InputError

OUTERMOST = 2  # dots and names deep at which a network's own stages are looked for
STRIDES = (8, 16, 32)  # px between locations of the layers that are taken unless others are named
STRIDES_PX = 64  # side of the image that shows the strides


class _PathTracer(fx.Tracer):
    """Traces only what holds the chosen layers: everything else may have any control flow it likes."""

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers
        self.outputs: dict[str, Any] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(layer.startswith(f"{module_qualified_name}.") for layer in self.layers)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        path = self.path_of_module(m)
        if path in self.layers:
            self.outputs[path] = output
        return output


class Hooked(nn.Module):
    """The outputs of layers of a network that can't be traced: it runs whole, and hooks take them."""

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.network, self.layers = network, tuple(layers)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs: dict[str, Tensor] = {}

        def take(layer: str) -> Any:
            # A copy, because the next layer may work in place.
            return lambda module, args, output: outputs.__setitem__(layer, output.clone())

        hooks = [self.network.get_submodule(layer).register_forward_hook(take(layer)) for layer in self.layers]
        try:
            self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(outputs[layer] for layer in self.layers)


class Outputs(nn.Module):
    """What a network gives by itself, as a tuple: a tensor, or a list or dict of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(images)
        if isinstance(output, dict):
            return tuple(output.values())
        return tuple(output) if isinstance(output, (list, tuple)) else (output,)


def capture(network: nn.Module, layers: Sequence[str], name: str) -> nn.Module:
    """Images to the outputs of layers, in the order of ``layers``; of the network itself where there are none.

    Args:
        network: in evaluation mode.
        layers: names of modules, as ``named_modules`` gives them.
        name: of the encoder, for messages.
    Raises:
        InputError: for a layer that the network does not have.
    """
    known = [path for path, _ in network.named_modules() if path]
    for layer in layers:
        if layer not in known:
            near = get_close_matches(layer, known, n=3, cutoff=0.5)
            nearest = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(_outermost(network))}"
            raise InputError(f"layer {layer!r}", f"is not in encoder {name!r}", nearest)
    if not layers:
        return Outputs(network)
    try:
        return _traced(network, layers)
    except Exception:  # whatever the network's own code does when it is traced
        return Hooked(network, layers)


def _traced(network: nn.Module, layers: Sequence[str]) -> fx.GraphModule:
    tracer = _PathTracer(layers)
    graph = tracer.trace(network)
    nodes = [tracer.outputs[layer].node for layer in layers]
    (output,) = (node for node in graph.nodes if node.op == "output")
    if len(nodes) > 1:
        copies = []
        for node in nodes:
            # A copy, because the next layer may work in place.
            with graph.inserting_after(node):
                copies.append(graph.call_method("clone", (node,)))
        nodes = copies
    output.args = (tuple(nodes),)
    module = fx.GraphModule(network, graph)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def first_outputs(network: nn.Module, most: int) -> nn.Module:
    """The same network, sharing its weights, as far as the first ``most`` of its outputs need it.

    A network that could not be traced runs whole.
    """
    if not isinstance(network, fx.GraphModule):
        return network
    graph = fx.Graph()
    outputs = graph.graph_copy(network.graph, val_map={})
    assert isinstance(outputs, tuple)
    graph.output(outputs[:most])
    module = fx.GraphModule(network, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _outermost(network: nn.Module) -> list[str]:
    return [path for path, _ in network.named_modules() if path and path.count(".") < OUTERMOST]


@torch.no_grad()
def layers_by_stride(network: nn.Module, channels: int) -> tuple[str, ...]:
    """The last layer at each of 8, 16 and 32 px between locations, as far as the network has them."""
    last: dict[int, str] = {}

    def note(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
                last[STRIDES_PX // output.shape[2]] = path

        return hook

    # A module is done after what it holds, so that the outermost of those that end together is the one noted.
    hooks = [network.get_submodule(path).register_forward_hook(note(path)) for path in _outermost(network)]
    try:
        network(torch.zeros(1, channels, STRIDES_PX, STRIDES_PX))
    except (RuntimeError, AssertionError, ValueError):
        return ()  # a network that takes one size of images alone
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(last[stride] for stride in STRIDES if stride in last)
