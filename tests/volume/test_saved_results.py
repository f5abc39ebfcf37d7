"""Results as files: bit for bit in another process, and one line about a damaged or foreign one."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import minima_volume as mv
from minima_volume.errors import ConfigError, DamagedFileError, MissingStageError
from minima_volume.files.atomic import write_json
from minima_volume.files.records import plain, restored
from minima_volume.result import Result
from minima_volume.volume.several import KINDS


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    """One of every kind, of a small trained network; by splitting, by importance sampling, by accuracy, and outside."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(30, 2)
        y = (x[:, 0] > 0).long()
        model = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(150):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    small = {"num_particles": 30, "num_repeats": 2, "num_moves": 3}
    given = {"progress": False, "threshold": 0.3}
    splitting = mv.measure_volume(model, x, y, sigma=0.3, estimator="splitting", **small, **given)
    profile = mv.measure_volume(model, x, y, sigma=[0.05, 0.1], **given)
    rays = {"measure": "ball", "num_directions": 40}
    settings = mv.ViewSettings(num_chains=2, num_draws=20, num_burn_in=10, density_vectors=1, density_steps=4)
    return {
        "splitting": splitting,
        "outside": mv.measure_volume(model, x, 1 - y, sigma=0.1, **given),
        "profile": profile,
        "rays": mv.measure_volume(model, x, y, **rays, **given),
        "importance": mv.measure_volume(model, x, y, preconditioner="full", **rays, **given),
        "accuracy": mv.measure_volume(model, x, y, sigma=0.1, accuracy_threshold=0.9, progress=False),
        "several": mv.measure_volumes({"a": model, "b": model}, x, y, sigma=0.1, **given),
        "pair": mv.compare(profile.at(0.1), profile.at(0.1)),
        "views": mv.other_views(model, x, y, threshold=0.3, settings=settings),
        "line": mv.slice_line(model, x, y, threshold=0.3, seeds=(1, 2), num_points=9),
        "plane": mv.slice_plane(model, x, y, threshold=0.3, resolution=5, progress=False),
    }


def test_every_kind_is_here(results: dict[str, Result]):
    assert {type(one) for one in results.values()} == set(KINDS)


