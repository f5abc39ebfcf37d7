"""A sigma at which the Gaussian local volumes of a landscape can be compared: neither all near 1 nor out of reach."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from minima_volume.arguments import check_names, check_seed
from minima_volume.errors import ConfigError
from minima_volume.execution.meter import Meter
from minima_volume.isolation import isolated
from minima_volume.losses.loss import LossLike
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.given import prepare
from minima_volume.perturbation.particles import Particles
from minima_volume.samples import Samples, count
from minima_volume.volume.condition import Condition, condition_of
from minima_volume.volume.gaussian.event import Target

NATIVE_LOG_MASS = -1.5
SAMPLES, STEPS = 400, 10
FIRST = 100  # particles that decide where their share is far from the wanted one
USUAL = 1e-4, 10.0  # where a sigma is looked for first
WIDER = 1e5  # and then in steps of this factor


@isolated
def suggest_sigma(
    model: nn.Module,
    x: Samples | DataLoader[Any] | Dataset[Any],
    y: Any = None,
    loss: LossLike = "cross_entropy",
    *,
    threshold: float | None = None,
    accuracy_threshold: float | None = None,
    seed: int = 1,
    scaling: str = "filter",
    names: str | Sequence[str] = "weight_bias",
    class_axis: int | None = None,
    memory_gib: float = 2.0,
    progress: bool = True,
) -> float:
    """The sigma at which `measure_volume` finds a log mass of about -1.5.

    Ask for the largest minimum that you compare (trained on the least data) and measure all of them at its sigma. Arguments as
    of `measure_volume`; it computes where the model is, so give `model.to(device)` for another device.

    Raises:
        ConfigError: an argument is not allowed, the model is outside, or no sigma that its weights can resolve reaches that log mass.

    >>> import torch
    >>> x, model = torch.eye(4), nn.Linear(4, 1, bias=False)
    >>> sigma = suggest_sigma(model, x, model(x).detach(), "mse", threshold=0.1, scaling="none")
    >>> bool(abs(sigma - 0.43) < 0.04)  # P[chi-square with 4 degrees <= 4 * 0.1 / sigma^2] = exp(-1.5)
    True
    """
    condition = condition_of(threshold, accuracy_threshold, signed=True)
    seed, names = check_seed(seed), check_names(names)
    host, x, y, _ = prepare(model, x, y, names, None, loss)
    with host.borrowed(), Meter(2 + STEPS, progress) as meter:
        engine = LossEngine(
            host, x, y, loss, scaling=scaling, names=names, class_axis=class_axis, memory_gib=memory_gib
        )
        condition.check_loss(engine.loss)
        engine.check(seed)
        return fitting_sigma(engine, condition, count(x), seed, meter.at)


def fitting_sigma(
    engine: LossEngine,
    condition: Condition,
    size: int,
    seed: int,
    on_progress: Callable[[float, str], None] = lambda step, text: None,
) -> float:
    """The sigma of log mass -1.5 in the landscape of `size` samples, by bisection with the same particles at every sigma."""
    steps = itertools.count()

    def target(sigma: float) -> Target:
        return Target(Particles(engine, sigma, [size]), condition)

    if (start := target(1.0).outside()) is not None:
        raise ConfigError(Condition.outside_note(start) + f" ({condition.kind} threshold {condition.threshold:g})")

    def share(sigma: float) -> float:
        on_progress(next(steps), f"trying sigma {sigma:.2g}")
        event = target(sigma)
        z = event.empty(SAMPLES).normal_(generator=event.generator(seed))
        inside = event.scores(z[:FIRST]) <= event.threshold
        if abs(inside.mean() - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / FIRST):
            inside = np.append(inside, event.scores(z[FIRST:]) <= event.threshold)
        return float(inside.mean())

    wanted = math.exp(NATIVE_LOG_MASS)
    return round_sigma(bisect(share, wanted, sigma_limits(engine.directions)))


def sigma_limits(directions: Directions) -> tuple[float, float]:
    """The smallest and the largest sigma that mean something.

    Below, sigma F z is lost in the rounding of every parameter tensor; above, theta* is, and weights of size 1 would be.

    >>> model = nn.Linear(4, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 1000.0)
    >>> [f"{sigma:.1e}" for sigma in sigma_limits(Directions.of(model, "none"))]
    ['1.2e-04', '8.4e+09']
    """
    moved = zip(directions.minimum, directions.factors, strict=True)
    norms = [(float(tensor.norm()), float(factor.expand(tensor.shape).norm())) for tensor, factor in moved]
    scales = [norm / factor for norm, factor in norms if norm > 0 and factor > 0] or [1.0]
    eps = torch.finfo(directions.minimum[0].dtype).eps
    return eps * min(scales), max(1.0, *scales) / eps


def bisect(share: Callable[[float], float], wanted: float, limits: tuple[float, float] = USUAL) -> float:
    """The sigma at which a decreasing share of inside particles passes `wanted`, to 1 %, in log sigma.

    Args:
        share: of the particles that are inside, at a sigma.
        wanted: share.
        limits: the smallest and the largest sigma that are tried, 1e-4 to 10 first.

    Raises:
        ConfigError: it does not pass `wanted` between them.
    """
    first = low, high = max(USUAL[0], limits[0]), min(max(USUAL[1], WIDER * limits[0]), limits[1])
    above, below = share(low), share(high)
    while above < wanted and low > limits[0]:
        low, high, below = max(limits[0], low / WIDER), low, above
        above = share(low)
    while below > wanted and high < limits[1]:
        low, high, above = high, min(limits[1], high * WIDER), below
        below = share(high)
    if above < wanted:
        raise ConfigError(
            f"no sigma in [{low:g}, {first[1]:g}] reaches log mass {NATIVE_LOG_MASS}: even at the smallest only "
            f"{above:.3f} of the particles are inside; the minimum is at its threshold, or narrower than rounding: raise the threshold"
        )
    if below > wanted:
        raise ConfigError(
            f"no sigma in [{first[0]:g}, {high:g}] reaches log mass {NATIVE_LOG_MASS}: even at the largest "
            f"{below:.3f} of the particles are inside; the threshold is hardly ever passed: lower it"
        )
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if share(middle) > wanted else (low, middle)
    return math.sqrt(low * high)


def round_sigma(sigma: float) -> float:
    """Two significant digits.

    >>> round_sigma(0.06789)
    0.068
    """
    return float(f"{sigma:.2g}")
