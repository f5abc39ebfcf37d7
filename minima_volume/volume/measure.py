"""The front door: the volume of one minimum of a person's own model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.errors import ConfigError
from minima_volume.isolation import isolated
from minima_volume.losses.loss import LossLike
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.given import prepare
from minima_volume.perturbation.repeated_numbers import repeated_numbers_note
from minima_volume.samples import Samples
from minima_volume.training.second_moments import adam_second_moments
from minima_volume.volume.condition import condition_of
from minima_volume.volume.context import Context
from minima_volume.volume.gaussian.estimate import LocalVolume, VolumeProfile, measure_local
from minima_volume.volume.gaussian.settings import Gaussian
from minima_volume.volume.keywords import Keywords, settings_of, with_keywords
from minima_volume.volume.star.estimate import VolumeEstimate, measurable, measure_rays
from minima_volume.volume.star.importance import Damped, damped_preconditioner, default_preconditioner
from minima_volume.volume.star.preconditioner import Preconditioner
from minima_volume.volume.star.settings import Rays
from minima_volume.volume.trivial import plateau_note

if TYPE_CHECKING:
    from typing_extensions import Unpack


@with_keywords
@isolated
def measure_volume(
    model: nn.Module,
    x: Samples | DataLoader[Any] | Dataset[Any],
    y: Any = None,
    loss: LossLike = "cross_entropy",
    *,
    threshold: float | None = None,
    accuracy_threshold: float | None = None,
    how: Gaussian | Rays | None = None,
    class_axis: int | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    **keywords: Unpack[Keywords],
) -> LocalVolume | VolumeProfile | VolumeEstimate:
    """Measure how large a minimum is.

    With `how=Gaussian(sigma=...)` the Gaussian local volume, log_mass(sigma) = log P[L(theta* + sigma F z) <= threshold], z standard
    normal: how likely a random perturbation of size sigma leaves the model a minimum. With `how=Rays(...)` the published number,
    the volume of the star region, from random directions that are followed until the loss passes the threshold.

    The fields of these settings can also be given directly as keywords: `sigma=0.1` is `how=Gaussian(sigma=0.1)`, and
    `measure="ball", num_directions=100` is `how=Rays(measure="ball", num_directions=100)`. A keyword that does not belong to the measure
    is an error.

    Args:
        model: a trained model; it comes back unchanged.
        x: (N, ...) inputs, one landscape; a tuple of tensors if the model takes several inputs, a dictionary if it takes them by name;
            or a DataLoader or Dataset of pairs (inputs, targets), which is read once and held in memory.
        y: (N, ...) targets; left out with a DataLoader or Dataset.
        loss: `cross_entropy`, `bce_with_logits`, `mse` (mean over outputs), or a callable (outputs, targets) -> (N,) losses,
            or one loss of all samples. The callable gets the outputs as the model returns them: a tensor, a tuple, a dictionary.
        threshold: the loss that ends the minimum; of `Gaussian` it may be 0 or negative where the loss may be (a log-likelihood).
        accuracy_threshold: instead of a loss: the fraction of samples that must stay right.
        how: what is measured and how; None: as the keywords say.
        class_axis: of `cross_entropy`: the axis of the outputs that counts classes. By default axis 1, as PyTorch has it, (N, C) or
            (N, C, d1, ...), and the last if only that fits the labels; if both fit, the result says which was taken.
        device: where to compute; the model's by default.
        progress: show a progress bar.
        keywords: `measure` (`gaussian`, the default, `lebesgue` or `ball`), and the fields of `Gaussian` or of `Rays`.

    Returns:
        The estimate with its diagnostics: of `Gaussian` a LocalVolume, or a VolumeProfile if there are several sigmas; of `Rays` a
        VolumeEstimate. Each knows what it was measured on (`context`), and can be compared, tabled, drawn, saved and loaded.

    The model is measured in evaluation mode (no dropout, running statistics of BatchNorm). What the caller has set makes
    no difference: gradients off, inference mode, autocast, torch's default type and device. Parameters with
    requires_grad=False are perturbed like all others; leave them out with `names`. A few forward passes first make sure that the
    model's outputs are a function of its parameters and inputs (see `hosts.doors`): what forward keeps between passes is put back
    before each, and a model that mixes the samples of a batch gets each landscape as one batch.

    Raises:
        ConfigError: an argument is not allowed, or the model cannot be measured rightly (its outputs are random, for example).
        UnboundedError: `lebesgue`, and some direction never crosses the threshold.

    >>> _ = torch.manual_seed(0)
    >>> x, model = torch.randn(64, 3), nn.Linear(3, 1, bias=False)
    >>> y = model(x).detach()
    >>> measure_volume(model, x, y, "mse", threshold=0.1, sigma=0.1, progress=False).log_mass
    0.0
    >>> rays = Rays(measure="ball", num_directions=2000)
    >>> estimate = measure_volume(model, x, y, "mse", threshold=0.1, how=rays, progress=False)
    >>> hessian = 2 * x.T @ x / 64
    >>> exact = np.log(4 / 3 * np.pi) + 1.5 * np.log(2 * 0.1) - 0.5 * torch.logdet(hessian).item()
    >>> bool(abs(estimate.log_volume - exact) < 0.1)
    True
    """
    chosen = settings_of(how, keywords)
    condition = condition_of(threshold, accuracy_threshold, signed=isinstance(chosen, Gaussian))
    host, x, y, read = prepare(model, x, y, chosen.names, device, loss)
    with host.borrowed():
        engine = LossEngine(
            host,
            x,
            y,
            loss,
            scaling=chosen.scaling,
            names=chosen.names,
            class_axis=class_axis,
            memory_gib=chosen.memory_gib,
        )
        if condition.kind == "accuracy" and np.isnan(engine.start.accuracy).any():
            raise ConfigError(
                f"accuracy is undefined for loss {engine.loss.name!r} on these targets; give a loss threshold, not accuracy_threshold"
            )
        condition.check_loss(engine.loss)
        engine.check(chosen.seed)
        notes = "; ".join(filter(None, (*engine.notes, read, plateau_note(engine.loss, engine.y, condition))))
        context = Context.of(condition, (engine.loss.name, engine.loss_mark), x, y, chosen)
        if isinstance(chosen, Gaussian):
            return measure_local(engine, condition, chosen, context, notes, progress)
        preconditioner: Preconditioner | Damped | None = None
        if chosen.importance and measurable(engine, condition):
            moments = chosen.second_moments
            if isinstance(moments, torch.optim.Optimizer):
                moments = adam_second_moments(model, moments)
            mean_loss = MeanLoss.of(host, x, y, loss, scaling=chosen.scaling, names=chosen.names, class_axis=class_axis)
            preconditioner = _preconditioner(mean_loss, chosen, moments)
        estimate = measure_rays(engine, condition, chosen, context, preconditioner, progress)
        repeated = repeated_numbers_note(engine.directions, estimate.seeds.tolist(), x)
        notes = "; ".join(filter(None, (notes, repeated)))
    return replace(estimate, verdict=f"{estimate.verdict}; {notes}") if notes else estimate


def _preconditioner(
    mean_loss: MeanLoss, how: Rays, second_moments: Mapping[str, Tensor] | None
) -> Preconditioner | Damped:
    """What was asked for: ready, or still to be damped."""
    if isinstance(how.preconditioner, Preconditioner):
        return how.preconditioner
    name = how.preconditioner or default_preconditioner(mean_loss.directions.num_params)
    damped = damped_preconditioner(name, mean_loss, second_moments, seed=how.seed)
    if how.damping is None:
        return damped
    ready = damped(how.damping)
    if ready is None:
        raise ConfigError(
            f"damping {how.damping:g} is too small: the curvature is 0 in some direction; leave damping out"
        )
    return ready
