"""benchmarks/coverage.py: its truths against other truths, and a small version of what it measures."""

from __future__ import annotations

import importlib.util
import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import ROOT
from scipy.stats import binom, chi2

from minima_volume.volume.gaussian.plan import MassSettings, gaussian_mass
from minima_volume.volume.gaussian.splitting import Splitting


@pytest.fixture(scope="module")
def study() -> ModuleType:
    """The script, which is no part of the package; its name is another package's."""
    spec = importlib.util.spec_from_file_location("coverage_study", ROOT / "benchmarks/coverage.py")
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


def share(event, threshold: float, count: int = 400_000) -> tuple[float, float]:
    """log of the share of plain samples below a threshold, and 4.5 errors of it: a chance of 7e-6."""
    hits = int((event.scores(torch.randn(count, event.dim, generator=event.generator(5))) <= threshold).sum())
    return math.log(hits / count), 4.5 * math.sqrt((1 - hits / count) / hits)


def test_masses_of_quadratics(study: ModuleType) -> None:
    """One chi-square in closed form, far down too; a spread spectrum against plain samples."""
    for k, x in ((5, 0.5), (20, 4.0), (20, 0.01), (50, 60.0)):
        assert study.log_quadratic_mass(np.full(k, 3.0), 3 * x) == pytest.approx(chi2.logcdf(x, k), abs=1e-6)
    event = study.spectrum_event("i^-2", np.arange(1.0, 51.0) ** -2)
    log_share, error = share(event, 0.3)
    assert study.log_quadratic_mass(np.arange(1.0, 51.0) ** -2, 0.3) == pytest.approx(log_share, abs=error)


def test_masses_of_the_banana(study: ModuleType) -> None:
    """Against plain samples, and the same from a grid half as fine."""
    event = study.banana_event()
    log_share, error = share(event, 0.8)
    assert study.log_banana_mass(0.8) == pytest.approx(log_share, abs=error)
    assert study.log_banana_mass(event.threshold, 201) == pytest.approx(study.LOG_MASS, abs=1e-8)


def test_intervals_cover_and_equal_minima_are_seldom_told_apart(study: ModuleType) -> None:
    """20 seeds on each event with fewer particles: a chance of 1e-5 each to err where .93 cover and .065 of the pairs are told apart."""
    settings = MassSettings("splitting", precision=1.0, splitting=Splitting(num_particles=80, num_moves=12))
    found = [study.Coverage(e, [gaussian_mass(e, seed, settings) for seed in range(20)]) for e in study.events()]
    covered, apart = sum(one.covered for one in found), sum(one.told_apart for one in found)
    print([one.row() for one in found])
    assert covered >= binom.ppf(1e-5, 60, 0.93)
    assert apart <= binom.isf(1e-5, 30, 0.065)
    for one in found:
        errors = np.array([mass.log_mass for mass in one.masses]) + 10
        assert abs(errors.mean()) < 0.4 and errors.std() < 0.7


def test_every_study_has_its_place_in_the_page(study: ModuleType) -> None:
    """And a table of its head and a row for each event."""
    page = study.PAGE.read_text(encoding="utf-8")
    for name in study.STUDIES:
        assert study.between(page, f"coverage {name}", "new") != page
    few = MassSettings("splitting", num_repeats=2, precision=9.0, splitting=Splitting(num_particles=30, num_moves=3))
    head, rule, *rows = study.splitting_table(range(2), few).splitlines()
    assert len(rows) == 3 and {line.count("|") for line in (head, rule, *rows)} == {len(study.HEAD) + 1}
    assert head in page
