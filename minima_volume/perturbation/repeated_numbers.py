"""Were the model's weights, or its inputs, made from the random numbers of a direction?

A direction of seed s is what `torch.manual_seed(s)` is followed by, and so are weights and inputs that a script draws after it. Such
a direction is not random for that model: it runs along the weights, or its first layer runs along a sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from minima_volume.numerals import listed
from minima_volume.perturbation.directions import Directions, draw_gaussian
from minima_volume.samples import tensors

COMPARED = 2**14  # numbers of the first parameter; a multiple of 16, which PyTorch makes together
FEWEST = 64
STANDARD_ERRORS = 6.0  # chance passes them once in 500 million directions


def repeated_numbers_note(directions: Directions, seeds: Sequence[int], x: object) -> str | None:
    """Which directions begin with the numbers of the weights or of the inputs, and what to do; None if none does.

    The cosine of independent vectors of m numbers is below 6 / sqrt(m) in all but one of 500 million cases.

    Args:
        directions: of the model.
        seeds: of the directions.
        x: the samples.
    """
    made = {"weights": directions.minimum[:1], "inputs": tensors(x)[:1]}
    starts = {name: _start(some[0]) for name, some in made.items() if some and some[0].is_floating_point()}
    found: dict[str, list[int]] = {}
    for seed in seeds:
        xi = draw_gaussian(seed, [torch.Size([COMPARED])])[0].double()
        for name, start in starts.items():
            if len(start) >= FEWEST and _cosine(xi[: len(start)], start) * len(start) ** 0.5 > STANDARD_ERRORS:
                found.setdefault(name, []).append(seed)
    said = [
        f"the {name} were made from the random numbers of {'directions' if len(twins) > 1 else 'direction'} {listed(twins)}"
        for name, twins in found.items()
    ]
    return (
        f"{' and '.join(said)} (torch.manual_seed): choose a seed far from those of the model and the data"
        if said
        else None
    )


def _start(values: Tensor) -> Tensor:
    flat = values.detach().flatten()[:COMPARED].double().cpu()
    return flat[: len(flat) // 16 * 16]


def _cosine(a: Tensor, b: Tensor) -> float:
    lengths = float(torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b))
    return abs(float(a @ b)) / lengths if lengths > 0 else 0.0
