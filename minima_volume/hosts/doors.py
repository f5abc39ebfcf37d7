"""Entry points: the host that runs a user's model, and the loss that fits its outputs. Both inspect the model first."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.hosts.host import BUILT_HERE, Host, check_initialised, runs_as_its_class, to_evaluation, untouched
from minima_volume.hosts.outputs import close, plain
from minima_volume.hosts.passes import SamplesError, few_of, first_pass, uneven
from minima_volume.hosts.probe import Findings, Probe, Score
from minima_volume.losses.loss import Fit, Loss, LossLike
from minima_volume.losses.registry import built_in, fit, get_loss, reads_outputs_alone
from minima_volume.samples import Samples, count, each, part, tensors
from minima_volume.seeding import normals


def host_of(
    model: nn.Module,
    x: Samples,
    names: Sequence[str],
    device: torch.device | None = None,
    loss: tuple[LossLike, Any] | None = None,
) -> Host:
    """Where perturbed versions of a user's model are run.

    Args:
        model: a trained model; it comes back unchanged, to the bit.
        x: its samples, on its device.
        names: of the parameters that will be perturbed.
        device: where to measure; the model's own by default.
        loss: what reads the outputs, and targets for x: a user's own may read the model, too, which is then measured itself.

    Raises:
        ConfigError: the model's outputs are random, depend on what cannot be put back, or do not depend on these parameters; or its
            copy on another device would not be the same.
    """
    check_initialised(model)
    if built_here(model):
        ours = Host.copy_of(model)
        with torch.no_grad():
            first_pass(ours, part(x, 0, 1))
        ours.module.to(device)
        return ours
    few = few_of(x)
    try:
        found, host, reason = _looked_at(model, few, names, device, loss)
    except SamplesError as error:
        if count(few) == count(x):
            raise
        try:  # it may take whole batches only
            found, host, reason = _looked_at(model, x, names, device, loss)
        except SamplesError:
            raise error from None
    if host is None:
        if device is not None and device != next(model.parameters()).device:
            raise ConfigError(
                f"{type(model).__name__} cannot be measured on {device}: {reason}; move it there yourself, with all that it uses, by "
                f"model.to({str(device)!r}), and leave device out"
            )
        host = Host(model, own=True)
        # its state is that of now: in evaluation mode, with what this pass found kept
        with untouched(model):
            to_evaluation(model)
            found.equip(host)
        return host
    return host


def _looked_at(
    model: nn.Module,
    x: Samples,
    names: Sequence[str],
    device: torch.device | None,
    loss: tuple[LossLike, Any] | None,
) -> tuple[Findings, Host | None, str]:
    with torch.no_grad(), untouched(model):
        to_evaluation(model)
        probe = Probe(model, x, names, _own_loss(loss, count(x)))
        found = probe.look()
        return found, *probe.copied(found, device)


def _own_loss(loss: tuple[LossLike, Any] | None, rows: int) -> Score | None:
    """Outputs -> losses of a user's own function for the first targets; None for a loss that is known to read the outputs alone."""
    if loss is None or reads_outputs_alone(own := get_loss(loss[0])):
        return None
    return partial(own.per_sample, targets=part(loss[1], 0, rows))


_KNOWN: WeakKeyDictionary[nn.Module, Findings] = WeakKeyDictionary()


def evaluation_host(model: nn.Module, x: Samples) -> Host:
    """The user's model itself, where it is run as it is: each pass from the same state. It is looked at when it is first seen.

    Raises:
        ConfigError: see `host_of`.
    """
    if built_here(model):
        return Host(model)
    if model not in _KNOWN:
        with torch.no_grad(), untouched(model):
            to_evaluation(model)
            names = [name for name, _ in model.named_parameters()]
            few = few_of(x)
            _KNOWN[model] = Probe(model, few, names).look(must_be_felt=False)
    return _KNOWN[model].equip(Host(model))


