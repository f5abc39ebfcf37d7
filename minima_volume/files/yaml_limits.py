"""What a YAML text may hold, checked before it is built: bounded depth, size and aliases, and plain values only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

MAX_BYTES = 2**17
MAX_DEPTH = 40
MAX_NODES = 20_000  # with every alias counted as what it stands for
MAX_INTEGER = 2**63
CORE = "tag:yaml.org,2002:"
TAGS = {f"{CORE}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}


def check_structure(text: str) -> None:
    """Refuse what would take too long, too much memory or too deep a recursion to build.

    Raises:
        ValueError: says what is too large, or which anchor or tag is not allowed.
        YAMLError: it is not YAML.
    """
    sizes: dict[str, int] = {}  # anchor -> nodes it stands for
    opened: list[tuple[str | None, int]] = []  # collections under way: anchor, and nodes before it
    nodes = 0
    for event in YAML(typ="safe").parse(text):
        if isinstance(event, AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands inside what it stands for")
            nodes += sizes[event.anchor]
        elif isinstance(event, NodeEvent):
            if (tag := getattr(event, "tag", None)) is not None and str(tag) not in TAGS:
                raise ValueError(f"the tag {tag} is not allowed; write plain numbers, text, lists and sections")
            if isinstance(event, SequenceStartEvent | MappingStartEvent):
                opened.append((event.anchor, nodes))
                if event.anchor is not None:
                    sizes.pop(event.anchor, None)
            elif isinstance(event, ScalarEvent) and event.anchor is not None:
                sizes[event.anchor] = 1
            nodes += 1
        elif isinstance(event, SequenceEndEvent | MappingEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        if len(opened) > MAX_DEPTH:
            raise ValueError(f"lists and sections are nested more than {MAX_DEPTH} deep")
        if nodes > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} values, counting each alias as what it stands for")


def check_values(value: Any, key: str = "") -> None:
    """Refuse values that a setting cannot have: dates, NaN, huge integers, text with a NUL.

    Raises:
        ValueError: names the key and the value.
    """
    named = f"{key}: " if key else ""
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_values(name, key)
            check_values(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for item in value:
            check_values(item, key)
    elif isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"{named}{value[:80]!r} holds a NUL character, which no name or path can have")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{named}{value} is not a finite number")
    elif isinstance(value, int):
        if abs(value) >= MAX_INTEGER:
            raise ValueError(f"{named}an integer of {value.bit_length()} bits is too large; up to 63 bits are allowed")
    elif value is not None:
        raise ValueError(f"{named}{value} is a {type(value).__name__}; put it in quotes if it is text")
