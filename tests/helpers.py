"""Tiny runs and small tools that several test files share."""

from __future__ import annotations

import base64
import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor, nn

from minima_volume.files.atomic import read_json
from minima_volume.files.yaml import read_commented_yaml, set_dotted, write_yaml
from minima_volume.perturbation.directions import draw_gaussian
from minima_volume.perturbation.engine import LossEngine
from minima_volume.runs.conditions import TEMPLATE, is_condition
from minima_volume.runs.states import run_stage
from minima_volume.stages.open import open_run
from minima_volume.stages.run import STAGES, Run, read_run
from minima_volume.volume.gaussian.mass import GaussianMass

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
# a whole .png
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")

TINY: dict[str, Any] = {
    "experiment": {"name": "tiny digits"},
    "seeds": {"model": None, "data": None, "perturbation": 1},
    "data": {"source": "digits", "base_size": 20, "levels": [0, 20, 40]},
    "model": {"name": "mlp", "options": {"hidden": [16]}},
    "training": {"epochs": 30, "learning_rate": 0.03},  # from any initial weights to a loss of 0.03 or less
    "perturbation": {
        "num_directions": 12,
        "coefficients": {"max": 1.0, "count": 12, "power": 2.0},
        "shard_size": 5,
        "workers": 1,
    },
    "volume": {"loss_thresholds": [0.5, 0.2], "accuracy_thresholds": [0.8, 0.9], "top_k": 5},
}
SWISS: dict[str, Any] = {
    "data.source": "swiss_roll",
    "data.options": {"test_per_arm": 100},
    "training.loss": "bce_with_logits",
    "training.epochs": 60,
    "volume.loss_thresholds": [0.6, 0.5],
}


