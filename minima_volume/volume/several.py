"""Several models of your own, measured alike and told apart; and the door back from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from minima_volume.arguments import as_path, by_text
from minima_volume.curvature.views import OtherViews
from minima_volume.errors import ConfigError, MinimaVolumeError
from minima_volume.losses.loss import LossLike
from minima_volume.perturbation.given import read_samples
from minima_volume.perturbation.slices import LineSlice, PlaneSlice
from minima_volume.result import Result, limits, number, read_result
from minima_volume.samples import Samples
from minima_volume.volume.gaussian.estimate import LocalVolume, VolumeProfile
from minima_volume.volume.gaussian.settings import Gaussian
from minima_volume.volume.keywords import Keywords, with_keywords
from minima_volume.volume.measure import measure_volume
from minima_volume.volume.pairs import VolumeComparison, compare_all
from minima_volume.volume.star.estimate import VolumeEstimate
from minima_volume.volume.star.settings import Rays
from minima_volume.volume.tables import table

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Volumes(Result):
    """Volumes of several models, measured alike; `volumes["a"]` is one of them.

    Attributes:
        estimates: name -> its volume.
    """

    estimates: dict[str, LocalVolume | VolumeProfile | VolumeEstimate]

    def __getitem__(self, name: str) -> LocalVolume | VolumeProfile | VolumeEstimate:
        if name not in self.estimates:
            raise ConfigError(f"there is no volume of {name!r}; measured were {', '.join(map(repr, self.estimates))}")
        return self.estimates[name]

    @cached_property
    def comparisons(self) -> tuple[VolumeComparison, ...]:
        """Every pair, judged together (Holm); see `compare_all`."""
        return compare_all(self.estimates)

    @property
    def verdict(self) -> str:
        """A line per pair; of profiles, per pair and sigma."""
        return "\n".join(_line(pair) for pair in self.comparisons) or "one model: nothing to compare"

    def table(self) -> pd.DataFrame:
        """A row per model, see `table`."""
        return table(self.estimates)

    def __str__(self) -> str:
        lines = [f"{name}: {line}" for name, one in self.estimates.items() for line in str(one).splitlines()]
        return "\n".join([*lines, self.verdict])

    def facts(self) -> list[tuple[str, str]]:
        """As `Result.facts`."""
        values = [(name, "\n".join(map(_value, _each(one)))) for name, one in self.estimates.items()]
        return [*values, ("told apart?", self.verdict)]


def _line(pair: VolumeComparison) -> str:
    return pair.verdict if pair.sigma is None else f"sigma {pair.sigma:g}: {pair.verdict}"


def _each(one: LocalVolume | VolumeProfile | VolumeEstimate) -> tuple[LocalVolume | VolumeEstimate, ...]:
    return one.volumes if isinstance(one, VolumeProfile) else (one,)


def _value(one: LocalVolume | VolumeEstimate) -> str:
    if isinstance(one, LocalVolume):
        return f"log mass {number(one.log_mass)} at sigma {one.sigma:g} ({limits(one.interval)})"
    return f"log volume {number(one.log_volume)} ({limits(one.interval)})"


@with_keywords
def measure_volumes(
    models: Mapping[str, nn.Module],
    x: Samples | DataLoader[Any] | Dataset[Any],
    y: Any = None,
    loss: LossLike = "cross_entropy",
    *,
    threshold: float | None = None,
    accuracy_threshold: float | None = None,
    how: Gaussian | Rays | None = None,
    class_axis: int | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    **keywords: Unpack[Keywords],
) -> Volumes:
    """Measure several models alike, on the same samples, and say which can be told apart.

    Star regions are measured along the same directions, so that what a direction does to all of them cancels in a difference. Gaussian local
    volumes have random numbers of their own.

    Args:
        models: name -> a trained model; they come back unchanged.
        x, y, loss, threshold, accuracy_threshold, how, class_axis, device, progress: as of `measure_volume`.
        keywords: likewise.

    Returns:
        The volumes: each by its name, all as a table, and every pair compared (`verdict`, `comparisons`). Claims are those that Holm's
        procedure leaves of all pairs.

    Raises:
        ConfigError, UnboundedError: as `measure_volume`, with the name of the model.
    """
    if not isinstance(models, Mapping) or not models:
        raise ConfigError(
            "models must be a dictionary of name -> model, with at least one: {'a': model_a, 'b': model_b}"
        )
    models = by_text("models", models)
    first = next(iter(models.values()))
    if isinstance(x, DataLoader | Dataset):
        x, y, _ = read_samples(first, x, y)
    found = {}
    for name, model in models.items():
        try:
            found[name] = measure_volume(
                model,
                x,
                y,
                loss,
                threshold=threshold,
                accuracy_threshold=accuracy_threshold,
                how=how,
                class_axis=class_axis,
                device=device,
                progress=progress,
                **keywords,
            )
        except MinimaVolumeError as error:
            raise type(error)(f"model {name!r}: {error}") from error
    return Volumes(found)


KINDS = (LocalVolume, VolumeProfile, VolumeEstimate, VolumeComparison, Volumes, OtherViews, LineSlice, PlaneSlice)


def load(path: str | Path) -> Any:
    """Read a result that was saved with `save`: a volume, a profile, several, other views or a slice.

    The file is plain JSON: opening a colleague's cannot run code.

    Raises:
        MissingStageError: there is no such file.
        DamagedFileError: it was changed or cut off, or something else wrote it.
    """
    return read_result(as_path(path), {kind.__name__: kind for kind in KINDS})
