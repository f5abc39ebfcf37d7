"""Checking content against a schema, and what is wrong with it in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, Tag, ValidationError
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
    key, kind, value = ".".join(_walk(schema, keys)[0]), problem["type"], problem["input"]
    if kind == "extra_forbidden":
        sections = _walk(schema, keys[:-1])[1]
        allowed = list(dict.fromkeys(name for section in sections for name in _fields(section)))
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


def _walk(schema: type[BaseModel], path: Sequence[str]) -> tuple[list[str], list[type[BaseModel]]]:
    """The keys of a path as a user writes them, without the tags of unions, and the sections that may stand there."""
    keys: list[str] = []
    sections: list[tuple[str | None, type[BaseModel]]] = [(None, schema)]
    for part in path:
        fields = [field for _, section in sections for name, field in _fields(section).items() if name == part]
        if not fields and (chosen := [(None, section) for tag, section in sections if tag == part]):
            sections = chosen  # type: ignore[assignment]
            continue
        keys.append(part)
        # what is no key is the index of a list, and leads nowhere else
        sections = [inner for field in fields for inner in _sections(field.annotation)] if fields else sections
    return keys, [section for _, section in sections]


def _fields(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The section's fields by the keys that a user writes."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _sections(annotation: Any, tag: str | None = None) -> list[tuple[str | None, type[BaseModel]]]:
    """The sections in an annotation such as `Sam | None` or `list[Column]`, with their tags in a union that has tags."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(tag, annotation)]
    parts = get_args(annotation)
    tag = next((part.tag for part in parts if isinstance(part, Tag)), tag)
    return [section for part in parts for section in _sections(part, tag)]
