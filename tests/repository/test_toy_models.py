"""The toy models: right against closed forms, their notebooks thin and clean, and run at small size."""

from __future__ import annotations

import ast
import doctest
import importlib
import math
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from helpers import agree
from scipy.integrate import quad
from scipy.stats import chi2

ROOT = Path(__file__).parents[2]
TOYS = ROOT / "toy_models"
SMALL: dict[str, dict[str, Any]] = {
    "wells": {"additional": [0, 60], "shown": [0, 60]},
    "largest_radius": {"dims": [2, 10, 200], "counts": [50, 500], "seeds": 2, "shown": [10, 200]},
    "star_region": {"num_directions": 300},
    "ellipsoids": {
        "dims": [2, 5, 60],
        "num_directions": 60,
        "splitting": {"num_particles": 50, "num_repeats": 2, "num_moves": 10, "precision": 5.0},
    },
}


@pytest.fixture(autouse=True)
def in_the_folder(monkeypatch: pytest.MonkeyPatch):
    """Notebooks find the module beside them because Jupyter starts in their folder."""
    monkeypatch.chdir(TOYS)
    monkeypatch.syspath_prepend(str(TOYS))


def toy(name: str) -> Any:
    return importlib.import_module(name)


def test_every_notebook_is_tested():
    """And each has its module and its picture, which is small."""
    assert {path.stem for path in TOYS.glob("*.ipynb")} == set(SMALL) == {path.stem for path in TOYS.glob("*.py")}
    for name in SMALL:
        picture = ROOT / "figs" / f"toy_{name}.png"
        assert picture.read_bytes()[:4] == b"\x89PNG"
        assert picture.stat().st_size <= 150_000


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_is_thin_and_stored_clean(name: str):
    """Valid, without outputs, no definitions, one parameters cell, which holds all that the test below makes smaller."""
    notebook = nbformat.read(TOYS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    tree = ast.parse("\n".join(map(runnable, code)))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Lambda | ast.ClassDef)]
    (parameters,) = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assigned = {node.targets[0].id for node in ast.parse(parameters.source).body}
    assert assigned >= {*SMALL[name], "figures"}


def runnable(cell: Any) -> str:
    return "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """In this process at small size; its picture is small, and the library is what it calls."""
    names: dict[str, Any] = {}
    for cell in nbformat.read(TOYS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(runnable(cell), names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= {**SMALL[name], "figures": str(tmp_path)}
    picture = tmp_path / f"toy_{name}.png"
    assert capsys.readouterr().out.splitlines()[-1] == str(picture)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    for axis in names["figure"].axes:
        assert axis.get_xlabel() and (axis.lines or axis.collections)


@pytest.mark.parametrize("name", SMALL)
def test_examples_in_docstrings(name: str):
    """Doctests of the modules."""
    assert doctest.testmod(toy(name)).failed == 0


def test_wells_change_their_order():
    """The wide well is 9 times as wide on the base data and gone with 60 more samples; the true sine fits all of them."""
    wells = toy("wells")
    found = wells.measure_wells([0, 60], points=2001)
    assert 8 < found.widths[0, 0] / found.widths[0, 1] < 11
    assert found.widths[1, 0] == 0 < found.widths[1, 1]
    assert found.log_masses[0, 0] > found.log_masses[0, 1] + 1
    assert math.isnan(found.log_masses[1, 0]) and found.log_masses[1, 1] < found.log_masses[0, 1]


def test_radii_of_ellipsoids():
    """r^n has the mean det(H)^-1/2: numbers against the integral over angles in the plane, and against the figure's claim."""
    toy_radii = toy("largest_radius")
    flat, steep = toy_radii.curvatures(2)
    area = quad(lambda a: 0.5 / (flat * math.cos(a) ** 2 + steep * math.sin(a) ** 2), 0, 2 * math.pi)[0]
    found = toy_radii.measure_radii([2, 1000], [100, 1000], seeds=2)
    assert math.log(area / math.pi) == pytest.approx(found.exact[0])
    assert np.abs(found.estimates[:, 0, 1]).max() < 0.15
    # in many dimensions the mean is its largest term, and far below the truth
    assert (found.estimates[:, 1] < -40).all()
    assert np.allclose(found.estimates[:, 1], found.largest[:, 1], atol=1.5)


def test_the_star_region_by_brute_force():
    """Radii against a fine walk along rays; masses against samples whose segment to the minimum is inside, or which are."""
    star = toy("star_region")
    angles = np.linspace(0.001, 6.28, 57)
    r = np.linspace(0, 12, 60_001)
    for angle in angles:
        outside = star.loss(1 + r * math.cos(angle), 1 + r * math.sin(angle)) > star.THRESHOLD
        first = r[outside.argmax()] if outside.any() else math.inf
        assert star.radius(np.array([angle]))[0] == pytest.approx(first, abs=3e-4)
    found = star.measure_star(num_directions=2000)
    low, high = found.star.interval
    assert found.star.log_volume == pytest.approx(
        math.log(found.exact_area), abs=1.5 * (high - low)
    )  # six standard errors
    agree(found.local, math.log(found.exact_mass))
    z = np.random.default_rng(0).standard_normal((2, 400_000)) * found.sigma
    inside = star.loss(*(1 + z)) <= star.THRESHOLD
    seen = np.hypot(*z) <= star.radius(np.arctan2(z[1], z[0]))
    assert inside.mean() == pytest.approx(found.exact_mass, abs=0.002)
    assert seen.mean() == pytest.approx(found.star_mass, abs=0.002)
    assert not (seen & ~inside).any()


@pytest.mark.parametrize("n", [5, 40])
def test_the_exact_mass_of_two_curvatures(n: int):
    """Against samples of the weighted sum; against one chi-square where both curvatures are taken equal."""
    toy_ellipsoids = toy("ellipsoids")
    sigma, random = toy_ellipsoids.sigma_for(n), np.random.default_rng(1)
    h = toy_ellipsoids.curvatures(n)
    loss = sigma**2 / 2 * (random.standard_normal((100_000, n)) ** 2 @ h)
    hits = (loss <= toy_ellipsoids.THRESHOLD).mean()
    exact = toy_ellipsoids.exact_log_mass(n, sigma)
    assert math.log(hits) == pytest.approx(exact, abs=6 * math.sqrt((1 - hits) / hits / 100_000))
    model, x, _ = toy_ellipsoids.regression(n)
    hessian = 2 * x.T @ x / len(x)
    assert np.allclose(np.sort(torch.linalg.eigvalsh(hessian).numpy()), np.sort(h))
    assert model.weight.numel() == n


def test_equal_curvatures_are_one_chi_square(monkeypatch: pytest.MonkeyPatch):
    """log P[chi2_n <= 2 eps / sigma^2] down to a log mass of -60."""
    toy_ellipsoids = toy("ellipsoids")
    monkeypatch.setattr(toy_ellipsoids, "STEEP", 1.0)
    for sigma in (0.05, 0.2):
        exact = chi2.logcdf(2 * toy_ellipsoids.THRESHOLD / sigma**2, 100)
        assert toy_ellipsoids.exact_log_mass(100, sigma) == pytest.approx(exact, abs=1e-3)
