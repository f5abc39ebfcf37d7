"""What a config.yaml may not hold: one line each, in bounded time and memory, whoever reads it."""

from __future__ import annotations

import os
import time

import pytest

from minima_volume.errors import ConfigError
from minima_volume.files.yaml import parse_yaml, read_commented_yaml, read_yaml
from minima_volume.stages.open import parse_override

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
MERGES = "a0: &a0 {x0: 1}\n" + "".join(f"a{i}: &a{i} {{k{i}: *a{i - 1}, l{i}: *a{i - 1}}}\n" for i in range(1, 60))
BAD = {
    "alias bomb": (BOMB, "more than 20000 values, counting each alias"),
    "bomb of sections": (MERGES, "more than 20000 values"),
    "brackets": ("a: " + "[" * 60_000, "nested more than 40 deep"),
    "braces": ("a: " + "{b: " * 20_000, "nested more than 40 deep"),
    "indented": ("".join(" " * i + f"k{i}:\n" for i in range(200)), "nested more than 40 deep"),
    "recursive list": ("a: &a [1, *a]", r"the alias \*a stands inside what it stands for"),
    "recursive section": ("a: &a\n  b: *a", r"the alias \*a stands inside"),
    "recursive merge": ("a: &a\n  <<: *a", r"the alias \*a stands inside"),
    "unknown alias": ("a: *nobody", "(undefined|stands inside)"),
    "int": ("a: !!int abc", "abc"),
    "python": ("a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python.* is not allowed"),
    "own tag": ("a: !mine 3", "the tag !mine is not allowed"),
    "binary": ("a: !!binary aGVsbG8=", "the tag .*binary is not allowed"),
    "no such month": ("a: 2020-13-45", "month must be in 1..12"),
    "date": ("s:\n  a: 2020-01-02", r"s\.a: 2020-01-02 is a (date|TimeStamp|datetime); put it in quotes"),
    "5,000 digits": ("a: " + "9" * 5000, "digits"),
    "4,000 digits": ("a: " + "9" * 4000, "a: an integer of 13288 bits is too large"),
    "hexadecimal": ("a: 0x" + "f" * 4000, "an integer of 16000 bits is too large"),
    "NaN": ("s: {a: [1, .nan]}", r"s\.a: nan is not a finite number"),
    "infinity": ("a: -.inf", "a: -inf is not a finite number"),
    "NUL in a path": ('s:\n  output_dir: "a\\0b"', r"s\.output_dir: 'a\\x00b' holds a NUL"),
    "NUL in a key": ('"a\\0b": 1', "holds a NUL"),
    "control character": ("a: \x01", "control characters are not allowed"),
    "twice": ("a: 1\na: 2", "duplicate key"),
    "two documents": ("---\na: 1\n---\nb: 2", "single document"),
    "large": ("# " + "x" * 2**17, "larger than the 0.125 MiB"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("read", [read_yaml, read_commented_yaml])
def test_what_is_not_allowed_is_one_line(read, kind, tmp_path):
    """The file, and what is wrong; within two seconds."""
    text, reason = BAD[kind]
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=reason) as failure:
        read(path)
    assert str(path) in str(failure.value) and "\n" not in str(failure.value) and len(str(failure.value)) < 600
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("kind", ["alias bomb", "brackets", "int", "no such month", "NUL in a path", "own tag"])
def test_a_value_on_the_command_line_is_checked_as_well(kind):
    """`--set KEY=VALUE`."""
    with pytest.raises(ConfigError, match="the value(:| is not valid YAML)") as failure:
        parse_override(f"data.options={BAD[kind][0][:50_000]}")
    assert "\n" not in str(failure.value) and len(str(failure.value)) < 600


def test_no_file_is_waited_for(tmp_path):
    """A named pipe, a folder, bytes that are no text."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"a: \xff\xfe")
    for name, reason in (("pipe", "not a plain file"), ("folder", "not a plain file"), ("bytes", "not UTF-8")):
        with pytest.raises(ConfigError, match=f"{name} is {reason}"):
            read_yaml(tmp_path / name)


def test_what_people_write_is_allowed(tmp_path):
    """Anchors, merges, core tags, dates in quotes, nested lists."""
    text = (
        "base: &base {lr: 1e-3, name: !!str 3}\na: {<<: *base, lr: 2}\nb: [*base, '2020-01-02', [[1], [null, true]]]\n"
    )
    value = parse_yaml(text, "x")
    assert value["a"] == {"lr": 2, "name": "3"} and value["base"] == {"lr": 0.001, "name": "3"}
    assert value["b"] == [value["base"], "2020-01-02", [[1], [None, True]]]
