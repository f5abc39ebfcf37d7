"""The module that perturbed models are run in: a copy of the user's model, or the model itself where a copy is not the same."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.hosts.kept_state import KeptState, Place
from minima_volume.samples import Samples, copied, run
from minima_volume.seeding import random_state_kept

BUILT_HERE = "built_by_minima_volume"  # attribute of the package's own models


@dataclass
class Host:
    """Where parameters are written and forward passes are run, each from the same state.

    Attributes:
        module: a copy, or with `own` the user's model, borrowed for the time of a measurement.
        own: whether it is the user's model.
        coupled: whether the outputs for a sample depend on the other samples of its batch; then a landscape is run in one piece.
        kept: what passes write and is put back after each.
        emptied: attributes that hold something of an earlier pass, and are emptied before each.
        draws: whether passes draw random numbers (that do not change their outputs).
        rewritten: parameters that a pass writes to (norms that it keeps in bounds), and that are put back after each.
        notes: what a reader of a result must know.
    """

    module: nn.Module
    own: bool = False
    coupled: bool = False
    kept: KeptState | None = None
    emptied: tuple[Place, ...] = ()
    draws: bool = False
    rewritten: tuple[nn.Parameter, ...] = ()
    notes: tuple[str, ...] = ()
    _depth: int = field(default=0, repr=False)

    @classmethod
    def copy_of(cls, model: nn.Module) -> Host:
        """A copy in evaluation mode that was not compared with the model: for models that this package built."""
        module = copy.deepcopy(model).requires_grad_(False).eval()
        for part in module.modules():
            if isinstance(part, nn.RNNBase):
                part.flatten_parameters()  # else a GPU gathers them anew at each pass
        return cls(module)

    def parameters(self, names: Sequence[str]) -> list[nn.Parameter]:
        """The parameters to write to, in this order."""
        have = dict(self.module.named_parameters())
        return [have[name] for name in names]

    @property
    def class_axis(self) -> int | None:
        """Which axis of its outputs counts classes, where the model declares it."""
        axis = getattr(self.module, "class_axis", None)
        return axis if isinstance(axis, int) else None

    def run(self, x: Samples, read: Callable[[Any], Any] | None = None) -> Any:
        """One forward pass that leaves the samples and everything that the module keeps as they were.

        Args:
            x: the samples.
            read: what to make of the outputs before that is put back; by default they are returned as they are.
        """
        with contextlib.ExitStack() as held:
            if self.draws:
                held.enter_context(random_state_kept())
            if self.rewritten:
                held.enter_context(put_back(self.rewritten))
            if self.kept is not None:
                held.callback(self.kept.put_back)
                self.kept.prepare()
                for place in self.emptied:
                    assert place.empty is not None
                    place.empty()
            outputs = run(self.module, copied(x))
            return outputs if read is None else read(outputs)

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[None]:
        """Inside the block the user's own model is used; afterwards it is restored bit for bit. A copy needs nothing."""
        if not self.own or self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        with untouched(self.module):
            to_evaluation(self.module)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1


@contextlib.contextmanager
def put_back(parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Restore parameters afterwards, where they lie and what they hold; gives what they held."""
    places = [parameter.data for parameter in parameters]
    saved = [place.clone() for place in places]
    try:
        yield saved
    finally:
        for parameter, place, held in zip(parameters, places, saved, strict=True):
            parameter.data = place.copy_(held)


@contextlib.contextmanager
def untouched(module: nn.Module) -> Iterator[KeptState]:
    """Put back parameters, their gradients and flags, modes, buffers and everything else that a module holds, whatever happens."""
    kept = KeptState(module)
    modes = [(part, part.training) for part in module.modules()]
    parameters = [(p, p.detach().clone(), p.grad, p.requires_grad) for p in module.parameters()]

    def restore() -> None:
        for part, mode in modes:
            if part.training != mode:
                part.training = mode
        with torch.no_grad():
            for parameter, saved, grad, flag in parameters:
                parameter.data.copy_(saved)
                parameter.grad = grad
                parameter.requires_grad_(flag)
        kept.put_back()

    with random_state_kept():
        try:
            yield kept
        finally:
            try:
                restore()
            except KeyboardInterrupt:  # a second Ctrl-C: first finish
                restore()
                raise


def check_initialised(model: nn.Module) -> None:
    """Refuse lazy modules that do not know their shapes yet.

    Raises:
        ConfigError: names them.
    """
    lazy = [name for name, tensor in model.named_parameters() if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise ConfigError(
            f"{type(model).__name__} has parameters without a shape ({', '.join(lazy)}): run the model once on a sample, "
            "and train it, before it is measured"
        )


def to_evaluation(model: nn.Module) -> None:
    """Switch to evaluation mode.

    Raises:
        ConfigError: the model cannot be switched, as what `torch.export` made cannot.
    """
    try:
        model.eval()
    except Exception as error:
        raise ConfigError(
            f"{type(model).__name__} cannot be put into evaluation mode, in which models are measured: eval() raises "
            f"{type(error).__name__}: {error} Give the module that it was made from"
        ) from error


def runs_as_its_class(module: nn.Module) -> bool:
    """Whether calling the module runs its class's forward and nothing else."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return not hooks and "forward" not in vars(module) and type(module).__call__ is nn.Module.__call__
