"""What every result of a model of your own can do: be read, shown, drawn, saved and loaded."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from minima_volume.arguments import as_path
from minima_volume.errors import ConfigError, DamagedFileError
from minima_volume.files.atomic import MAX_JSON, json_text, read_json, write_text
from minima_volume.files.content import interpreted
from minima_volume.files.records import KIND, plain, restored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Own = TypeVar("Own", bound="Result")
ADVICE = "Take another copy of it, or measure again"


class Result:
    """A base of frozen dataclasses whose fields say everything; a subclass gives `facts` and `__str__`."""

    def facts(self) -> list[tuple[str, str]]:
        """What a reader wants to know first: (what, how much), to be shown as a small table."""
        raise NotImplementedError

    def plot(self) -> Figure:
        """Draw it: a matplotlib Figure, which a notebook shows and `mv.plots.save_figure` saves."""
        from minima_volume.plots.own import draw  # the one import upwards

        return draw(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, dictionaries, numbers and words."""
        return plain(self)

    def to_json(self) -> str:
        """The text of the file that `save` writes."""
        return json_text(self.to_dict())

    def save(self, path: str | Path) -> Path:
        """Write it as JSON with a hash of its values; `minima_volume.load` reads it, in any process.

        Args:
            path: the file; its folder is made when absent, and what is there is replaced.

        Raises:
            ConfigError: it is too large for a JSON file.
            MissingStageError: the folder cannot be written to.
        """
        path, text = as_path(path), self.to_json()
        if len(text) > MAX_JSON:
            raise ConfigError(
                f"{path} would have {len(text) / 2**20:.0f} MiB, and such a file may have {MAX_JSON / 2**20:.0f}: "
                "keep the numbers you need from to_dict() instead"
            )
        return write_text(path, text)

    @classmethod
    def load(cls: type[Own], path: str | Path) -> Own:
        """Read what `save` wrote.

        Raises:
            MissingStageError: there is no such file.
            DamagedFileError: it was changed or cut off, or holds something else.
        """
        return read_result(as_path(path), {cls.__name__: cls})

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td style='text-align:left'>"
            f"{'<br>'.join(map(html.escape, value.splitlines()))}</td></tr>"
            for name, value in self.facts()
        )
        return f"<table>{rows}</table>"


def read_result(path: Path, kinds: Mapping[str, type[Own]]) -> Own:
    """Read a saved result of one of several classes, by their names.

    Raises:
        MissingStageError, DamagedFileError: as of `Result.load`.
    """
    content = read_json(path, advice=ADVICE, hashed=True)
    kind = content.get(KIND)
    if not isinstance(kind, str) or kind not in kinds:
        held = f"a {kind}" if isinstance(kind, str) else "another kind of JSON"
        raise DamagedFileError(f"{path} holds {held}; what can be loaded here is a saved {', '.join(kinds)}")
    with interpreted(path, ADVICE):
        return restored(kinds[kind], content)


def number(value: float | None, digits: int = 6) -> str:
    """A number to read: six significant digits, or a dash if there is none.

    >>> number(-1.23456789), number(None), number(0.0)
    ('-1.23457', '-', '0')
    """
    return "-" if value is None else f"{value + 0.0:.{digits}g}"


def limits(interval: tuple[float | None, float | None] | None) -> str:
    """An interval to read; a side that nothing bounds is left open.

    >>> limits((-1.5, None)), limits((None, None)), limits((0.25, 0.5))
    ('at least -1.5', 'unknown', '0.25 to 0.5')
    """
    low, high = (None, None) if interval is None else interval
    if low is None or high is None:
        side = "at least " if high is None else "at most "
        known = low if high is None else high
        return "unknown" if known is None else side + number(known)
    return f"{number(low)} to {number(high)}"


def as_json(value: Any) -> Any:
    """A setting as JSON has it; what is no plain value is named.

    >>> as_json({"names": ("a", "b"), "model": object})
    {'names': ['a', 'b'], 'model': 'type'}
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    plainly = plain(value)
    try:
        json.dumps(plainly, allow_nan=False)
    except (TypeError, ValueError):
        return getattr(value, "name", type(value).__name__)
    return plainly
