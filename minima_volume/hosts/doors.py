"""Entry points: the host that runs a user's model, and the loss that fits its outputs. Both inspect the model first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.hosts.host import BUILT_HERE, Host, check_initialised, runs_as_its_class, untouched
from minima_volume.hosts.outputs import close
from minima_volume.hosts.probe import Findings, Probe, few_of, first_pass
from minima_volume.losses.loss import Fit, Loss
from minima_volume.losses.registry import fit
from minima_volume.samples import Samples, count, part


def host_of(model: nn.Module, x: Samples, names: Sequence[str], device: torch.device | None = None) -> Host:
    """Where perturbed versions of a user's model are run.

    Args:
        model: a trained model; it comes back unchanged, to the bit.
        x: its samples, on its device.
        names: of the parameters that will be perturbed.
        device: where to measure; the model's own by default.

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
    with torch.no_grad(), untouched(model):
        model.eval()
        probe = Probe(model, few, names)
        found = probe.look()
        host, reason = probe.copied(found, device)
    if host is None:
        if device is not None and device != next(model.parameters()).device:
            raise ConfigError(
                f"{type(model).__name__} cannot be measured on {device}: {reason}; move it there yourself with model.to({str(device)!r})"
            )
        host = Host(model, own=True)
        # its state is that of now: in evaluation mode, with what this pass found kept
        with untouched(model):
            model.eval()
            found.equip(host)
        return host
    return host


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
            model.eval()
            names = [name for name, _ in model.named_parameters()]
            few = few_of(x)
            _KNOWN[model] = Probe(model, few, names).look(must_be_felt=False)
    return _KNOWN[model].equip(Host(model))


def fit_to(host: Host, x: Samples, y: Any, loss: Loss, class_axis: int | None = None) -> Fit:
    """A loss and targets, made to fit a model's outputs; see `losses.fit`.

    Raises:
        ConfigError: they do not fit.
    """
    rows = min(2, count(x))
    with torch.no_grad(), host.borrowed():
        some = host.run(part(x, 0, rows))
        fitted = fit(loss, some, rows, y, host.class_axis if class_axis is None else class_axis)
        apart = fitted.apart or host.coupled or (not loss.batched and _loss_mixes(host, x, y, fitted.loss))
    return replace(fitted, apart=apart)


def _loss_mixes(host: Host, x: Samples, y: Any, loss: Loss) -> bool:
    """Whether a user's loss of one sample depends on the others, as a contrastive one's does."""
    samples = count(few_of(x))
    if samples < 2:
        return False

    def losses(start: int, stop: int) -> Tensor:
        return loss.per_sample(host.run(part(x, start, stop)), part(y, start, stop))

    pieces = torch.cat([losses(0, samples // 2), losses(samples // 2, samples)])
    return not close(pieces, losses(0, samples))


def built_here(model: nn.Module) -> bool:
    """Whether the package built the model, and nobody changed how it runs: then nothing needs to be looked at."""
    return getattr(model, BUILT_HERE, False) is True and all(map(runs_as_its_class, model.modules()))
