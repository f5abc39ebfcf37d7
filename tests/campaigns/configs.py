"""Config files: one line that names the key, no crash, nothing written or imported outside."""

from __future__ import annotations

import copy
import random
import tempfile
from pathlib import Path
from typing import Any

from helpers import tiny, tree

from campaigns.common import SMALL, Tally, call
from minima_volume.config.run import Config, Section
from minima_volume.files.yaml import write_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
TEXTS = [
    BOMB, "[" * 100_000, "{a: " * 5000, "a: &a [*a]", "a: !!int abc", "a: 2020-13-45", "a: " + "9" * 5000, "\0", "- a\n- b",
    "a: !!python/object/apply:os.system ['touch x']", "%YAML 9.9\n---\na: 1", "\ufeff", "? {a: b}\n: c", "a: *b", "\t\ta: 1", "a: 'x",
    "...", "--- 3", "!!binary x", "experiment: &e\n  <<: *e", ": :", "null", "experiment:\nexperiment:", "\x85", "a: |\n b\n  c\n d: e: f",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2**31, 2**62, 10**4000, 1e308, -1e308, 5e-324, float("nan"), float("inf"), "", " ", "x", "x" * 10_000,
    "..", "/", "{outside}", "../outside", "link", "{outside}/evil:f", "../outside/evil:f", "evil:f:g", "os:", ":", "a\nb", "a\0b", "\u202e",
    "cuda:99", "tcp://", "null", "1e-3", [], [[]], [None], [1, 1], [0, -1], list(range(2000)), ["x"], {}, {"a": 1}, {"": None}, {"a": {"b": []}},
]  # fmt: skip


def keys(section: type[Section] = Config, prefix: str = "") -> list[str]:
    """Every dotted key that a config.yaml may have."""
    found = []
    for name, field in section.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
        found += [f"{prefix}{name}"] + (keys(inner, f"{prefix}{name}.") if inner else [])
    return found


def campaign(count: int, seed: int = 0) -> Tally:
    """Try `count` config files with `status`, `run` (of a stage that needs models) and `new`."""
    tally, chance = Tally("configs"), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outside = folder / "outside"
        outside.mkdir()
        (outside / "evil.py").write_text(
            f"open({str(folder / 'trap')!r}, 'w')\ndef f(*a, **k): pass\n", encoding="utf-8"
        )
        before = tree(outside)
        condition = folder / "base"
        run = condition / "model_0_data_10"
        run.mkdir(parents=True)
        (run / "link").symlink_to(outside, target_is_directory=True)
        for number in range(count):
            key = ""
            if chance.random() < 0.2:
                text = _text(chance)
            else:
                key, text = _changed(chance, outside)
            for path in (run, condition):
                (path / "config.yaml").write_bytes(text.encode("utf-8", errors="surrogatepass"))
            said = [
                call("status", run),
                call("run", run, "--stage", "accuracy", "--quiet"),
                call("new", condition, "--pair", "3:13"),
            ]
            problems = [problem for one in said for problem in one.problems()]
            if (
                key
                and said[1].code == 1
                and "does not exist: run 'Train" not in said[1].err
                and not any(part in said[1].err for part in key.split(".")[-2:])
            ):
                problems.append(f"the message does not name {key}: {said[1].err[:200]!r}")
            if tree(outside) != before or (folder / "trap").exists():
                problems.append("something was written or imported outside")
            tally.add(f"{number} {key or 'text'}: {text[:60]!r}", problems, max(one.seconds for one in said))
    return tally


def _text(chance: random.Random) -> str:
    text = chance.choice(TEXTS)
    return text if chance.random() < 0.5 else f"experiment: {{name: a}}\n{text}"


def _changed(chance: random.Random, outside: Path) -> tuple[str, str]:
    """A whole config in which one key has an odd value; returns the key and the YAML text."""
    content, key, value = tiny(copy.deepcopy(SMALL)), chance.choice(keys()), chance.choice(VALUES)
    if isinstance(value, str):
        value = value.replace("{outside}", str(outside))
    *sections, last = key.split(".")
    place: Any = content
    for section in sections:
        if not isinstance(place.get(section), dict):
            place[section] = {}
        place = place[section]
    place[last] = value
    with tempfile.TemporaryDirectory() as folder:
        return key, write_yaml(Path(folder) / "config.yaml", content).read_text(encoding="utf-8")
