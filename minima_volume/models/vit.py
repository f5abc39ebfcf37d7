"""torchvision's vision transformer for small images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from minima_volume.errors import ConfigError


def vit(
    input_shape: Sequence[int],
    num_outputs: int,
    patch_size: int = 4,
    num_layers: int = 6,
    num_heads: int = 4,
    hidden_dim: int = 128,
    mlp_dim: int = 256,
) -> nn.Module:
    """A vision transformer without dropout.

    The class token and the position embeddings are parameters whose names end in neither weight nor bias: directions leave
    them alone unless `perturbation.names` is `all`.

    Args:
        input_shape: (channels, height, width) of one sample, a square.
        num_outputs: outputs.
        patch_size: side of a patch; divides the side of the image.
        num_layers, num_heads, hidden_dim, mlp_dim: as torchvision calls them.

    Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words".
    """
    from torchvision.models import VisionTransformer  # here, because it takes seconds and most runs do without

    if len(input_shape) != 3 or input_shape[1] != input_shape[2] or input_shape[1] % patch_size:
        raise ConfigError(
            f"model vit needs square samples (channels, size, size) whose size patch_size {patch_size} divides, "
            f"got {tuple(input_shape)}"
        )
    if hidden_dim % num_heads:
        raise ConfigError(f"model vit: hidden_dim {hidden_dim} must be a multiple of num_heads {num_heads}")
    channels, size, _ = input_shape
    model = VisionTransformer(size, patch_size, num_layers, num_heads, hidden_dim, mlp_dim, num_classes=num_outputs)
    model.conv_proj = nn.Conv2d(channels, hidden_dim, patch_size, patch_size)
    nn.init.trunc_normal_(model.conv_proj.weight, std=math.sqrt(1 / (channels * patch_size**2)))  # as torchvision does
    nn.init.zeros_(model.conv_proj.bias)
    return model
