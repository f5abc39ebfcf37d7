"""How often 95 % intervals cover and what a claim costs, measured over many seeds on events with a known probability.

    python benchmarks/coverage.py                      # every study over seeds 0 to 999; rewrites the tables in docs/measuring.md
    python benchmarks/coverage.py splitting --seeds 100

A study is a function seeds -> table; it needs no network and no data.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pages import between
from scipy.integrate import quad, simpson
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from torch import Tensor
from tqdm.auto import tqdm

from minima_volume.volume.gaussian.comparison import compare_masses
from minima_volume.volume.gaussian.mass import GaussianMass
from minima_volume.volume.gaussian.plan import MassSettings, gaussian_mass

PAGE = Path(__file__).resolve().parent.parent / "docs/measuring.md"
LOG_MASS = -10.0


@dataclass(frozen=True)
class KnownEvent:
    """score(z) <= threshold for z of `dim` standard normals, with a probability that is known.

    Attributes:
        name: for the table.
        score: (B, dim) -> (B,).
        log_mass: of the event.
    """

    name: str
    dim: int
    score: Callable[[Tensor], Tensor]
    threshold: float
    log_mass: float
    chunk: int = 8000

    @property
    def bytes_per_particle(self) -> int:
        return 4 * self.dim

    def outside(self) -> float | None:
        return None

    def empty(self, count: int) -> Tensor:
        return torch.empty(count, self.dim)

    def generator(self, seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    def scores(self, z: Tensor) -> np.ndarray:
        return self.score(z).double().numpy()


def log_quadratic_mass(spectrum: np.ndarray, threshold: float) -> float:
    """log P[sum_i h_i z_i^2 <= threshold]: the inversion of the Laplace transform along a vertical line through its saddle point.

    The line through the saddle keeps the relative precision however small the probability is (Imhof 1961 takes the line through 0).

    >>> values = [log_quadratic_mass(np.full(20, 2.0), 2 * x) for x in (1.0, 20.0)]
    >>> bool(np.allclose(values, chi2.logcdf([1.0, 20.0], 20)))
    True
    """

    def log_integrand(s: complex) -> complex:
        return s * threshold - 0.5 * np.log(1 + 2 * s * spectrum).sum() - np.log(s)

    def slope(s: float) -> float:
        return threshold - float((spectrum / (1 + 2 * s * spectrum)).sum()) - 1 / s

    saddle = float(brentq(slope, 1e-9 / threshold, (len(spectrum) + 2) / threshold))
    top = log_integrand(saddle).real
    value = quad(lambda u: np.exp(log_integrand(saddle * (1 + 1j * u)) - top).real, 0, np.inf, limit=1000)[0]
    return top + math.log(saddle * value / math.pi)


def spectrum_event(name: str, spectrum: np.ndarray) -> KnownEvent:
    """sum_i h_i z_i^2 at the log mass of the study."""
    threshold = float(brentq(lambda t: log_quadratic_mass(spectrum, t) - LOG_MASS, 1e-3, spectrum.sum()))
    h = torch.from_numpy(spectrum).float()
    return KnownEvent(name, len(spectrum), lambda z: z.square() @ h, threshold, LOG_MASS)


ALONG, ACROSS, OTHERS, NUM_OTHERS = 0.1, 16.0, 0.25, 8


def banana_event() -> KnownEvent:
    """A valley along v = u^2, 160 times as curved across as along, with eight more directions."""

    def score(z: Tensor) -> Tensor:
        u, v = z[:, 0], z[:, 1]
        return ALONG * u.square() + ACROSS * (v - u.square()).square() + OTHERS * z[:, 2:].square().sum(1)

    threshold = float(brentq(lambda t: log_banana_mass(t) - LOG_MASS, 1e-2, 10))
    return KnownEvent("banana-shaped valley", 2 + NUM_OTHERS, score, threshold, LOG_MASS)


def log_banana_mass(threshold: float, points: int = 401) -> float:
    """By Simpson's rule over u and the distance w = v - u^2 from the valley; the other directions are a chi-square."""
    grid = np.linspace(-1, 1, points)
    u = math.sqrt(threshold / ALONG) * grid[:, None]
    room = np.maximum(threshold - ALONG * u**2, 0)
    w = np.sqrt(room / ACROSS) * grid  # (points, points), each row to its own edge
    rest = np.maximum(room - ACROSS * w**2, 0)
    density = norm.pdf(u) * norm.pdf(w + u**2) * chi2.cdf(rest / OTHERS, NUM_OTHERS)
    inner = simpson(density, x=w, axis=1)
    return math.log(simpson(inner, x=u[:, 0]))


