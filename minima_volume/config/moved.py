"""Settings that have moved to another section: their old places are still read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minima_volume.files.yaml import set_dotted

MOVED = {"perturbation.workers": "execution.workers", "perturbation.memory_gib": "execution.memory_gib"}


def at_new_places(content: Any) -> Any:
    """The content with every setting at its new place; null at one of two places leaves the other.

    Raises:
        ValueError: both places are set, to different values.

    >>> at_new_places({"perturbation": {"workers": 2, "scaling": "none"}})
    {'perturbation': {'scaling': 'none'}, 'execution': {'workers': 2}}
    """
    for old, new in MOVED.items():
        (section, key), (new_section, new_key) = old.split("."), new.split(".")
        there = content.get(section) if isinstance(content, Mapping) else None
        if not isinstance(there, Mapping) or key not in there:
            continue
        value, target = there[key], content.get(new_section)
        content = {**content, section: {name: v for name, v in there.items() if name != key}}
        if value is None or not isinstance(target, Mapping | None):
            continue
        known = (target or {}).get(new_key)
        if known is not None and known != value:
            raise ValueError(f"{old} {value!r} and {new} {known!r} are one setting at two places; keep {new}")
        content[new_section] = {**(target or {}), new_key: value}
    return content


def set_settings(content: Any, overrides: Mapping[str, Any]) -> None:
    """As `set_dotted`, in place; a setting that has moved is then at the place that the override names, and there alone.

    >>> content = {"perturbation": {"workers": 1}}
    >>> set_settings(content, {"execution.workers": 2})
    >>> content
    {'perturbation': {}, 'execution': {'workers': 2}}
    """
    for pair in MOVED.items():
        for key, twin in (pair, pair[::-1]):
            section, name = twin.split(".")
            if key in overrides and twin not in overrides and isinstance(content.get(section), Mapping):
                content[section].pop(name, None)
    set_dotted(content, overrides)
