"""What is wrong with a config.yaml, in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

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


def _allowed_keys(schema: type[BaseModel], path: list[str]) -> list[str]:
    section: Any = schema
    for part in path:
        annotation = section.model_fields[part].annotation
        sections = [kind for kind in get_args(annotation) if kind is not type(None)]  # of an optional section
        section = sections[0] if sections else annotation
    return list(section.model_fields)
