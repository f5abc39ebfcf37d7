"""How long one run of every condition takes at full size on one core: an estimate from pieces of the work, on random samples.

    python benchmarks/full_size_times.py [CONDITION ...]

writes full_size_times.json, from which conditions_table.py makes the table of experiments/README.md. Timed, in CPU seconds, are a
training step, an evaluation of the test set, drawing a direction, and a pass of the loss engine; larger numbers of samples than
`MOST` are scaled. What is assumed about the rest stands in `seconds`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from conditions_table import CONDITIONS, EXPERIMENTS, TIMES
from torch import Tensor, nn

from minima_volume.config.run import Config, load_config
from minima_volume.losses.registry import get_loss
from minima_volume.models import build_model
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.training.evaluation import evaluate
from minima_volume.training.sam import ascended
from minima_volume.training.supervised import batches, make_optimizer
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.plan import MassSettings
from minima_volume.volume.gaussian.splitting import Splitting

MOST = {"mlp": 4096, "cnn": 512, "transformer": 8}  # samples in a timed piece
SHARE = 0.4  # of the coefficients of a direction, before it stops early
PASSES_PER_RADIUS = 4  # of the samples of a landscape, for each threshold
LOG_MASS, NOTEBOOK_SECONDS = -8.0, 6.0  # as splitting usually goes; to start the kernel of a notebook

# shape of a sample, outputs, test samples
SHAPES: dict[str, tuple[tuple[int, ...], int, int]] = {
    "swiss_roll": ((2,), 1, 4000),
    "digits": ((1, 8, 8), 10, 497),
    "mnist": ((1, 28, 28), 10, 10_000),
    "fashion_mnist": ((1, 28, 28), 10, 10_000),
    "cifar10": ((3, 32, 32), 10, 10_000),
    "svhn": ((3, 32, 32), 10, 26_032),
    "modulo_arithmetic": ((194,), 97, 9409),
    "text": ((256,), 65, 430),  # of Shakespeare's plays a tenth is held out
}


@dataclass(frozen=True)
class Pieces:
    """CPU seconds: a step and a test evaluation for each sample, drawing a direction, a pass; a particle in the smallest landscape."""

    step: Callable[[int], float]
    test: float
    draw: float
    ray: Callable[[int], float]
    particle: float


def samples(config: Config, count: int) -> tuple[Tensor, Tensor]:
    """Random samples of the source's shape."""
    shape, outputs, _ = SHAPES[config.data.source]
    random = torch.Generator().manual_seed(0)
    if config.data.source == "text":
        tokens = torch.randint(outputs, (2, count, *shape), generator=random)
        return tokens[0], tokens[1]
    x = torch.randn(count, *shape, generator=random)
    y = torch.randint(max(outputs, 2), (count,), generator=random)
    return x, nn.functional.one_hot(y, outputs).float() if config.training.loss == "mse" else y


def cpu(work: Callable[[], object], least: float = 0.1) -> float:
    """CPU seconds of one call, after one that warms up."""
    work()
    start, calls = time.process_time(), 0
    while time.process_time() - start < least:
        work()
        calls += 1
    return (time.process_time() - start) / calls


def measure(config: Config) -> Pieces:
    """Time the pieces of a condition."""
    shape, outputs, tests = SHAPES[config.data.source]
    config = config.model_copy(update={"seeds": config.seeds.model_copy(update={"model": 0, "data": 0})})
    model = build_model(config, shape, outputs)
    most = MOST[config.model.name]
    x, y = samples(config, most)
    loss, optimizer = get_loss(config.training.loss), make_optimizer(model, config.training)
    targets = y.float() if config.training.loss == "bce_with_logits" else y
    known: dict[int, float] = {}

    def steps(size: int) -> Callable[[], None]:
        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss.per_sample(model(x[:size]), targets[:size]).mean().backward()
            if config.training.sam is not None:
                with ascended(model, config.training.sam):
                    loss.per_sample(model(x[:size]), targets[:size]).mean().backward()
            optimizer.step()

        return step

    def scaled(time_it: Callable[[int], float], known: dict[int, float]) -> Callable[[int], float]:
        def seconds(size: int) -> float:
            timed = min(size, most)
            if timed not in known:
                known[timed] = time_it(timed)
            return known[timed] * size / timed

        return seconds

    def ray(size: int) -> float:
        engine = LossEngine(model, x[:size], y[:size], config.training.loss)
        rays = engine.rays([1])
        rows, places = np.zeros(8, int), np.linspace(0.01, 0.02, 8)
        return cpu(lambda: rays.evaluate(rows, places)) / 8

    engine = LossEngine(model, x[:1], y[:1], config.training.loss)
    return Pieces(
        particle=particle(config, model, x, y),
        step=scaled(lambda size: cpu(steps(size)), known),
        test=cpu(lambda: evaluate(model, (x, y), loss)) * tests / most,
        draw=cpu(lambda: engine.rays([1])),
        ray=scaled(ray, {}),
    )


