"""The quick check: one MLP per regime, one epoch, alpha 0 and 0.1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from minima_volume.config.noise import HEADLINE, NEEDED
from minima_volume.numerals import fixed
from minima_volume.robustness.evaluate import read_sweep
from minima_volume.robustness.run import Work, train_and_measure
from minima_volume.robustness.study import CLEAN, NOISY, REGIMES, Network, Study
from minima_volume.robustness.verdict import Sweeps, Verdict, compare, mean_drop

MOST_ERRORS = 2.6  # paired standard errors that the noisy drop may exceed the clean one by
OK = "Sanity OK: noisy-trained has smaller or similar drop."


@dataclass(frozen=True)
class Sanity:
    """What the check found.

    Attributes:
        words: to print.
        ok: whether the noisy drop is smaller or similar.
    """

    words: str
    ok: bool


def sanity_study(study: Study) -> Study:
    """The study with one epoch and the two alphas, in `checkpoints/sanity/`, where it never meets the networks of a full run."""
    seeds = {"training": study.config.seeds.training[:1]}
    small = study.with_settings(training={"epochs": 1}, noise={"alpha_test": list(NEEDED)}, seeds=seeds)
    folder = study.checkpoints / "sanity"
    return replace(small, checkpoints=folder, results=folder)


def check_sanity(study: Study, architecture: str = "mlp", say: Callable[[str], object] = print) -> Sanity:
    """Train an architecture clean and noisy for an epoch and compare their drops.

    Args:
        study: a full study.
        architecture: which.
        say: called after each network.
    """
    small = sanity_study(study)
    sweeps: dict[str, Any] = {}
    seed = small.config.seeds.training[0]
    small.networks([architecture])  # one that is not known is refused here
    for regime in REGIMES:
        network = Network(architecture, regime, seed)
        train_and_measure(Work(small, network))
        sweeps[regime] = {seed: read_sweep(small.sweep(network))}
        say(f"{regime}: {_drop(sweeps[regime])}")
    return judge(sweeps, architecture)


def _drop(sweeps: Sweeps) -> str:
    (sweep,) = sweeps.values()
    drop = mean_drop(sweeps)
    first, last = (float(sweep.at(alpha).mean()) for alpha in NEEDED)
    return (
        f"acc@0 {first:.4f}, acc@{HEADLINE:g} {last:.4f}, drop {fixed(drop.mean, 4, '+')} +- {drop.standard_error:.4f}"
    )


def judge(sweeps: Mapping[str, Sweeps], architecture: str = "mlp") -> Sanity:
    """OK unless the noisy drop exceeds the clean one by more than 2.6 paired standard errors (a false alarm in 1 of 200)."""
    verdict: Verdict = compare(architecture, sweeps[CLEAN], sweeps[NOISY])
    drop = verdict.drop
    found = f"noisy minus clean drop {fixed(drop.mean, 4, '+')} +- {drop.standard_error:.4f} (paired standard error)"
    if drop.mean > MOST_ERRORS * drop.standard_error:
        return Sanity(
            f"{found}\nSanity check failed: the noisy-trained network drops more than the clean one, by more than "
            f"{MOST_ERRORS} standard errors; one epoch may be too few, train longer before concluding",
            False,
        )
    return Sanity(f"{found}\n{OK}", True)
