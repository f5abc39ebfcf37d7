"""Looking at a module: is it a plain stack of layers that the fast paths know how to run?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from minima_volume.hosts.host import runs_as_its_class

PARAMETRIC: dict[type, str] = {nn.Linear: "linear", nn.Conv2d: "conv"}
ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in evaluation mode
RELU_FUNCTIONS = (torch.relu, F.relu)


@dataclass(frozen=True)
class Layer:
    """One step of a stack.

    Attributes:
        kind: linear, conv, elementwise, pool or flatten.
        module: runs it.
        weight, bias: names of its parameters in the model; None if it has none.
    """

    kind: str
    module: nn.Module
    weight: str | None = None
    bias: str | None = None


def trace_stack(model: nn.Module) -> list[Layer] | None:
    """The layers of a model that is one chain of Linear, Conv2d, activations, pooling and flattening; else None.

    Parametrised layers, layers with hooks or with a forward of their own, tied weights and anything the tracer does not understand
    give None, and the general path runs the model.
    """
    if isinstance(model, torch.jit.ScriptModule) or not all(runs_as_its_class(module) for module in model.modules()):
        return None
    if type(model) in PARAMETRIC:  # the tracer would look inside it
        return [_parametric(model, "")]
    try:
        graph = torch.fx.symbolic_trace(model).graph
    except Exception:  # the tracer meets any user code; whatever stops it, the general path remains
        return None
    modules = dict(model.named_modules())
    layers: list[Layer] = []
    previous = None
    for node in graph.nodes:
        if node.op == "output":
            chain = node.args[0] is previous
            named = [layer.weight for layer in layers if layer.weight]
            return layers if chain and named and len(set(named)) == len(named) and not _tied(model) else None
        if node.op == "placeholder" and previous is None:
            previous = node
            continue
        if not node.args or node.args[0] is not previous or len(node.all_input_nodes) != 1:
            return None
        layer = _layer(node, modules)
        if layer is None:
            return None
        flat = any(earlier.kind == "flatten" for earlier in layers)
        if layer.kind != "identity" and not (layer.kind == "flatten" and flat):  # what is flat stays so
            layers.append(layer)
        previous = node
    return None


def _layer(node: torch.fx.Node, modules: dict[str, nn.Module]) -> Layer | None:
    rest = (tuple(node.args[1:]), dict(node.kwargs))
    if node.op == "call_module":
        module = modules[str(node.target)]
        kind = type(module)  # exactly: a subclass or a parametrised layer may do something else
        if kind in PARAMETRIC:
            return _parametric(module, f"{node.target}.")
        if kind in ELEMENTWISE:
            return Layer("elementwise", module)
        if kind in POOLS:
            return Layer("pool", module)
        if kind in IDENTITIES:
            return Layer("identity", module)
        if kind is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            return Layer("flatten", module)
        return None
    if node.op == "call_function" and node.target in RELU_FUNCTIONS and not rest[0]:
        return Layer("elementwise", nn.ReLU())
    if node.op == "call_method" and node.target == "relu":
        return Layer("elementwise", nn.ReLU())
    flattens = (node.op == "call_function" and node.target is torch.flatten) or (
        node.op == "call_method" and node.target == "flatten"
    )
    if flattens and rest in (((1,), {}), ((), {"start_dim": 1})):
        return Layer("flatten", nn.Flatten())
    return None


def _parametric(module: nn.Module, prefix: str) -> Layer:
    bias = None if module.bias is None else f"{prefix}bias"
    return Layer(PARAMETRIC[type(module)], module, f"{prefix}weight", bias)


def _tied(model: nn.Module) -> bool:
    every = [id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)]
    return len(every) != len(set(every))
