"""torchvision's ResNet-18 for small images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from minima_volume.errors import ConfigError


def resnet18(input_shape: Sequence[int], num_outputs: int) -> nn.Module:
    """ResNet-18 with the usual stem for small images: one 3 x 3 convolution of stride 1, and no max-pooling after it.

    It has batch normalisation: directions move its weights and biases, its running statistics stay as they were trained.

    Args:
        input_shape: (channels, height, width) of one sample.
        num_outputs: outputs.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2 for the stem.
    """
    from torchvision.models import resnet18 as build  # here, because it takes seconds and most runs do without

    if len(input_shape) != 3:
        raise ConfigError(f"model resnet18 needs samples of shape (channels, height, width), got {tuple(input_shape)}")
    model = build(num_classes=num_outputs)
    model.conv1 = nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does for all
    model.maxpool = nn.Identity()
    return model
