"""Any schema's problems in words: keys of sections in lists, unions and under aliases."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field

from minima_volume.config.errors import parse
from minima_volume.config.sections import Section
from minima_volume.errors import ConfigError


class Params(Section):
    beta: float = 1.0


class Loader(Section):
    kind: str = Field("table", alias="class")
    params: Params | None = None


class Split(Section):
    loader: Loader
    metrics: list[Params] = Field(default_factory=list)


class Study(Section):
    train: Split
    val: Split | None = None
    rates: list[float] = Field(default_factory=list)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"trian": {}}, ["study.yaml: trian: unknown key (did you mean train?); allowed: train, val, rates", "train: is missing"]),
        ({"train": {"loader": {"clas": "a"}}}, ["train.loader.clas: unknown key (did you mean class?); allowed: class, params"]),
        ({"train": {"loader": {"kind": "a"}}}, ["train.loader.kind: unknown key; allowed: class, params"]),
        ({"train": {"loader": {}}, "val": {"loader": {"params": {"bta": 1.0}}}}, ["val.loader.params.bta", "allowed: beta"]),
        ({"train": {"loader": {}, "metrics": [{}, {"x": 1.0}]}}, ["train.metrics.1.x: unknown key; allowed: beta"]),
        ({"train": {"loader": {}}, "rates": [1.0, "a"]}, ["rates.1: 'a' is not allowed", "number"]),
        ([1], ["study.yaml: ", "[1] is not allowed"]),
    ],
)  # fmt: skip
def test_problems_name_their_key_and_what_is_allowed(content: Any, words: list[str]):
    """In one message of one family."""
    with pytest.raises(ConfigError) as failure:
        parse(Study, content, "study.yaml")
    assert all(word in str(failure.value) for word in words), failure.value


def test_what_is_allowed_is_given_back():
    """As the schema's own object."""
    study = parse(Study, {"train": {"loader": {"class": "image"}}}, "here")
    assert isinstance(study, Study) and study.train.loader.kind == "image"
