"""A model by name, from a seed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from minima_volume.config.run import Config
from minima_volume.errors import ConfigError
from minima_volume.files.user_code import load_object
from minima_volume.hosts.host import BUILT_HERE
from minima_volume.isolation import own_defaults
from minima_volume.models.cnn import CNN
from minima_volume.models.mlp import MLP
from minima_volume.models.resnet import resnet18
from minima_volume.models.transformer import Transformer
from minima_volume.models.vit import vit
from minima_volume.seeding import generator

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet18": resnet18,
    "vit": vit,
    "transformer": Transformer,
}


@contextlib.contextmanager
def initial_seed(seed: int) -> Iterator[None]:
    """Inside the block initial weights are those of a seed; afterwards the global generator is as it was.

    They do not begin at the seed itself: direction `seed` does, and would then be correlated with the weights.
    """
    with torch.random.fork_rng(devices=[]):  # nn.Module constructors only know the global generator
        torch.default_generator.manual_seed(generator(seed, "initial weights").initial_seed())
        yield


@own_defaults()
def build_model(config: Config, input_shape: Sequence[int], num_outputs: int, folder: Path | None = None) -> nn.Module:
    """Build the configured model with PyTorch's default initial weights from the model seed.

    The global generator is left as it was.

    Args:
        config: a resolved configuration (with a model seed).
        input_shape: shape of one sample.
        num_outputs: number of outputs.
        folder: the run folder, where a user's own .py model is looked for.

    Raises:
        ConfigError: no such model, or its options are wrong.
    """
    name, options = config.model.name, config.model.options
    if ":" in name:
        kind = load_object(name, folder, "model.name")
    elif name in MODELS:
        kind = MODELS[name]
    else:
        raise ConfigError(
            f"model.name: {name!r} is not known; allowed: {', '.join(MODELS)}, or <module>:<class> of your own"
        )
    with initial_seed(config.model_seed):
        try:
            model = kind(input_shape, num_outputs, **options)
        except TypeError as error:
            raise ConfigError(f"model.options {options} do not fit model {name!r}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model.name: {name!r} must build a torch.nn.Module, got {type(model).__name__}")
    if name in MODELS:
        setattr(model, BUILT_HERE, True)
    return model
