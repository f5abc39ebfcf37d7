"""What ±0.3 nats cost other programs: subset sampling of OpenTURNS and UQpy on the chi-square event of `benchmarks/splitting.py`.

They need an environment of their own, without this package:

    python -m venv peers && peers/bin/pip install openturns UQpy
    peers/bin/python benchmarks/peers.py --seeds 200          # rewrites the table in docs/measuring.md

Evaluations are those of one run times (1.96 s / 0.3)^2, s the standard deviation of the log masses that runs with other seeds find. A user of
one run does not know s: both programs state an error of their own, which stands beside it.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pages import between
from scipy.special import logsumexp
from scipy.stats import chi2

PAGE = Path(__file__).resolve().parent.parent / "docs/measuring.md"
DIMENSIONS, LOG_MASS, EVALUATIONS, WIDTH = 100, -10.0, 10_000, 0.3
KEEP, STAGES = 0.1, 5  # of both programs by default; stages to -10, the first particles among them
UQPY_SEEDS = 20  # a run takes most of a minute
THRESHOLD = float(chi2.ppf(math.exp(LOG_MASS), DIMENSIONS))


@dataclass(frozen=True)
class Run:
    """One run: log mass, evaluations, and the standard error of the log mass that the program states."""

    log_mass: float
    evaluations: int
    stated: float


def openturns(seed: int) -> Run:
    """SubsetSampling with its own settings, and particles for about `EVALUATIONS`."""
    import openturns as ot

    counted = 0

    def score(points: object) -> np.ndarray:
        nonlocal counted
        array = np.asarray(points)
        counted += len(array)
        return np.square(array).sum(1, keepdims=True)

    ot.RandomGenerator.SetSeed(seed)
    function = ot.PythonFunction(DIMENSIONS, 1, func_sample=score)
    scores = ot.CompositeRandomVector(function, ot.RandomVector(ot.Normal(DIMENSIONS)))
    algorithm = ot.SubsetSampling(ot.ThresholdEvent(scores, ot.Less(), THRESHOLD))
    algorithm.setMaximumOuterSampling(EVALUATIONS // STAGES)
    algorithm.setBlockSize(1)
    algorithm.run()
    result = algorithm.getResult()
    return Run(math.log(result.getProbabilityEstimate()), counted, result.getCoefficientOfVariation())


MODEL = """import numpy as np


def score(samples):
    points = np.atleast_2d(np.asarray(samples, dtype=float))
    return [float(point @ point) - {threshold!r} for point in points]
"""


def uqpy(seed: int) -> Run:
    """SubsetSimulation with component-wise (modified) Metropolis moves; its stated error is that for dependent chains."""
    from UQpy.distributions import Normal
    from UQpy.reliability import SubsetSimulation
    from UQpy.run_model import PythonModel, RunModel
    from UQpy.sampling import ModifiedMetropolisHastings, MonteCarloSampling

    normals, count = [Normal() for _ in range(DIMENSIONS)], EVALUATIONS // STAGES
    first = MonteCarloSampling(distributions=normals, nsamples=count, random_state=seed).samples
    model = PythonModel("limit_state.py", "score", [f"x{i}" for i in range(DIMENSIONS)], delete_files=True)
    moves = ModifiedMetropolisHastings(
        dimension=DIMENSIONS, pdf_target=[normal.pdf for normal in normals], seed=[0.0] * DIMENSIONS, random_state=seed
    )
    found = SubsetSimulation(
        RunModel(model=model), moves, samples_init=first, conditional_probability=KEEP, nsamples_per_subset=count
    )
    evaluations = sum(len(samples) for samples in found.samples)
    return Run(math.log(found.failure_probability), evaluations, float(found.dependent_chains_CoV))


HEAD = ("program", "runs", "evaluations of one", "error of the mean mass", "spread of logs", "spread stated", "cost")
PROGRAMS: dict[str, Callable[[int], Run]] = {"OpenTURNS": openturns, "UQpy": uqpy}


def row(name: str, runs: list[Run]) -> tuple[str, ...]:
    """Of the table."""
    logs = np.array([run.log_mass for run in runs])
    mean = float(logsumexp(logs)) - math.log(len(logs)) - LOG_MASS
    error = np.exp(logs - LOG_MASS).std(ddof=1) / math.sqrt(len(logs))
    spent, spread = float(np.mean([run.evaluations for run in runs])), float(logs.std(ddof=1))
    cost = spent * (1.96 * spread / WIDTH) ** 2
    stated = float(np.mean([run.stated for run in runs]))
    return (
        *(name, f"{len(runs)}", f"{spent:,.0f}", f"{mean:+.3f} ± {error:.3f}", f"{spread:.2f}", f"{stated:.2f}"),
        f"{round(cost, -3):,.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help=f"of OpenTURNS; UQpy has {UQPY_SEEDS} at most")
    parser.add_argument("--dry", action="store_true", help="print the table only")
    chosen = parser.parse_args()
    lines = [HEAD, ("---",) * len(HEAD)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "limit_state.py").write_text(MODEL.format(threshold=THRESHOLD), encoding="utf-8")
        sys.path.insert(0, folder)
        for name, program in PROGRAMS.items():
            seeds = range(chosen.seeds if name == "OpenTURNS" else min(chosen.seeds, UQPY_SEEDS))
            lines.append(row(name, [program(seed) for seed in seeds]))
            print(" | ".join(lines[-1]), flush=True)
    if not chosen.dry:
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        PAGE.write_text(between(PAGE.read_text(encoding="utf-8"), "other programs", table), encoding="utf-8")


if __name__ == "__main__":
    main()
