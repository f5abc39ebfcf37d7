"""Models that people bring, measured on a GPU: the crossings are those of a plain loop, and the model is afterwards what and where it was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from engine_cases import NEEDS_GPU
from own_models import Case, check_rays, state_of
from test_copies import CASES as COPIES
from test_hidden_readers import CASES as READERS
from test_passes import CASES as PASSES
from test_shapes import CASES as SHAPES

from minima_volume.errors import ConfigError
from minima_volume.samples import each

ALL = COPIES | READERS | PASSES | SHAPES
DEVICE = "cuda"
# no copy of these is the same, so that their owner has to move them
COPIED = {"forward of a part bound to the original", "forward of a part replaced by a method"}
MOVED_BY_HAND = {*COPIES, "a penalty on the parameters"} - COPIED
USES_THE_CPU = ("a masked class, batch statistics", "a loss of all samples at once")
OTHERS = {*ALL} - MOVED_BY_HAND - {*USES_THE_CPU, "a masked class, forward replaced"}


def on_a_gpu(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=NEEDS_GPU) for name in sorted(names)]


@pytest.mark.parametrize("name", on_a_gpu(OTHERS))
def test_radii_are_those_of_a_plain_loop(name: str):
    model = ALL[name].build().eval()
    before = state_of(model)
    check_rays(asked(ALL[name]), model, 2)
    assert state_of(model)["tensors"] == before["tensors"]
    assert {p.device.type for p in model.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", on_a_gpu(MOVED_BY_HAND))
def test_advice_to_move_the_model_is_right(name: str):
    case = ALL[name]
    model = case.build().eval()
    with pytest.raises(ConfigError, match=rf"by model\.to\('{DEVICE}'\), and leave device out"):
        check_rays(asked(case), model, 2)
    x, y = (each(samples, lambda tensor: tensor.to(DEVICE)) for samples in (case.x, case.y))
    check_rays(replace(case, x=x, y=y), model.to(DEVICE), 2)


@pytest.mark.parametrize("name", on_a_gpu(USES_THE_CPU))
def test_what_stays_on_the_cpu_is_named(name: str):
    with pytest.raises(ConfigError, match="same device|two devices"):
        check_rays(asked(ALL[name]), ALL[name].build().eval(), 2)


def asked(case: Case) -> Case:
    return replace(case, settings={**case.settings, "device": DEVICE})


def test_the_names_of_the_cases_differ():
    assert len(ALL) == sum(map(len, (COPIES, READERS, PASSES, SHAPES)))
