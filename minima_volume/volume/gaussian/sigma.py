"""A sigma at which the Gaussian local volumes of a landscape can be compared: neither all near 1 nor out of reach."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
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
MORE_STEPS = 20  # at most, where two digits do not suffice; after them the bracket is as wide as rounding
TOLERANCE = 0.3  # nats that rounding may cost; the default precision of a measurement
DIGITS = 2, 3, 4
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
    """The sigma at which `measure_volume` finds a log mass of about -1.5, to 0.3 nats.

    It has two digits; three or four where a landscape has so many effective dimensions that two would miss by more.

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
    with host.borrowed(), Meter(3 + STEPS, progress) as meter:
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
    """The sigma of log mass -1.5 in the landscape of `size` samples, by bisection with the same particles at every sigma; see `readable_sigma`."""
    steps = itertools.count()

    def target(sigma: float) -> Target:
        return Target(Particles(engine, sigma, [size]), condition)

    if (start := target(1.0).outside()) is not None:
        raise ConfigError(Condition.outside_note(start) + f" ({condition.kind} threshold {condition.threshold:g})")

    def share(sigma: float) -> float:
        on_progress(min(next(steps), 3 + STEPS), f"trying sigma {sigma:.4g}")
        event = target(sigma)
        z = event.empty(SAMPLES).normal_(generator=event.generator(seed))
        inside = event.scores(z[:FIRST]) <= event.threshold
        if abs(inside.mean() - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / FIRST):
            inside = np.append(inside, event.scores(z[FIRST:]) <= event.threshold)
        return float(inside.mean())

    wanted = math.exp(NATIVE_LOG_MASS)
    return readable_sigma(share, wanted, sigma_limits(engine.directions))


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


def readable_sigma(share: Callable[[float], float], wanted: float, limits: tuple[float, float] = USUAL) -> float:
    """The sigma of the fewest digits, two to four, at which the log of a decreasing share is that of `wanted` to 0.3; else of four.

    Of d effective dimensions a log mass changes by about sqrt(d) times as much as log sigma, so that two digits of sigma may be worth many
    nats. Where they are, halving goes on until the share of 400 particles is `wanted` within its standard error, for 20 steps at most.

    Args:
        share, wanted, limits: as of `bracket`.

    Raises:
        ConfigError: as `bracket`.

    >>> share = lambda slope: lambda sigma: np.exp(-np.logaddexp(0, slope * np.log(sigma / 0.10494)))
    >>> readable_sigma(share(4), 0.5), readable_sigma(share(40), 0.5), readable_sigma(share(4000), 0.5)
    (0.1, 0.105, 0.1049)
    """

    def near(sigma: float) -> bool:
        found = share(sigma)
        return found > 0 and abs(math.log(found / wanted)) <= TOLERANCE

    low, high = bracket(share, wanted, limits)
    for _ in range(STEPS):
        low, high = _half(low, high, share(math.sqrt(low * high)) > wanted)
    if near(rounded := round_sigma(math.sqrt(low * high))):
        return rounded
    error = math.sqrt(wanted * (1 - wanted) / SAMPLES)
    for _ in range(MORE_STEPS):
        found = share(math.sqrt(low * high))
        if abs(found - wanted) <= error:
            break
        low, high = _half(low, high, found > wanted)
    tried = [round_sigma(math.sqrt(low * high), digits) for digits in DIGITS]
    return next((sigma for sigma in tried[:-1] if near(sigma)), tried[-1])


def _half(low: float, high: float, above: bool) -> tuple[float, float]:
    """The upper half of a bracket, in log sigma, or the lower one."""
    middle = math.sqrt(low * high)
    return (middle, high) if above else (low, middle)


def bracket(share: Callable[[float], float], wanted: float, limits: tuple[float, float] = USUAL) -> tuple[float, float]:
    """Two sigmas, a factor of 1e5 apart at most, between which a decreasing share of inside particles passes `wanted`.

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
    return low, high


def round_sigma(sigma: float, digits: int = 2) -> float:
    """So many significant digits.

    >>> round_sigma(0.06789), round_sigma(0.06789, 3)
    (0.068, 0.0679)
    """
    return float(f"{sigma:.{digits}g}")


def median_sigma(sigmas: Collection[float]) -> float:
    """The median of rounded sigmas, with as many digits as the middle ones have.

    >>> median_sigma([0.3, 0.1049, 0.068]), median_sigma([0.11, 0.16, 0.5, 0.002])
    (0.1049, 0.14)
    """
    ordered = sorted(sigmas)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    digits = next((d for d in DIGITS if all(round_sigma(sigma, d) == sigma for sigma in middle)), DIGITS[-1])
    return round_sigma(float(np.median(ordered)), digits)
