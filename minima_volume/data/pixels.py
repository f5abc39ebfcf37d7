"""Images of bytes as the inputs of a model, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1000  # images at a time, so that no copy of all of them is made on the way back


@dataclass(frozen=True)
class Pixels:
    """How a source makes inputs of its images: (byte / 255 - mean) / std in float32, with a mean and a deviation for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def inputs(self, images: Tensor) -> Tensor:
        """Images (N, channels, height, width) of bytes as float32 inputs of the same shape.

        >>> Pixels((0.5,), (0.25,)).inputs(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist()
        [[[[-2.0, 2.0]]]]
        """
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (self.mean, self.std))
        return images.contiguous().float().div_(255).sub_(mean).div_(std)

    def images(self, inputs: Tensor) -> Tensor | None:
        """The bytes that `inputs` makes these inputs of, bit for bit; None if there are none (inputs that were made up)."""
        if inputs.dtype != torch.float32 or inputs.ndim != 4 or inputs.shape[1] != len(self.mean):
            return None
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (self.mean, self.std))
        found = torch.empty(inputs.shape, dtype=torch.uint8)
        for chunk, images in zip(inputs.split(CHUNK), found.split(CHUNK), strict=True):
            images.copy_(chunk.mul(std).add_(mean).mul_(255).round_().clamp_(0, 255))
            if not torch.equal(self.inputs(images).view(torch.int32), chunk.contiguous().view(torch.int32)):
                return None
        return found
