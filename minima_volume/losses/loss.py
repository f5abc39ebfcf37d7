"""The protocol of a loss: everything the package asks of one, so that no other file needs to know its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.samples import copied, count, each, tensors

PerSample = Callable[[Any, Any], Tensor]
Root = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss that is the mean of per-sample values, and what belongs to it.

    A built-in loss is `batched`, reads one tensor, and brings `prepare`. A function of the user's takes outputs and targets as they are: a
    tensor, a tuple, a dictionary.

    Attributes:
        name: what config.yaml and messages call it.
        elements: (outputs, targets) -> losses without the feature dimension; leading dimensions of outputs that
            targets lack are batch dimensions.
        margins: (outputs, targets) -> margins, same shape; a sample is right exactly when its margin is > 0, so a tie
            between classes counts as wrong. None if accuracy is undefined.
        prepare: (loss, what it is given) -> the loss and targets that fit a model's outputs, see `registry.fit`.
        trivial: targets (samples, ...) -> loss of the constant output that is best for them; None if it is not known.
        hessian_root: outputs (T, ..., C) -> a map e -> S e for e of shape (B, T, ..., C), where S S' is the Hessian of each sample's loss
            with respect to its outputs; None if that Hessian is not known in closed form, or depends on the targets.
        both: (outputs, targets) -> elements and margins, if that is cheaper than one after the other.
        arrange: (outputs, number of batch dimensions) -> outputs as `elements` and `margins` take them; None: as they are.
        whole: `elements` returns one number for all samples, which need not be a mean over them; a user's function may.
        batched: whether `elements` takes leading batch dimensions; a user's function does not.
        non_negative: whether it is known to be at least 0 for all outputs and targets.
        vector_targets: whether targets have the feature dimension of the outputs, so that a sample has one margin.
        torch_name: of the same loss in `torch.nn.functional`, for advice.
        trial_threshold: a loss threshold that a small model reaches in a few epochs, for trial runs.
    """

    name: str
    elements: PerSample
    margins: PerSample | None = None
    prepare: Callable[[Loss, Given], Fit] | None = None
    trivial: Callable[[Tensor], float] | None = None
    hessian_root: Callable[[Tensor], Root] | None = None
    both: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    arrange: Callable[[Tensor, int], Tensor] | None = None
    whole: bool = False
    batched: bool = True
    non_negative: bool = False
    vector_targets: bool = False
    torch_name: str | None = None
    trial_threshold: float | None = None

    def read(self, outputs: Any, batch_dims: int = 0) -> Any:
        """A model's outputs as `elements` and `margins` take them."""
        return outputs if self.arrange is None else self.arrange(outputs, batch_dims)

    def with_margins(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Elements and margins of outputs that have been read."""
        if self.both is not None:
            return self.both(outputs, targets)
        assert self.margins is not None
        return self.elements(outputs, targets), self.margins(outputs, targets)

    def per_sample(self, outputs: Any, targets: Any) -> Tensor:
        """Losses of a plain forward pass, shape (samples,): the mean over tokens or outputs if there are several.

        Raises:
            ConfigError: a user's loss returned something else than one value per sample.
        """
        if not self.batched:
            return self._own(outputs, targets)
        losses = self.elements(self.read(outputs), targets)
        return losses.flatten(1).mean(1) if losses.ndim > 1 else losses

    def sample_margins(self, outputs: Any, targets: Any) -> Tensor:
        """Margins (samples, ...) of a plain forward pass, or NaN for each sample if accuracy is undefined."""
        if self.margins is None:
            return torch.full((count(targets),), torch.nan, dtype=torch.float32, device=tensors(targets)[0].device)
        return self.margins(self.read(outputs), targets)

    def answers(self, targets: Any) -> int:
        """How many margins one sample has: one, or one per token."""
        return 1 if self.margins is None or self.vector_targets else int(targets[0].numel())

    def _own(self, outputs: Any, targets: Any) -> Tensor:
        """A user's loss, which may work on its arguments in place; one of all samples stands for each of them."""
        samples, losses = count(targets), self._returned(outputs, targets)
        if losses.ndim == 0:
            return losses.expand(samples)
        if losses.shape not in ((samples,), (samples, 1)):
            several = losses.ndim > 1 and len(losses) == samples
            advice = "; if these are several of each sample, average them: losses.flatten(1).mean(1)" if several else ""
            raise ConfigError(
                f"loss {self.name!r} must return one value per sample, shape ({samples},), got {tuple(losses.shape)}{advice}"
            )
        return losses.reshape(samples)

    def _returned(self, outputs: Any, targets: Any) -> Tensor:
        losses = self.elements(outputs, copied(targets))
        if not isinstance(losses, Tensor):
            raise ConfigError(
                f"loss {self.name!r} returns a {type(losses).__name__}; it must return a tensor: one loss per sample, or one of all"
            )
        return losses

    def returns_one(self, outputs: Any, targets: Any) -> bool:
        """Whether a user's loss gives one number for all samples.

        Raises:
            ConfigError: it gives no tensor, or another number for the same outputs and targets.
        """
        first, second = (self._returned(each(outputs, torch.clone), targets) for _ in range(2))
        if first.shape != second.shape or not torch.allclose(first, second, rtol=1e-4, atol=1e-8, equal_nan=True):
            raise ConfigError(
                f"loss {self.name!r} gives other values for the same outputs and targets: a volume needs a loss without randomness "
                "that keeps nothing between calls"
            )
        return first.ndim == 0


LossLike = str | PerSample | Loss  # a name or path, a function, or a loss itself


@dataclass(frozen=True)
class Given:
    """What a built-in loss is fitted to.

    Attributes:
        shape: of the model's outputs, for as many samples as there are targets.
        dtype: of the outputs.
        targets: as the user gave them, (samples, ...).
        class_axis: which axis of the outputs counts classes, if the user said so.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    targets: Tensor
    class_axis: int | None = None

    def refuse_class_axis(self, loss: Loss) -> None:
        """Raise ConfigError if a class axis was given to a loss that has no classes."""
        if self.class_axis is not None:
            raise ConfigError(f"class_axis {self.class_axis} applies only to cross_entropy, not to loss {loss.name!r}")


@dataclass(frozen=True)
class Fit:
    """A loss that belongs to a model's outputs and to targets.

    Attributes:
        loss: reads these outputs, and has margins if accuracy is defined.
        targets: in the type and shape it needs.
        note: what a reader must know about how they were read, or None.
        apart: whether a landscape must be evaluated in one piece.
        mark: of a user's own loss, its value for outputs that are always the same, and their shapes: what tells two losses of one name apart.
    """

    loss: Loss
    targets: Any
    note: str | None = None
    apart: bool = False
    mark: str = ""


def one_row(outputs: Tensor, batch_dims: int) -> Tensor:
    """(..., samples, entries); a model that squeezes its outputs drops the dimension of a single sample, too."""
    if outputs.ndim <= batch_dims + 1:
        return outputs.reshape(*outputs.shape[:batch_dims], -1, 1)
    return outputs.flatten(batch_dims + 1)


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without extents of 1."""
    return tuple(extent for extent in shape if extent != 1)


def rival(outputs: Tensor, mask: Tensor) -> Tensor:
    """The largest output where the mask is not; an addition keeps the memory layout, which filling does not."""
    excluded = torch.zeros_like(mask, dtype=outputs.dtype).masked_fill_(mask, -torch.inf)
    return (outputs + excluded).amax(-1)