def events() -> list[KnownEvent]:
    """What splitting is measured on."""
    return [
        spectrum_event("chi-square, k = 20", np.ones(20)),
        banana_event(),
        spectrum_event("spectrum i^-2, n = 50", np.arange(1.0, 51.0) ** -2),
    ]


@dataclass(frozen=True)
class Coverage:
    """What many seeds found on one event.

    Attributes:
        event: the event.
        masses: one a seed.
    """

    event: KnownEvent
    masses: Sequence[GaussianMass]

    @property
    def covered(self) -> int:
        """Intervals that hold the truth; a side that nothing bounds counts as holding it."""
        limits = [mass.interval for mass in self.masses]
        truth = self.event.log_mass
        return sum((low is None or low <= truth) and (high is None or truth <= high) for low, high in limits)

    @property
    def pairs(self) -> list[tuple[GaussianMass, GaussianMass]]:
        """Equal minima, measured with different seeds: the first and the second, the third and the fourth, ..."""
        return list(zip(self.masses[::2], self.masses[1::2], strict=False))

    @property
    def told_apart(self) -> int:
        """Pairs of which one is called larger."""
        return sum(compare_masses(*pair).told_apart() for pair in self.pairs)

    def row(self) -> tuple[str, ...]:
        """Of the table."""
        errors = np.array([mass.log_mass for mass in self.masses if mass.log_mass is not None]) - self.event.log_mass
        limits = [(low, high) for low, high in (mass.interval for mass in self.masses) if None not in (low, high)]
        return (
            self.event.name,
            f"{self.covered / len(self.masses):.3f}",
            f"{len(limits) / len(self.masses):.3f}",
            f"{np.diff(np.array(limits, dtype=float)).mean() / 2:.2f}",
            f"{errors.mean():+.3f} ± {errors.std(ddof=1):.2f}",
            f"{np.mean([len(mass.repeats) for mass in self.masses]):.1f}",
            f"{self.told_apart} of {len(self.pairs)} ({self.told_apart / len(self.pairs):.3f})",
        )


HEAD = ("event", "covered", "two-sided", "half-width", "error", "repeats", "equal minima told apart")


def splitting_table(seeds: Sequence[int], settings: MassSettings | None = None) -> str:
    """95 % intervals of splitting, by default at its default settings, at a log mass of -10."""
    settings = settings or MassSettings("splitting")
    found = [
        Coverage(event, [gaussian_mass(event, seed, settings) for seed in tqdm(seeds, desc=event.name)])
        for event in events()
    ]
    return markdown([HEAD, ("---",) * len(HEAD), *(coverage.row() for coverage in found)])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the second row is the line under its head."""
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


# name -> what it measures; the page has a place <!-- coverage NAME --> for each
STUDIES: dict[str, Callable[[Sequence[int]], str]] = {"splitting": splitting_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="study", help=f"any of {', '.join(STUDIES)}; all by default")
    parser.add_argument("--seeds", type=int, default=1000, help="how many, from 0")
    parser.add_argument("--dry", action="store_true", help="print the tables only")
    chosen = parser.parse_args()
    if unknown := set(chosen.studies) - set(STUDIES):
        parser.error(f"study {sorted(unknown)[0]!r} is not known; allowed: {', '.join(STUDIES)}")
    torch.set_num_threads(1)
    for name in chosen.studies or STUDIES:
        table = STUDIES[name](range(chosen.seeds))
        print(table)
        if not chosen.dry:
            page = between(PAGE.read_text(encoding="utf-8"), f"coverage {name}", table)
            PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