def fit_to(host: Host, x: Samples, y: Any, loss: Loss, class_axis: int | None = None) -> Fit:
    """A loss and targets, made to fit a model's outputs; see `losses.registry.fit`.

    Raises:
        ConfigError: they do not fit.
    """
    if class_axis not in (None, 1):
        same = built_in(loss)  # with the axis that was asked for, not PyTorch's
        if same is None and not loss.batched:
            raise ConfigError(
                f"class_axis {class_axis} applies only to cross_entropy with its default settings; your own loss {loss.name!r} takes outputs "
                "as the model gives them: leave class_axis out"
            )
        loss = same or loss
    axis = host.class_axis if class_axis is None else class_axis
    with torch.no_grad(), host.borrowed():
        rows, some = _outputs(host, x)
        try:
            fitted = fit(loss, some, rows, y, axis)
        except Exception as error:  # a loss of one's own may take all samples only
            if reads_outputs_alone(loss) or _fault(host, x, y, loss, count(few_of(x))) == str(error):
                raise _explained(error, loss) from error
            try:
                return replace(fit(loss, host.run(x), count(x), y, axis), apart=True)
            except Exception as of_all:
                told = error if isinstance(error, ConfigError) else of_all
                raise _explained(told, loss) from told
        apart = fitted.apart or host.coupled or (not fitted.loss.batched and _loss_mixes(host, x, y, fitted.loss))
        mark = "" if host.own or reads_outputs_alone(loss) else _mark(some, part(y, 0, rows), fitted.loss)
    return replace(fitted, apart=apart, mark=mark)


def _outputs(host: Host, x: Samples) -> tuple[int, Any]:
    """How many samples a model takes, and its outputs for them: two, or else all that a probe looks at, or all; then it takes whole batches only."""
    for rows in dict.fromkeys((min(2, count(x)), count(few_of(x)))):
        with contextlib.suppress(Exception):
            return rows, host.run(part(x, 0, rows))
        host.coupled = True
    return count(x), host.run(x)


def _fault(host: Host, x: Samples, y: Any, loss: Loss, rows: int) -> str:
    """What a loss says of so many samples; one that says the same of two and of more has not too few of them."""
    try:
        loss.per_sample(host.run(part(x, 0, rows)), part(y, 0, rows))
    except Exception as error:
        return str(error)
    return ""


def _mark(some: Any, targets: Any, loss: Loss) -> str:
    """See `Fit.mark`: its value, and the shapes of the outputs; empty where outputs of other numbers cannot be made."""
    generator, found = torch.Generator().manual_seed(0), tensors(some)
    if len(found) != len(tensors(plain(some))) or not all(tensor.is_floating_point() for tensor in found):
        return ""
    # numbers that every type holds
    drawn = each(some, lambda tensor: normals(generator, *tensor.shape).bfloat16().to(tensor.device, tensor.dtype))
    try:
        value = float(loss.per_sample(drawn, targets).double().mean())
    except Exception:  # it takes all samples only, or outputs of another kind
        return ""
    return f"{value:.4g} for {', '.join(str(tuple(tensor.shape)) for tensor in found)}" if math.isfinite(value) else ""


def _explained(error: Exception, loss: Loss) -> ConfigError:
    """What a user is told of an exception from the model or a loss of their own."""
    if isinstance(error, ConfigError):
        return error
    reason = " ".join(str(error).split())[:200]
    return ConfigError(
        f"loss {loss.name!r} cannot be computed from what the model returns and the targets: {type(error).__name__}: {reason}"
    )


def _loss_mixes(host: Host, x: Samples, y: Any, loss: Loss) -> bool:
    """Whether a user's loss of one sample depends on the others, as a contrastive one's does."""
    samples = count(few_of(x))
    if samples < 2:
        return False

    def losses(start: int, stop: int) -> Tensor:
        return loss.per_sample(host.run(part(x, start, stop)), part(y, start, stop))

    cut = uneven(samples)
    return not close(torch.cat([losses(0, cut), losses(cut, samples)]), losses(0, samples))


def built_here(model: nn.Module) -> bool:
    """Whether the package built the model, and nobody changed how it runs: then nothing needs to be looked at."""
    return getattr(model, BUILT_HERE, False) is True and all(map(runs_as_its_class, model.modules()))
