"""What an interval of +-0.3 nats costs: evaluations of multilevel splitting over many seeds, beside plain samples.

Other programs are in `benchmarks/peers.py`.

    python benchmarks/splitting.py                     # every event over seeds 0 to 199; rewrites the table in docs/measuring.md
    python benchmarks/splitting.py quadratic --seeds 20 --dry

Evaluations are all that are spent (pilot, check, added repeats), times (half-width of the 95 % interval / 0.3)^2, on average over seeds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from coverage import KnownEvent, markdown
from pages import between
from scipy.special import logsumexp
from scipy.stats import chi2
from tqdm.auto import tqdm

from minima_volume.data.digits import digits
from minima_volume.models.mlp import MLP
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Event, Target
from minima_volume.volume.gaussian.mass import GaussianMass
from minima_volume.volume.gaussian.plan import MassSettings, gaussian_mass

PAGE = Path(__file__).resolve().parent.parent / "docs/measuring.md"
WIDTH = 0.3  # nats
LOG_MASSES = (-2.0, -5.0, -10.0, -20.0, -50.0)
SIGMAS = (0.139, 0.157)  # of the digits network: log masses near -9 and -13
KEEP = 0.25  # about where independent particles cost least


@dataclass(frozen=True)
class Study:
    """One event.

    Attributes:
        name: for the table.
        log_mass: the truth; None where only the estimates say it.
    """

    name: str
    event: Event
    log_mass: float | None = None


def quadratics(k: int = 100) -> Iterator[Study]:
    """|z|^2 <= threshold in k dimensions: the law of k equal eigenvalues among any number of flat directions."""
    for log_mass in LOG_MASSES:
        threshold = float(chi2.ppf(math.exp(log_mass), k))
        event = KnownEvent(f"chi-square, k = {k}", k, lambda z: z.square().sum(1), threshold, log_mass)
        yield Study(event.name, event, log_mass)


def network() -> Iterator[Study]:
    """A perceptron that was trained on 60 digits, at several sigmas."""
    data = digits(0, 0)
    x, y = data.x_train[:60], data.y_train[:60]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MLP(tuple(x.shape[1:]), 10, [128, 64])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    engine = LossEngine(model, x, y)
    for sigma in SIGMAS:
        yield Study(f"digits MLP, sigma {sigma:g}", Target(Particles(engine, sigma), Condition("loss", 0.1)))


EVENTS: dict[str, Callable[[], Iterator[Study]]] = {"quadratic": quadratics, "network": network}


def plain(log_mass: float) -> float:
    """Plain samples whose log frequency has this half-width: z^2 (1 - p) / p."""
    return (1.96 / WIDTH) ** 2 * math.expm1(-log_mass)


def independent(log_mass: float, keep: float = KEEP) -> float:
    """Evaluations of splitting if every particle of a stage could be drawn anew at the price of one: no moves do better."""
    stages = log_mass / math.log(keep)
    return (1.96 / WIDTH) ** 2 * (1 + stages) * stages * (1 - keep) / keep


def spent(mass: GaussianMass) -> float:
    """Evaluations for the width; NaN if a side of the interval is open."""
    low, high = mass.interval
    if low is None or high is None:
        return math.nan
    return mass.num_forward * ((high - low) / 2 / WIDTH) ** 2


HEAD = ("event", "log mass", "covered", "error of the mean mass", "splitting", "independent particles", "plain samples")


def row(study: Study, masses: Sequence[GaussianMass]) -> tuple[str, ...]:
    """Of the table."""
    logs = np.array([mass.log_mass for mass in masses if mass.log_mass is not None])
    mean = float(logsumexp(logs)) - math.log(len(masses))
    truth = mean if study.log_mass is None else study.log_mass
    inside = [
        (low is None or low <= truth) and (high is None or truth <= high)
        for low, high in (mass.interval for mass in masses)
    ]
    error = np.exp(logs - truth).std(ddof=1) / math.sqrt(len(logs))
    known = "" if study.log_mass is None else f"{mean - truth:+.3f} ± {error:.3f}"
    costs = (float(np.nanmean([spent(mass) for mass in masses])), independent(truth), plain(truth))
    return (study.name, f"{truth:.1f}", f"{np.mean(inside):.3f}", known, *(number(cost) for cost in costs))


def number(count: float) -> str:
    """Two digits.

    >>> number(24414.0), number(3.2e23)
    ('24,000', '3e+23')
    """
    return f"{round(count, 1 - math.floor(math.log10(count))):,.0f}" if count < 1e9 else f"{count:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", nargs="*", metavar="event", help=f"any of {', '.join(EVENTS)}; all by default")
    parser.add_argument("--seeds", type=int, default=200, help="how many, from 0")
    parser.add_argument("--dry", action="store_true", help="print the table only")
    chosen = parser.parse_args()
    if unknown := set(chosen.events) - set(EVENTS):
        parser.error(f"event {sorted(unknown)[0]!r} is not known; allowed: {', '.join(EVENTS)}")
    torch.set_num_threads(1)
    rows = [HEAD, ("---",) * len(HEAD)]
    for name in chosen.events or EVENTS:
        for study in EVENTS[name]():
            seeds = tqdm(range(chosen.seeds), desc=study.name)
            rows.append(row(study, [gaussian_mass(study.event, seed, MassSettings()) for seed in seeds]))
            print(markdown(rows[-1:]), flush=True)
    table = markdown(rows)
    if not chosen.dry and not chosen.events:
        PAGE.write_text(between(PAGE.read_text(encoding="utf-8"), "cost of splitting", table), encoding="utf-8")


if __name__ == "__main__":
    main()
