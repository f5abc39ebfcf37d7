"""Are a model's gradients the slopes of its loss? Looked at before views by derivatives are believed."""

from __future__ import annotations

import math

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.errors import ConfigError
from minima_volume.seeding import generator, normals

RISE = 1.5  # of the loss, where the slope is looked at
STEP = 0.01  # of the distance to there
TOLERANCE = 0.05
DOUBLINGS = 40


def slope_fault(mean_loss: MeanLoss) -> str | None:
    """Why the loss's derivatives cannot be trusted, in words; None if nothing speaks against them.

    A little away from the minimum, where the loss is half as large again, along a seeded random vector the gradient must give the
    slope that two values of the loss give: it does not where forward detaches something, rounds, or replaces a gradient.

    Returns:
        The sentence, or None; also where the loss does not rise, or has no derivative at all (others say that).
    """
    zeros = mean_loss.zeros()
    u = normals(generator(0, "slope"), mean_loss.num_entries).to(zeros)
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


ASYMMETRY = 0.05  # more than rounding makes, relative to the length of the products


def is_symmetric(mean_loss: MeanLoss, seed: int) -> bool:
    """True, or an error: where the Hessian is not symmetric the second derivative of some layer is wrong, and no other sign tells.

    For standard normal u and v the standard deviation of u'Hv - v'Hu is the Frobenius norm of H - H', that of |Hu| about that of H.

    Raises:
        ConfigError: u'Hv and v'Hu differ by more than rounding explains, or there is no Hessian.
    """
    shape, random = (2, mean_loss.num_entries), generator(seed, "symmetry")
    pair = normals(random, *shape).to(mean_loss.zeros())
    products = mean_loss.hessian_product(pair).double()
    (_, first), (second, _) = (products @ pair.double().T).tolist()
    if abs(first - second) > ASYMMETRY * float(products.norm()):
        raise ConfigError(
            f"no Hessian: u'Hv is {first:.4g}, v'Hu {second:.4g} (u and v random): the second derivative of a layer of "
            f"{type(mean_loss.host.module).__name__} is wrong, or its outputs change from pass to pass"
        )
    return True
