"""Seeds and names mean the same from whichever library they come, at each of the doors; what is not allowed is one message."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import minima_volume as mv
from minima_volume.errors import ConfigError

X = torch.eye(4)
Y = torch.arange(4) % 3
QUIET: dict[str, Any] = {"progress": False}
BALL = QUIET | {"threshold": 1.2, "measure": "ball", "num_directions": 6}


def model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))


def mass(**options: Any) -> mv.LocalVolume:
    return mv.measure_volume(model(), X, Y, **({"threshold": 1.2, "sigma": 0.3} | QUIET | options))


def views(**options: Any) -> mv.OtherViews:
    return mv.other_views(model(), X, Y, settings=mv.ViewSettings(num_chains=0, density_vectors=0, **options))


SEEDED: dict[str, Callable[[Any], Any]] = {
    "gaussian": lambda seed: mass(seed=seed).log_mass,
    "rays": lambda seed: mv.measure_volume(model(), X, Y, seed=seed, **BALL).log_volume,
    "importance": lambda seed: mv.measure_volume(model(), X, Y, seed=seed, preconditioner="diagonal", **BALL).log_volume,
    "suggest_sigma": lambda seed: mv.suggest_sigma(model(), X, Y, threshold=1.2, seed=seed, **QUIET),
    "line": lambda seed: mv.slice_line(model(), X, Y, seeds=[seed], num_points=3).losses.tolist(),
    "plane": lambda seed: mv.slice_plane(model(), X, Y, seed=seed, resolution=3, **QUIET).plane.loss.tolist(),
    "views": lambda seed: views(seed=seed).trace.value,
}  # fmt: skip
NAMED: dict[str, Callable[[Any], Any]] = {
    "gaussian": lambda names: mass(names=names).log_mass,
    "rays": lambda names: mv.measure_volume(model(), X, Y, names=names, **BALL).log_volume,
    "suggest_sigma": lambda names: mv.suggest_sigma(model(), X, Y, threshold=1.2, names=names, **QUIET),
    "line": lambda names: mv.slice_line(model(), X, Y, names=names, num_points=3).losses.tolist(),
    "plane": lambda names: mv.slice_plane(model(), X, Y, names=names, resolution=3, **QUIET).plane.loss.tolist(),
    "views": lambda names: views(names=names).trace.value,
}


@pytest.mark.parametrize("door", SEEDED)
def test_a_seed_may_be_a_whole_number_of_numpy(door: str) -> None:
    assert [SEEDED[door](seed) for seed in np.arange(2, 4)] == [SEEDED[door](seed) for seed in (2, 3)]


@pytest.mark.parametrize("seed", [True, -1, 1.0, "1", 2**32, 2**64])
@pytest.mark.parametrize("door", SEEDED)
def test_other_seeds_are_refused(door: str, seed: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^seeds?:? {seed!r} is not allowed: it must be (a whole number|at most)"):
        SEEDED[door](seed)


@pytest.mark.parametrize("options", [{}, {"preconditioner": "diagonal"}])
def test_the_last_seed_of_a_direction_counts(options: dict[str, Any]) -> None:
    found = mv.measure_volume(model(), X, Y, seed=2**32 - 6, **BALL, **options)
    assert found.seeds.tolist() == list(range(2**32 - 6, 2**32))
    with pytest.raises(ConfigError, match="must be at most 4294967290, since 6 seeds follow each other"):
        mv.measure_volume(model(), X, Y, seed=2**32 - 5, **BALL, **options)


@pytest.mark.parametrize(
    ("seeds", "words"), [(3, "seeds 3 are not allowed: give whole numbers"), ([], "at least one"), ([1, 1.5], "seeds: 1.5")]
)  # fmt: skip
def test_seeds_of_a_line(seeds: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        mv.slice_line(model(), X, Y, seeds=seeds, num_points=3)


@pytest.mark.parametrize("door", NAMED)
def test_names_come_in_any_iterable(door: str) -> None:
    own = ["0.weight", "2.bias"]
    kinds = [tuple(own), set(own), frozenset(own), dict.fromkeys(own).keys(), np.array(own), (name for name in own)]
    assert [NAMED[door](kind) for kind in kinds] == [NAMED[door](own)] * len(kinds)


@pytest.mark.parametrize("door", NAMED)
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (5, "names 5 is not allowed: it must be a word such as 'all', or a list of names or globs"),
        ([0], "names: 0 is not text"),
        ([torch.ones(1)], "names: a Tensor is not text"),
        ([], "no parameter of Sequential is perturbed"),
    ],
)
def test_other_names_are_refused(door: str, names: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        NAMED[door](names)


def test_results_hold_the_names_themselves(tmp_path: Path) -> None:
    """In a file too; so volumes of other parameters are not compared, however the names were given."""
    first, second = mass(names={"2.weight", "0.weight"}), mass(names=dict.fromkeys(["2.weight"]).keys())
    assert mv.load(first.save(tmp_path / "a.json")).settings["names"] == ["0.weight", "2.weight"]
    assert mv.load(second.save(tmp_path / "b.json")).settings["names"] == ["2.weight"]
    assert mv.Gaussian(sigma=0.1, names=np.array(["0.weight"])) == mv.Gaussian(sigma=0.1, names=["0.weight"])
    with pytest.raises(ConfigError, match=r"names: 0.weight, 2.weight and 2.weight"):
        mv.compare(first, second)
    assert mv.compare(first, mass(names=["0.weight", "2.weight"])).difference == 0


def test_models_and_volumes_are_told_apart_by_their_names_as_text() -> None:
    one = mass()
    for call in (
        lambda: mv.measure_volumes({1: model(), "1": model(1)}, X, Y, threshold=1.2, sigma=0.3, **QUIET),
        lambda: mv.slice_plane({1: model(), "1": model(1)}, X, Y, **QUIET),
        lambda: mv.compare_all({1: one, "1": one}),
    ):
        with pytest.raises(ConfigError, match=r"two (models|volumes) are called '1'; give each a name"):
            call()
    assert [pair.names for pair in mv.compare_all({1: one, 2: one})] == [("1", "2")]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda one: mv.compare_all([one, one]), "compare_all takes a dictionary of name -> volume"),
        (lambda one: mv.compare_all({"a": one, "b": 5}), "b is a int; only results of measure_volume can be compared"),
        (lambda one: mv.compare(one, None), "the second is a NoneType; only results of measure_volume"),
    ],
)
def test_what_cannot_be_compared(call: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        call(mass())


@pytest.mark.parametrize("path", [3, None, b"a", ["a"]])
def test_a_path_that_is_none(path: Any):
    """One message that says what a path is, at every door that takes one."""
    volume = mass()
    doors: list[Callable[[Any], Any]] = [
        mv.LocalVolume.load,
        mv.load,
        volume.save,
        mv.open_run,
        mv.load_config,
        mv.load_results,
        mv.load_wiggle_results,
        mv.find_runs,
        mv.collect,
        mv.analyze,
        mv.status_table,
        mv.run_pipeline,
        mv.update_runs,
        lambda path: mv.new_runs(path, [(0, 10)]),
        lambda path: mv.propagate(path, "."),
        lambda path: mv.plots.save_figure(volume.plot(), path),
    ]
    for door in doors:
        with pytest.raises(
            ConfigError, match="is not allowed: it must be the name of a file or folder, as text or a Path"
        ):
            door(path)
