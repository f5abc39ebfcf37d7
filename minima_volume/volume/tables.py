"""Results of your own models as a table, a row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minima_volume.curvature.views import OtherViews, views_row
from minima_volume.errors import ConfigError
from minima_volume.volume.gaussian.estimate import LocalVolume, VolumeProfile
from minima_volume.volume.star.estimate import VolumeEstimate

if TYPE_CHECKING:
    import pandas as pd

WORDS = ("method", "measure", "verdict")


def table(results: Mapping[str, Any]) -> pd.DataFrame:
    """Results side by side.

    Args:
        results: name -> what `measure_volume` or `other_views` gave; kinds may be mixed.

    Returns:
        A row per result, of a profile one per sigma, with the names as index (`model`). Columns of Gaussian local volumes: `sigma`,
        `log_mass`, `lower`, `upper` (95 %), `method`; of star regions: `measure`, `log_volume`, `lower`, `upper`,
        `effective_sample_size`, `num_directions`; of both: `threshold`, `start_loss`, `num_params`, `verdict`; of other views those
        of `views_table`. What is undefined is NaN.

    Raises:
        ConfigError: there are none, or something else is among them.
    """
    import pandas as pd

    if not isinstance(results, Mapping) or not results:
        raise ConfigError("table takes a dictionary of name -> result, with at least one: table({'a': estimate})")
    rows = [{"model": name} | row for name, result in results.items() for row in _rows(name, result)]
    frame = pd.DataFrame(rows).set_index("model")
    numbers = {column: float for column in frame.columns if column not in WORDS and not column.startswith("num_")}
    return frame.astype({column: kind for column, kind in numbers.items() if not column.endswith("verdict")})


def _rows(name: str, result: Any) -> list[dict[str, Any]]:
    if isinstance(result, VolumeProfile):
        return [_mass(volume) for volume in result.volumes]
    if isinstance(result, LocalVolume):
        return [_mass(result)]
    if isinstance(result, VolumeEstimate):
        return [_star(result)]
    if isinstance(result, OtherViews):
        return [views_row(result)]
    raise ConfigError(
        f"{name} is a {type(result).__name__}; a table takes results of measure_volume and of other_views"
    )


def _mass(volume: LocalVolume) -> dict[str, Any]:
    low, high = volume.interval
    found = {"sigma": volume.sigma, "log_mass": volume.log_mass, "lower": low, "upper": high, "method": volume.method}
    return found | _shared(volume)


def _star(volume: VolumeEstimate) -> dict[str, Any]:
    low, high = volume.interval or (None, None)
    found = {"measure": volume.measure, "log_volume": volume.log_volume, "lower": low, "upper": high}
    sizes = {"effective_sample_size": volume.effective_sample_size, "num_directions": len(volume.radii)}
    return found | sizes | _shared(volume)


def _shared(volume: LocalVolume | VolumeEstimate) -> dict[str, Any]:
    return {
        "threshold": volume.threshold,
        "start_loss": volume.start_loss,
        "num_params": volume.num_params,
        "verdict": volume.verdict,
    }