def particle(config: Config, model: nn.Module, x: Tensor, y: Tensor) -> float:
    """A draw and its score in the smallest landscape."""
    size = min(config.data.base_size + config.data.levels[0], len(x))
    engine = LossEngine(model, x[:size], y[:size], config.training.loss)
    target = Target(Particles(engine, 0.05), Condition("loss", 1e9))
    z, generator = target.empty(target.chunk), target.generator(0)
    scale = (config.data.base_size + config.data.levels[0]) / size
    return scale * cpu(lambda: target.scores(z.normal_(generator=generator))) / len(z)


def seconds(config: Config, pieces: Pieces) -> dict[str, float]:
    """CPU seconds of the stages of one run."""
    training, perturbation, volume = config.training, config.perturbation, config.volume
    sizes = {minimum: config.data.base_size + config.level_of(minimum) for minimum in config.minima}
    train = 0.0
    for minimum in [training.epochs] if config.variation == "epoch" else config.minima:
        size = config.data.base_size + config.level_of(minimum if config.variation == "level" else 0)
        batch = minimum if config.variation == "batch_size" else training.batch_size
        parts = [
            len(range(size)[part]) if isinstance(part, slice) else len(part)
            for part in batches(size, batch, torch.Generator())
        ]
        epoch = pieces.test + sum(pieces.step(part) for part in parts) * (1.0 if len(parts) == 1 else 4 / 3)
        train += training.epochs * epoch
    count = SHARE * perturbation.coefficients.count
    perturb = perturbation.num_directions * sum(pieces.draw + count * pieces.ray(size) for size in sizes.values())
    conditions = len(volume.loss_thresholds) * (1 if volume.accuracy_thresholds is None else 2)
    radii = perturbation.num_directions * sum(
        pieces.draw
        + PASSES_PER_RADIUS
        * conditions
        * sum(pieces.ray(config.data.base_size + q) for q in config.data.levels if config.data.base_size + q <= size)
        for size in sizes.values()
    )
    how, masses = volume.gaussian, 0.0
    if how.sigma is not None:
        driven = Splitting(num_particles=how.num_particles, num_moves=how.num_moves)
        particles = MassSettings(num_repeats=how.num_repeats, splitting=driven).passes(LOG_MASS)
        masses = len(sizes) * particles * pieces.particle
    return {"train": train, "perturb": perturb, "radii": radii, "masses": masses, "notebooks": 5 * NOTEBOOK_SECONDS}


def main(names: list[str]) -> None:
    """Estimate some conditions, all by default; what was measured is kept."""
    torch.set_num_threads(1)
    times = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.is_file() else {}
    known: dict[str, Pieces] = {}
    for name in names or CONDITIONS:
        config = load_config(EXPERIMENTS / name / "config.yaml")
        key = repr((config.data.source, config.model, config.training.loss, config.training.sam, config.data.base_size))
        if key not in known:
            known[key] = measure(config)
        found = seconds(config, known[key])
        times.setdefault(name, {})["estimated_minutes"] = round(sum(found.values()) / 60, 1)
        print(name, {stage: round(value) for stage, value in found.items()}, flush=True)
        TIMES.write_text(json.dumps(dict(sorted(times.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
