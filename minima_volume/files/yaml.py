"""Reading and writing config.yaml: YAML 1.2, comments kept where it is written again."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from minima_volume.errors import ConfigError, DamagedFileError, MissingStageError
from minima_volume.files.atomic import write_text
from minima_volume.files.plain import read_text
from minima_volume.files.yaml_limits import MAX_BYTES, check_structure, check_values

MAX_REASON = 300  # characters of a message


def read_yaml(path: Path) -> dict[str, Any]:
    """The values of a YAML 1.2 file (`1e-3` is a number), by libyaml.

    Raises:
        MissingStageError: there is no such file.
        ConfigError: it is not YAML, or not a mapping of sections.
    """
    return plain(_read(path, YAML(typ="safe")))


def read_commented_yaml(path: Path) -> Any:
    """As `read_yaml`, with the comments, which `write_yaml` writes again."""
    return _read(path, _round_trip())


def _read(path: Path, yaml: YAML) -> Any:
    try:
        text = read_text(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise MissingStageError(f"{path} does not exist: copy a template/ folder, which holds one") from error
    except DamagedFileError as error:
        raise ConfigError(str(error)) from error
    content = _built(text, str(path), yaml)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} must hold sections (experiment, data, ...), not {type(content).__name__}")
    return content


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML 1.2 text.

    Args:
        text: the text.
        where: what the error calls it.

    Raises:
        ConfigError: one line with what is not allowed.
    """
    return plain(_built(text, where, YAML(typ="safe")))


def _built(text: str, where: str, yaml: YAML) -> Any:
    """The content of a text, which is checked before it is built, and its values afterwards."""
    try:
        check_structure(text)
        content = yaml.load(text)
    except (YAMLError, ValueError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
        raise ConfigError(f"{where} is not valid YAML: {reason}") from error
    try:
        check_values(plain(content))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    return content


def write_yaml(path: Path, content: Any) -> Path:
    """Write YAML 1.2 atomically, with the comments that `read_commented_yaml` found."""
    return write_text(path, dumped(content))


def dumped(content: Any) -> str:
    """Content as the text of a YAML 1.2 file."""
    buffer = io.StringIO()
    _round_trip().dump(content, buffer)
    return buffer.getvalue()


def plain(content: Any) -> Any:
    """YAML's comment-keeping containers and numbers as plain Python ones."""
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [plain(value) for value in content]
    for kind in (bool, int, float, str):
        if isinstance(content, kind):
            return kind(content)
    return content


def _round_trip() -> YAML:
    yaml = YAML()  # YAML 1.2
    yaml.width = 120
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def dotted(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; empty ones are left out.

    >>> dotted({"a": {"b": 1, "c": {}}, "d": None})
    {'a.b': 1, 'd': None}
    """
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def set_dotted(content: Any, overrides: Mapping[str, Any]) -> None:
    """Apply overrides such as {"training.epochs": 10} to a mapping of sections, in place.

    Raises:
        ConfigError: an override is not a dotted key, or its section is not a section.
    """
    for dotted, value in overrides.items():
        *sections, key = str(dotted).split(".")
        if not sections:
            raise ConfigError(f"overrides: {dotted!r} must be a dotted key such as 'training.epochs'")
        place = content
        for section in sections:
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
            if not isinstance(place, Mapping):
                raise ConfigError(f"overrides: {dotted!r}: {section!r} is a value, not a section")
        place[key] = value
