"""Model, loss and optimiser of an experiment directory, as its config says."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minima_volume.config.autoencoders import OwnLoss, OwnModel, SAELossSection, SAEModel, VAELossSection, VAEModel
from minima_volume.config.directory import Data, OptimizerConfig, TrainConfig
from minima_volume.directories.own_code import explained
from minima_volume.directories.sources import Samples
from minima_volume.errors import ConfigError
from minima_volume.execution.device import in_memory
from minima_volume.files.user_code import load_object
from minima_volume.losses.generative import Bernoulli, Columns, Gaussian, Likelihood, SAELoss, VAELoss
from minima_volume.models.build import initial_seed
from minima_volume.models.sae import SAE
from minima_volume.models.vae import VAE

Criterion = Callable[[Any, Tensor], Tensor]
# no optimiser; one that needs closures; one for sparse gradients
UNUSABLE = (torch.optim.Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam)
Likelihoods = {"ImageDataLoader": "bernoulli", "TabularDataLoader": "columns", "EmbeddingDataLoader": "gaussian"}


def with_shape(config: TrainConfig, shape: Sequence[int]) -> TrainConfig:
    """The config with what its model takes from the data: a VAE's likelihood, an SAE's input_dim.

    Raises:
        ConfigError: the model is for other data.
    """
    model, loader = config.model, config.train.loader_class
    if isinstance(model, VAEModel):
        kind = model.params.likelihood or Likelihoods[loader]
        if kind == "columns" and loader != "TabularDataLoader":
            raise ConfigError(f"model.params.likelihood 'columns' needs a table, not {loader}")
        if (
            kind != "columns"
            and config.data.columns is not None
            and config.data.columns.categorical
            and loader == "TabularDataLoader"
        ):
            raise ConfigError(
                f"model.params.likelihood {kind!r} cannot describe categorical columns; set it to columns or null"
            )
        params: Any = model.params.model_copy(update={"likelihood": kind})
    elif isinstance(model, SAEModel):
        if loader == "TabularDataLoader" and config.data.columns is not None and config.data.columns.categorical:
            raise ConfigError("model SAE takes numbers; leave data.columns.categorical empty")
        size = math.prod(shape)
        if model.params.input_dim not in (None, size):
            raise ConfigError(
                f"model.params.input_dim is {model.params.input_dim}, but samples of {config.train.data_path} have {size} features "
                f"(shape {tuple(shape)})"
            )
        params = model.params.model_copy(update={"input_dim": size})
    else:
        return config
    return config.model_copy(update={"model": model.model_copy(update={"params": params})})


def check_support(model: nn.Module, samples: Samples) -> None:
    """Refuse samples that a Bernoulli likelihood gives no probability: its loss would have no lower bound.

    Raises:
        ConfigError: names the numbers and the likelihoods that take them.
    """
    if not isinstance(model, VAE) or not isinstance(model.likelihood, Bernoulli):
        return
    ranges = [(float(chunk.min()), float(chunk.max())) for chunk in samples.chunks()]
    low, high = min(first for first, _ in ranges), max(last for _, last in ranges)
    if low < 0 or high > 1:
        raise ConfigError(
            f"model.params.likelihood 'bernoulli' takes numbers from 0 to 1, and {samples.source} holds {low:g} to {high:g} "
            "(columns of a table are standardised); set it to gaussian or, for a table, columns"
        )


def build_network(config: TrainConfig, shape: Sequence[int], places: Sequence[Path]) -> nn.Module:
    """The model with initial weights from the seed; torch's global generator is left as it was.

    Args:
        config: from `with_shape`.
        shape: of one sample.
        places: folders in which a model of the user's is looked for.

    Raises:
        ConfigError: no such model, or its parameters are wrong, or it is too large for the memory.
    """
    model = config.model
    with initial_seed(config.experiment.seed), in_memory(f"model {model.model_dump(by_alias=True)}"):
        if isinstance(model, VAEModel):
            kind = model.params
            likelihood = _likelihood(str(kind.likelihood), kind.scale, shape, config.data)
            return VAE(likelihood, kind.latent_dim, kind.hidden_dims, kind.channels, shape)
        if isinstance(model, SAEModel):
            return SAE(math.prod(shape), model.params.hidden_dim, model.params.activation, model.params.k)
        return _own_model(model, shape, places)


def criterion_of(
    section: VAELossSection | SAELossSection | OwnLoss, model: nn.Module, config: TrainConfig, places: Sequence[Path]
) -> Criterion:
    """A loss (outputs, samples) -> one value per sample.

    Raises:
        ConfigError: it does not fit the model.
    """
    if isinstance(section, VAELossSection):
        assert isinstance(model, VAE)
        return VAELoss(model.likelihood, section.params.beta, section.params.reconstruction_weight)
    if isinstance(section, SAELossSection):
        assert isinstance(config.model, SAEModel)
        weights = {config.model.params.sparsity_weight, section.params.sparsity_weight} - {None}
        if len(weights) > 1:
            raise ConfigError(
                f"sparsity_weight is {config.model.params.sparsity_weight} in model.params and {section.params.sparsity_weight} in "
                "loss.params; give it once"
            )
        return SAELoss(weights.pop() if weights else 0.0, section.params.reconstruction_weight)  # type: ignore[arg-type]
    found = _find(section.kind, places, "loss.class")
    if not callable(found) or isinstance(found, type):
        raise ConfigError(f"loss.class: {section.kind!r} must be a function (outputs, samples) -> one loss per sample")
    return partial(_own_losses, section.kind, partial(found, **section.params))


def _own_losses(kind: str, function: Callable[..., Any], outputs: Any, x: Tensor) -> Tensor:
    """The losses of a user's function; a mean over the batch would pass for its sum."""
    with explained(f"loss.class: {kind!r} fails on {len(x)} samples"):
        losses = function(outputs, x)
    if not isinstance(losses, Tensor) or losses.shape != (len(x),):
        got = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
        raise ConfigError(
            f"loss.class: {kind!r} must give one loss per sample, a tensor of shape ({len(x)},) for {len(x)} samples, got {got}; leave out "
            "the mean over samples, and add up the features of each"
        )
    return losses