def tiny(overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """The tiny digits configuration with dotted overrides."""
    content = copy.deepcopy(TINY)
    set_dotted(content, overrides or {})
    return content


def make_run(folder: Path, overrides: dict[str, Any] | None = None, stages: tuple[str, ...] = ()) -> Run:
    """A run folder with a tiny configuration, taken through some stages."""
    write_yaml(folder / "config.yaml", tiny(overrides))
    run = (
        open_run(folder, stages[0]) if stages else read_run(folder)
    )  # a stage writes the resolved seeds, as the notebooks do
    for stage in stages:
        run_stage(run, stage, progress=False)
    return run


def edit_config(folder: Path, overrides: dict[str, Any]) -> Run:
    """Change settings in a folder's config.yaml as a user with an editor does."""
    content = read_commented_yaml(folder / "config.yaml")
    set_dotted(content, overrides)
    write_yaml(folder / "config.yaml", content)
    return read_run(folder)


def volume_configs() -> list[Path]:
    """config.yaml of each template and condition under experiments/, of no run and no other study."""
    paths = sorted(EXPERIMENTS.rglob("config.yaml"))
    return [path for path in paths if path.parent.name == TEMPLATE or is_condition(path.parent)]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def numbers(path: Path) -> dict[str, Any]:
    """A results.json without what may differ between two equal runs."""
    return {key: value for key, value in read_json(path).items() if key != "provenance"}


def same_arrays(first: Path, second: Path, ignore: tuple[str, ...] = ("provenance",)) -> None:
    """Assert that two .npz files hold the same entries bit for bit."""
    with np.load(first, allow_pickle=False) as a, np.load(second, allow_pickle=False) as b:
        assert sorted(a.files) == sorted(b.files)
        for key in set(a.files) - set(ignore):
            assert a[key].dtype == b[key].dtype
            assert a[key].tobytes() == b[key].tobytes(), f"{first.name}: {key} differs"


def same_sweeps(first: Run, second: Run) -> None:
    """Assert that all sweeps of two runs hold the same numbers bit for bit."""
    for pair in first.pairs():
        same_arrays(*(run.sweep_file(pair.landscape, pair.minimum) for run in (first, second)))


@contextmanager
def few_bits(newer: bool = False) -> Iterator[None]:
    """Products of float32 in bfloat16 or TF32 where the processor or GPU has them, by the older settings of torch or by the newer ones."""
    backends, older = torch.backends, torch.get_float32_matmul_precision()
    parts = [backends.cuda.matmul, backends.mkldnn.matmul, backends.mkldnn.conv] if newer else []
    before = [part.fp32_precision for part in parts]
    try:
        if not newer:
            torch.set_float32_matmul_precision("medium")
        for part, precision in zip(parts, ("tf32", "bf16", "bf16"), strict=False):
            part.fp32_precision = precision
        backends.cudnn.benchmark = True
        yield
    finally:
        backends.cudnn.benchmark = False
        torch.set_float32_matmul_precision(older)
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normals in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def xi_of(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    """The normals of one direction, in float64."""
    return draw_gaussian(seed, [torch.Size(shape) for shape in shapes], torch.float64)


def classifier() -> tuple[LossEngine, nn.Module]:
    """A network that is right on all of its 60 samples, with landscapes of 20 and 60."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 3)).double()
    with torch.no_grad():
        model[0].weight.mul_(3)
        model[2].weight.mul_(5)
        x = normal(60, 2)
        y = model(x).argmax(1)
    return LossEngine(model, x, y, sizes=[20, 60]), model


def regression(
    spectrum: np.ndarray, samples: int = 400, shift: float = 0.0, rotated: bool = True, seed: int = 0
) -> Any:
    """A linear regression whose mean squared error has Hessian Q diag(spectrum) Q', off its minimum by `shift` in each weight.

    Returns:
        model, x, y, Hessian; all float64.
    """
    n, random = len(spectrum), torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(samples, n, generator=random, dtype=torch.float64)).Q
    right = (
        torch.linalg.qr(torch.randn(n, n, generator=random, dtype=torch.float64)).Q
        if rotated
        else torch.eye(n).double()
    )
    x = math.sqrt(samples / 2) * left * torch.as_tensor(spectrum).double().sqrt() @ right.T
    model = nn.Linear(n, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(1, n, generator=random))
    y = model(x).detach()
    with torch.no_grad():
        model.weight += shift
    return model, x, y, 2 * x.T @ x / samples


def agree(first: GaussianMass, second: GaussianMass | float, false_alarm: float = 1e-6) -> None:
    """Assert that two independent estimates may be of one log mass (a number is the truth itself): their limits overlap.

    Each pair of limits misses the truth with a chance of half of `false_alarm`, so that equal masses fail the test with a chance
    below `false_alarm`, whatever the machine or the training.
    """
    (low, high), (other_low, other_high) = (limits(mass, false_alarm / 2) for mass in (first, second))
    assert low <= other_high and other_low <= high, f"{low:.3f} to {high:.3f}, but {other_low:.3f} to {other_high:.3f}"


def limits(mass: GaussianMass | float, miss: float) -> tuple[float, float]:
    """Between which the log mass lies but for this chance: Clopper-Pearson for plain samples, else Student's t."""
    if not isinstance(mass, GaussianMass):
        return mass, mass
    if mass.hits is not None:
        assert mass.num_samples is not None
        share = scipy.stats.binomtest(mass.hits, mass.num_samples).proportion_ci(1 - miss, method="exact")
        return math.log(share.low) if share.low > 0 else -math.inf, math.log(share.high)
    assert mass.log_mass is not None and mass.standard_error is not None and mass.degrees is not None, mass.verdict
    half = mass.standard_error * float(scipy.stats.t.isf(miss / 2, mass.degrees))
    return mass.log_mass - half, mass.log_mass + half


def fewest(count: int, chance: float, false_alarm: float = 1e-6) -> int:
    """Of `count` independent cases that happen with this chance, so many do at least, but for a chance of `false_alarm`."""
    return int(scipy.stats.binom.ppf(false_alarm, count, chance))


ALL_STAGES = tuple(STAGES)