def test_a_file_says_the_same_in_another_process(results: dict[str, Result], tmp_path: Path):
    """Loaded there and written again: the same bytes."""
    for name, one in results.items():
        one.save(tmp_path / f"{name}.json")
    code = (
        "import sys, pathlib, minima_volume as mv\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).glob('*.json')):\n"
        "    mv.load(path).save(path.with_suffix('.again'))\n"
        "    print(path.stem, mv.load(path))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    for name, one in results.items():
        first = (tmp_path / f"{name}.json").read_bytes()
        assert first == (tmp_path / f"{name}.again").read_bytes()
        assert f"{name} {str(one).splitlines()[0]}" in done.stdout
        assert json.loads(first)["result"] == type(one).__name__


def test_what_was_loaded_works_like_the_original(results: dict[str, Result], tmp_path: Path):
    """Numbers, arrays with their types, comparisons, tables; what a file cannot hold says so."""
    loaded = {name: mv.load(one.save(tmp_path / f"{name}.json")) for name, one in results.items()}
    for name, one in results.items():
        assert loaded[name].to_dict() == one.to_dict() and str(loaded[name]) == str(one)
    assert loaded["splitting"].repeats == results["splitting"].repeats
    rays, again = results["rays"], loaded["rays"]
    for name in ("radii", "coefficients", "censored", "seeds"):
        assert getattr(rays, name).dtype == getattr(again, name).dtype
        assert np.array_equal(getattr(rays, name), getattr(again, name))
    assert mv.compare(rays, again).difference == 0
    assert loaded["several"].verdict == results["several"].verdict
    assert mv.table({"a": loaded["views"]}).equals(mv.table({"a": results["views"]}))
    assert loaded["importance"].preconditioner.log_det == results["importance"].preconditioner.log_det
    with pytest.raises(ConfigError, match="lost its factor"):
        loaded["importance"].preconditioner.factor(torch.zeros(3))
    assert loaded["views"].spectrum.vectors.shape == (0, 0)


DAMAGES = {
    "cut": (lambda text: text[: len(text) // 2], "is not valid JSON"),
    "changed": (lambda text: text.replace('"sigma": 0.3', '"sigma": 0.31'), "was changed since it was written"),
    "no hash": (lambda text: json.dumps({"result": "LocalVolume"}), "has no content_hash"),
    "empty": (lambda text: "", "is not valid JSON"),
    "list": (lambda text: "[1, 2]", "holds a list"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(damage: str, results: dict[str, Result], tmp_path: Path):
    """On one line, with the file and what to do."""
    path = results["splitting"].save(tmp_path / "one.json")
    change, text = DAMAGES[damage]
    path.write_text(change(path.read_text()))
    with pytest.raises(DamagedFileError, match=text) as error:
        mv.load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert "measure again" in str(error.value)


def test_a_foreign_file_is_refused(results: dict[str, Result], tmp_path: Path):
    """Another JSON of this package, a pickle, another kind than asked for, fields that are wrong, no file."""
    other = write_json(tmp_path / "other.json", {"sigma": 1.0})
    with pytest.raises(DamagedFileError, match="another kind of JSON; what can be loaded here is a saved LocalVolume"):
        mv.load(other)
    (tmp_path / "one.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DamagedFileError, match="one.pkl is not"):
        mv.load(tmp_path / "one.pkl")
    profile = results["profile"].save(tmp_path / "profile.json")
    with pytest.raises(DamagedFileError, match="holds a VolumeProfile; what can be loaded here is a saved LocalVolume"):
        mv.LocalVolume.load(profile)
    assert mv.VolumeProfile.load(profile).to_dict() == results["profile"].to_dict()
    for change in ({"sigma": "0.1"}, {"sigma": None}, {"unknown": 1}, {"interval": [1.0]}, {"repeats": {}}):
        wrong = write_json(tmp_path / "wrong.json", results["splitting"].to_dict() | change)
        with pytest.raises(DamagedFileError, match="does not hold what this package writes") as error:
            mv.load(wrong)
        assert "\n" not in str(error.value)
    with pytest.raises(MissingStageError, match="absent.json does not exist"):
        mv.load(tmp_path / "absent.json")


def test_a_file_that_could_not_be_read_is_not_written(results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Above what a JSON may have."""
    monkeypatch.setattr("minima_volume.result.MAX_JSON", 1000)
    with pytest.raises(ConfigError, match="large.json would have .* MiB"):
        results["rays"].save(tmp_path / "large.json")
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Everything:
    a: int
    b: float
    c: str | None
    d: tuple[float, ...]
    e: dict[str, float]
    f: np.ndarray
    g: bool = False


def test_values_come_back_as_they_were():
    """NaN, infinities, -0.0, large whole numbers, types of arrays; JSON in between."""
    array = np.array([[1.5, np.nan], [-np.inf, -0.0]], dtype=np.float32)
    one = Everything(2**60, float("inf"), None, (0.1, -0.0, float("nan")), {"x": 1.0}, array)
    text = json.dumps(plain(one), allow_nan=False)
    back: Any = restored(Everything, json.loads(text))
    assert back.a == 2**60 and back.b == float("inf") and back.c is None and back.g is False
    assert np.array_equal(np.array(back.d), np.array(one.d), equal_nan=True)
    assert np.copysign(1, back.d[1]) == -1 and np.signbit(back.f[1, 1])
    assert back.f.dtype == np.float32 and np.array_equal(back.f, array, equal_nan=True)
    for wrong in ({"a": 1.5}, {"a": True}, {"b": "x"}, {"c": 3}, {"g": 1}, {"d": {}}):
        with pytest.raises((TypeError, ValueError, KeyError)):
            restored(Everything, json.loads(text) | wrong)
