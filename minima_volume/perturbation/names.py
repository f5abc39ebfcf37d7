"""Which parameters of a model are perturbed, and the sentence that says which are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.numerals import listed

WEIGHTS = ("weight", "bias")
NAMES = ("weight_bias", "weights", "all")
SHOWN = 4  # names of parameters in a sentence


def perturbed_names(model: nn.Module, names: str | Sequence[str] = "weight_bias") -> tuple[str, ...]:
    """Names of the parameters that are perturbed, in `named_parameters()` order, tied ones once, those without entries never.

    Args:
        model: the model.
        names: `weight_bias` (see `is_weight_or_bias`); `weights` (see `noise_weights`); `all`; or a list, each entry of which is the name of a parameter
            (`head.weight`), of a module (`head`, all that is below it), or a glob over either (`layers.*.weight`, `layers.[01]`).

    Raises:
        ConfigError: nothing is left to perturb, or an entry of the list matches nothing.
    """
    have = [name for name, _ in model.named_parameters()]
    if isinstance(names, str) and names not in NAMES:
        raise ConfigError(
            f"names {names!r} is not known; allowed: {', '.join(NAMES)}, or a list of names of parameters or modules, or globs, "
            f"such as [{names!r}]"
        )
    if names == "weight_bias":
        chosen = [name for name in have if is_weight_or_bias(name)]
    elif names == "weights":
        chosen = noise_weights(model, have)
    elif names == "all":
        chosen = have
    else:
        chosen = _matching(model, have, names)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    chosen = [name for name in chosen if sizes[name]]
    if not chosen:
        raise ConfigError(
            f"no parameter of {type(model).__name__} is perturbed with names={names!r}; it has {', '.join(name for name in have if sizes[name]) or 'none with entries'}"
        )
    _require_own_memory(model, chosen)
    return tuple(chosen)


def _require_own_memory(model: nn.Module, names: Sequence[str]) -> None:
    """Refuse parameters that are views of each other: each of their numbers would move, and count, as many times."""
    have = dict(model.named_parameters())
    dense = [name for name in names if have[name].layout == torch.strided and have[name].device.type != "meta"]
    spans = sorted((have[name].data_ptr(), name) for name in dense if have[name].numel())
    before: list[tuple[int, str]] = []  # where parameters end that begin earlier
    for start, second in spans:
        before = [(end, name) for end, name in before if end > start]
        for _, earlier in before:
            if np.intersect1d(_bytes(have[earlier]), _bytes(have[second])).size:
                first, second = sorted((earlier, second), key=list(names).index)
                raise ConfigError(
                    f"parameters {first} and {second} share memory but are separate parameters, so these numbers would be perturbed twice: tie "
                    f"modules by the parameter itself (a.weight = b.weight), or use {first} for both in forward (or its transpose); or "
                    "choose one of them with names=[...]"
                )
        before.append((start + _reach(have[second]) * have[second].element_size(), second))


def _reach(tensor: Tensor) -> int:
    """From a tensor's first number to behind its last, in numbers."""
    return sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1


def _bytes(tensor: Tensor) -> np.ndarray:
    """The addresses of a tensor's bytes."""
    places = torch.arange(_reach(tensor), device="cpu").as_strided(tensor.shape, tensor.stride()).numpy().reshape(-1, 1)
    size = tensor.element_size()
    return (tensor.data_ptr() + places * size + np.arange(size)).ravel()


def is_weight_or_bias(name: str) -> bool:
    """Whether the default perturbs a parameter, by the last part of its name: it ends in weight or bias or begins with weight_ or bias_.

    So the weights of recurrent modules and attention move, and both parts of a weight under (old) `weight_norm`. What is under a
    parametrization of `torch.nn.utils.parametrizations` moves, too. Position embeddings, class tokens and gains of other
    names do not.

    >>> [is_weight_or_bias(name) for name in ("fc.weight", "rnn.weight_hh_l0", "fc.parametrizations.weight.original1", "position")]
    [True, True, True, False]
    """
    *path, last = name.split(".")
    parametrized = path[-2:-1] == ["parametrizations"] and last.startswith("original")
    return parametrized or last.endswith(WEIGHTS) or last.startswith(tuple(f"{word}_" for word in WEIGHTS))


def noise_weights(model: nn.Module, names: Sequence[str]) -> list[str]:
    """The parameters called `weight`, except those of normalisation layers: what the weight-noise study perturbs.

    A layer normalises if its class has `norm` in its name. Biases, embeddings of positions and attention's `in_proj_weight` stay.

    >>> noise_weights(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), ["0.weight", "0.bias", "1.weight", "1.bias"])
    ['0.weight']
    """
    split = {name: name.rpartition(".") for name in names}
    return [
        name
        for name, (path, _, last) in split.items()
        if last == "weight" and "norm" not in type(model.get_submodule(path)).__name__.lower()
    ]


def _matching(model: nn.Module, have: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The parameters that a list of names, prefixes and globs chooses; a tied one is found by each of its names."""
    if wrong := [pattern for pattern in patterns if not isinstance(pattern, str)]:
        raise ConfigError(
            f"names: {wrong[0]!r} is not text; each entry must name a parameter or a module, or be a glob"
        )
    own = {parameter: name for name, parameter in model.named_parameters()}
    chosen = set()
    for pattern in patterns:
        matched = {
            own[parameter]
            for name, parameter in model.named_parameters(remove_duplicate=False)
            if any(part == pattern or fnmatchcase(part, pattern) for part in _with_modules(name))
        }
        if not matched:
            raise ConfigError(f"names: {pattern!r} matches no parameter of the model; it has {', '.join(have)}")
        chosen |= matched
    return [name for name in have if name in chosen]


def _with_modules(name: str) -> Iterator[str]:
    """A parameter's name and those of the modules that it is in."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def left_out_note(left_out: Sequence[str], count: int, total: int) -> str | None:
    """What was not perturbed, as a sentence; None if everything was perturbed.

    Args:
        left_out: names of parameters.
        count: their entries.
        total: the entries of all parameters.

    >>> left_out_note(["position", "class_token"], 320, 17_546)
    '320 of 17,546 entries were not perturbed: position, class_token'
    """
    if not left_out:
        return None
    return f"{count:,} of {total:,} entries were not perturbed: {listed(left_out, SHOWN)}"


def still_note(left_out: Sequence[str], num_left_out: int, num_params: int, num_zero: int) -> str | None:
    """The same, and how many entries did not move because their scaling is 0.

    Args:
        left_out, num_left_out: parameters that were not perturbed, and their entries.
        num_params: n, the entries that moved.
        num_zero: entries that did not since their scaling is 0.
    """
    total = num_left_out + num_params + num_zero
    zero = f"{num_zero:,} of {total:,} entries did not move: their scaling is 0" if num_zero else None
    return "; ".join(filter(None, (left_out_note(left_out, num_left_out, total), zero))) or None
