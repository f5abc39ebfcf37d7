"""Sections of an experiment directory's config that say which model is trained with which loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from minima_volume.config.sections import Count, Positive, Section

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Widths = Annotated[list[Count], Field(min_length=1)]


def _path(value: str) -> str:
    module, colon, name = value.partition(":")
    if not (module and colon and name):
        raise ValueError("a built-in name, or <module>:<name> of a .py file beside the config file")
    return value


class VAEParams(Section):
    """A variational autoencoder; its likelihood says what the data are."""

    latent_dim: Count
    hidden_dims: Widths = Field(default=[400])  # of the encoder; the decoder has them in reverse
    channels: Widths | None = (
        None  # convolutional: channels of its layers, each halves height and width; None: a multilayer perceptron
    )
    likelihood: Literal["gaussian", "bernoulli", "columns"] | None = (
        None  # None: bernoulli for images, columns for tables, else gaussian
    )
    scale: Positive = 1.0  # standard deviation of Gaussian outputs, in units of standardised columns


class SAEParams(Section):
    """A sparse autoencoder with a dictionary of unit-norm atoms."""

    hidden_dim: Count  # atoms
    input_dim: Count | None = None  # None: as the data have it
    activation: Literal["l1", "topk", "batch_topk"] = "l1"
    k: Count | None = None  # active atoms per sample (batch_topk: on average); topk and batch_topk only
    sparsity_weight: Weight | None = None  # of the L1 term; may stand in loss.params instead
    center: bool = True  # start the decoder's bias at the mean of the training data

    @model_validator(mode="after")
    def _k(self) -> SAEParams:
        if (self.k is None) != (self.activation == "l1"):
            need = "has no k: set k to null" if self.activation == "l1" else "needs k, the active atoms per sample"
            raise ValueError(f"activation {self.activation} {need}")
        if self.k is not None and self.k > self.hidden_dim:
            raise ValueError(f"k {self.k} is larger than hidden_dim {self.hidden_dim}")
        return self


class VAEModel(Section):
    kind: Literal["VAE"] = Field(alias="class")
    params: VAEParams


class SAEModel(Section):
    kind: Literal["SAE"] = Field(alias="class")
    params: SAEParams


class OwnModel(Section):
    kind: str = Field(alias="class")  # <module>:<Class>, called with (input_shape, **params)
    params: dict[str, Any] = Field(default_factory=dict)

    _checked = field_validator("kind")(_path)


class VAELossParams(Section):
    beta: Weight = 1.0  # weight of the KL term; 1 is the negative ELBO
    reconstruction_weight: Weight = 1.0


class SAELossParams(Section):
    reconstruction_weight: Weight = 1.0
    sparsity_weight: Weight | None = None  # of the L1 norm of a sample's code; None: the model's


class VAELossSection(Section):
    kind: Literal["VAELoss"] = Field(alias="class")
    params: VAELossParams = VAELossParams()


class SAELossSection(Section):
    kind: Literal["SAELoss"] = Field(alias="class")
    params: SAELossParams = SAELossParams()


class OwnLoss(Section):
    kind: str = Field(
        alias="class"
    )  # <module>:<function>, called with (outputs, samples, **params), one loss per sample
    params: dict[str, Any] = Field(default_factory=dict)

    _checked = field_validator("kind")(_path)


def _tag(built_in: tuple[str, ...]) -> Discriminator:
    def tag(value: Any) -> str:
        kind = value.get("class") if isinstance(value, Mapping) else getattr(value, "kind", None)
        return kind if kind in built_in else "own"

    return Discriminator(tag)


Model = Annotated[
    Annotated[VAEModel, Tag("VAE")] | Annotated[SAEModel, Tag("SAE")] | Annotated[OwnModel, Tag("own")],
    _tag(("VAE", "SAE")),
]
Loss = Annotated[
    Annotated[VAELossSection, Tag("VAELoss")]
    | Annotated[SAELossSection, Tag("SAELoss")]
    | Annotated[OwnLoss, Tag("own")],
    _tag(("VAELoss", "SAELoss")),
]
