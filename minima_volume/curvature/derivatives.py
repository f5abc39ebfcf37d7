"""Are a model's derivatives those of its loss? Before curvatures are believed, slopes and symmetry are compared."""

from __future__ import annotations

import math

import torch

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.errors import ConfigError
from minima_volume.seeding import generator

RISE = 1.5  # of the loss, where the slope is looked at
STEP = 0.01  # of the distance to there
TOLERANCE = 0.05
DOUBLINGS = 40


def derivative_fault(mean_loss: MeanLoss) -> str | None:
    """Why the loss's derivatives cannot be trusted, in words; None where nothing speaks against them.

    Two things are looked at along seeded random vectors. A little away from the minimum, where the loss is half as large again, the
    gradient must give the slope that two values of the loss give: it does not where forward detaches something, rounds, or replaces
    a gradient. And u'Hv must equal v'Hu, which a wrong derivative of a gradient breaks.

    Returns:
        The sentence, or None; also where the loss does not rise, or the loss has no derivative at all (others say that).
    """
    return _slope_fault(mean_loss) or _symmetry_fault(mean_loss)


def _slope_fault(mean_loss: MeanLoss) -> str | None:
    zeros = mean_loss.zeros()
    u = _random(mean_loss, "slope")
    u = u / u.norm()
    start = mean_loss.value()
    goal, distance = RISE * start + 1e-9, 1e-4
    for _ in range(DOUBLINGS):
        value = mean_loss.value(zeros + distance * u)
        if not math.isfinite(value) or value > goal:
            break
        distance *= 2
    if not goal < value < 100 * goal + 1:
        return None
    try:
        gradient = mean_loss.gradient(zeros + distance * u)[1]
    except ConfigError:
        return None
    slope = float(gradient.double() @ u.double())
    step = STEP * distance
    sides = [mean_loss.value(zeros + (distance + sign * step) * u) for sign in (-1, 1)]
    measured = (sides[1] - sides[0]) / (2 * step)
    if not math.isfinite(measured) or not math.isfinite(slope):
        return None
    noise = 1e-4 * value / distance
    if abs(measured - slope) <= TOLERANCE * max(abs(measured), abs(slope)) + noise:
        return None
    return (
        f"the gradient of {type(mean_loss.host.module).__name__} is not the slope of its loss ({slope:.3g} where the loss itself rises by "
        f"{measured:.3g}): its forward pass detaches something, rounds, or replaces a gradient"
    )


def _symmetry_fault(mean_loss: MeanLoss) -> str | None:
    u, v = _random(mean_loss, "first"), _random(mean_loss, "second")
    try:
        products = mean_loss.hessian_product(torch.stack([u, v])).double()
    except ConfigError:
        return None
    one, other = float(u.double() @ products[1]), float(v.double() @ products[0])
    size = float(max(u.double().norm(), v.double().norm()) * products.norm(dim=1).max())
    if not math.isfinite(size) or abs(one - other) <= 0.1 * max(abs(one), abs(other)) + 1e-4 * size:
        return None
    return (
        f"the second derivatives of {type(mean_loss.host.module).__name__} are not symmetric: a layer, or loss {mean_loss.loss.name!r}, "
        "has a gradient whose own derivative is wrong"
    )


def _random(mean_loss: MeanLoss, purpose: str) -> torch.Tensor:
    random = generator(0, f"derivatives, {purpose}")
    return torch.randn(mean_loss.num_entries, generator=random, dtype=torch.float32, device="cpu").to(mean_loss.zeros())
