"""The four architectures of the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.hosts.host import BUILT_HERE
from minima_volume.isolation import own_defaults
from minima_volume.models.build import MODELS, initial_seed
from minima_volume.models.vit import vit

SIDE = 224  # pixels that vit_b_16 looks at


class LargeViT(nn.Module):
    """torchvision's vit_b_16 on images enlarged to 224 pixels: 86 M parameters."""

    def __init__(self, num_outputs: int) -> None:
        from torchvision.models import vit_b_16  # here, because it takes seconds and most runs do without

        super().__init__()
        self.enlarge = nn.Upsample(size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        self.vit = vit_b_16(num_classes=num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.vit(self.enlarge(x))


def study_vit(input_shape: Sequence[int], num_outputs: int, variant: str = "small", **options: Any) -> nn.Module:
    """The package's small vision transformer, or vit_b_16.

    Raises:
        ConfigError: no such variant, or the options do not fit it.
    """
    if variant == "small":
        return vit(input_shape, num_outputs, **options)
    if variant != "vit_b_16" or options:
        raise ConfigError(
            f"architectures.vit {{variant: {variant!r}, ...}} is not allowed: variant small (with the options of model vit), or "
            "variant vit_b_16 alone"
        )
    return LargeViT(num_outputs)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    **{name: MODELS[name] for name in ("mlp", "cnn", "resnet18")},
    "vit": study_vit,
}
DEFAULTS: dict[str, dict[str, Any]] = {"mlp": {"hidden": [512, 256]}, "cnn": {"channels": [32, 64, 64], "fc": []}}


@own_defaults()
def build_architecture(
    name: str, options: Mapping[str, Any], input_shape: Sequence[int], num_outputs: int, seed: int
) -> nn.Module:
    """One of the four with the initial weights of a seed.

    Args:
        name: mlp, cnn, resnet18 or vit.
        options: of the architecture; what they leave out is as published: an MLP 512-256, a CNN with 32, 64, 64 channels.
        input_shape: (channels, height, width) of an image.
        num_outputs: classes.
        seed: of the initial weights.

    Raises:
        ConfigError: no such architecture, or its options are wrong.
    """
    if name not in BUILDERS:
        raise ConfigError(f"architecture {name!r} is not known; allowed: {', '.join(BUILDERS)}")
    with initial_seed(seed):
        try:
            model = BUILDERS[name](input_shape, num_outputs, **{**DEFAULTS.get(name, {}), **options})
        except TypeError as error:
            raise ConfigError(f"architectures.{name} {dict(options)} does not fit: {error}") from error
    setattr(model, BUILT_HERE, True)
    return model
