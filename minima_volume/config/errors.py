"""Checking content against a schema, and what is wrong with it in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from minima_volume.errors import ConfigError

Schema = TypeVar("Schema", bound=BaseModel)
SHOWN = 3  # problems in one message


def parse(schema: type[Schema], content: Any, where: str) -> Schema:
    """Check a mapping of sections and keys against a schema.

    Args:
        schema: of the whole file.
        content: as read from YAML.
        where: what the error message calls it, usually the file.

    Raises:
        ConfigError: names each problem, unknown keys first, with the key, its value and what is allowed.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = [explain(problem, schema) for problem in error.errors()]
    unknown_first = sorted(problems, key=lambda text: "unknown key" not in text)
    shown = unknown_first if len(problems) <= SHOWN else [*unknown_first[:SHOWN], "..."]
    raise ConfigError(f"{where}: " + "; ".join(shown))


MAX_SHOWN = 160  # characters of a value


def explain(problem: Any, schema: type[BaseModel]) -> str:
    """One of pydantic's problems in words: the key, its value and what is allowed."""
    keys = [str(part) for part in problem["loc"]]
    key = ".".join(keys)
    kind, value = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        allowed = _allowed_keys(schema, keys[:-1])
        guess = difflib.get_close_matches(keys[-1], allowed, n=1)
        hint = f" (did you mean {guess[0]}?)" if guess else ""
        return f"{key}: unknown key{hint}; allowed: {', '.join(allowed)}"
    if kind == "missing":
        return f"{key}: is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if kind == "value_error" and isinstance(value, Mapping):  # the section's own rule, which names its keys
        return f"{key}: {message}" if key else message
    return f"{key}: {_short(value)} is not allowed: {message.replace('input should be', 'it should be')}"


def _short(value: Any) -> str:
    """A value on one line, however large it is."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} ..."


def _allowed_keys(schema: type[BaseModel], path: Sequence[str]) -> list[str]:
    sections: list[type[BaseModel]] = [schema]
    for part in path:
        fields = [field for section in sections for name, field in _fields(section).items() if name == part]
        # what is no key is the index of a list or the tag of a union, and leads nowhere else
        sections = [inner for field in fields for inner in _sections(field.annotation)] if fields else sections
    return list(dict.fromkeys(name for section in sections for name in _fields(section)))


def _fields(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The section's fields by the keys that a user writes."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections in an annotation such as `Sam | None` or `list[Column]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]