def optimizer_of(model: nn.Module, settings: OptimizerConfig) -> torch.optim.Optimizer:
    """Any optimiser of torch.optim that steps from dense gradients alone, by its name in any case.

    Raises:
        ConfigError: no such optimiser, or it has no such argument.
    """
    kinds = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind not in UNUSABLE
    }
    name = settings.optimizer
    kind = kinds.get(name.lower())
    if kind is None:
        near = difflib.get_close_matches(name.lower(), kinds, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(
            f"optimizer_config.optimizer: {name!r} is not known{hint}; allowed: {', '.join(sorted(kinds))}"
        )
    given = dict(settings.model_extra or {})
    allowed = [key for key in inspect.signature(kind).parameters if key not in ("params", "lr")]
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(key, ["learning_rate", *allowed], 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError(
                f"optimizer_config.{key}: {name} has no such argument{hint}; allowed: learning_rate, {', '.join(allowed)}"
            )
    try:
        return kind(model.parameters(), lr=settings.learning_rate, **given)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer_config {given} does not fit {name}: {error}") from error


def _likelihood(name: str, scale: float, shape: Sequence[int], data: Data) -> Likelihood:
    if name == "bernoulli":
        return Bernoulli(tuple(shape))
    if name == "gaussian":
        return Gaussian(tuple(shape), scale)
    assert data.columns is not None and data.categories is not None
    sizes = tuple(len(data.categories[column]) for column in data.columns.categorical)
    return Columns(len(data.columns.numerical) + len(data.columns.embeddings), sizes, scale)


def _own_model(section: OwnModel, shape: Sequence[int], places: Sequence[Path]) -> nn.Module:
    found = _find(section.kind, places, "model.class")
    what = f"model.params {section.params} do not fit model {section.kind!r} and samples of shape {tuple(shape)}"
    with explained(what):
        model = found(tuple(shape), **section.params)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model.class: {section.kind!r} must build a torch.nn.Module, got {type(model).__name__}")
    return model


def _find(path: str, places: Sequence[Path], what: str) -> Any:
    """From the first of these folders that has the module, else from what is installed."""
    module = path.partition(":")[0]
    folder = next((place for place in places if (place / f"{module}.py").is_file()), None)
    try:
        return load_object(path, folder or next(iter(places), None), what)
    except ConfigError as error:
        if folder is not None or not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        others = dict.fromkeys(str(place / f"{module}.py") for place in places[1:] if place != places[0])
        raise ConfigError(
            f"{', '.join([str(error), *others])}. Put the file there, or start in the folder that holds it"
        ) from error


def places_of(config_file: Path) -> list[Path]:
    """Where a user's own code is looked for: beside the config file, in the working directory, in its configs/."""
    return [config_file.resolve().parent, Path.cwd(), Path.cwd() / "configs"]
