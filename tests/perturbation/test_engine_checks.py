"""The engine's self-check and errors, and that results do not depend on batches, memory or shards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_cases import (
    CASES,
    GPT,
    Residual,
    fixed,
    integers,
    mlp,
    normal,
)
from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.perturbation import cnn_path
from minima_volume.perturbation import engine as engine_module
from minima_volume.perturbation.curves import trace_curves
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.mlp_path import MLPPath


def test_check_catches_a_broken_mlp_path(monkeypatch: pytest.MonkeyPatch):
    """A fast path that is 2 % off is not used: the plain loop takes its place, and a note says so; the untouched one stays."""
    engine = LossEngine(fixed(lambda: mlp([3, 8, 2])), normal(40, 3, dtype=torch.float32), integers(2, 40))
    engine.check()
    assert engine.path.name == "mlp" and not engine.notes
    right, forward = engine.start.loss, MLPPath._forward
    monkeypatch.setattr(MLPPath, "_forward", lambda self, *args: forward(self, *args) * 1.02)
    engine.check()
    assert engine.path.name == "general" and "(mlp) disagreed" in engine.notes[0]
    np.testing.assert_allclose(engine.start.loss, right, rtol=1e-6)


def test_check_catches_a_forgotten_first_layer_bias(monkeypatch: pytest.MonkeyPatch):
    """A step of the first layer that is left out, as a wrong linearity would, is noticed for a CNN too."""
    case = CASES["cnn with pooling"]
    engine = LossEngine(fixed(case.build), normal(*case.x, dtype=torch.float32), integers(3, 60), sizes=case.sizes)
    engine.check()
    convolve = cnn_path.CNNPath._convolve
    monkeypatch.setattr(cnn_path.CNNPath, "_convolve", lambda self, *args: convolve(self, *args) * 0.9)
    engine.check()
    assert engine.path.name == "general" and "(cnn) disagreed" in engine.notes[0]


def test_check_uses_landscapes_of_at_most_256_samples(monkeypatch: pytest.MonkeyPatch):
    """The check is cheap: it compares the largest landscape of at most 256 samples, else the smallest."""
    asked = []
    evaluate = engine_module.Rays.evaluate

    def spy(self, rows, coefficients, sizes=None, wrong_allowed=None):
        asked.append(sizes)
        return evaluate(self, rows, coefficients, sizes, wrong_allowed)

    monkeypatch.setattr(engine_module.Rays, "evaluate", spy)
    model, x, y = fixed(lambda: mlp([3, 4, 2])), normal(900, 3, dtype=torch.float32), integers(2, 900)
    LossEngine(model, x, y, sizes=[50, 200, 900]).check()
    LossEngine(model, x, y, sizes=[700, 900]).check()
    assert asked == [[200], [200], [700], [700]]


@pytest.mark.parametrize(
    ("x", "y", "sizes", "message"),
    [
        (normal(9, 3), integers(2, 9), None, "float64.*float32"),
        (normal(9, 3).float(), integers(2, 8), None, "x has 9, y has 8"),
        (normal(9, 3).float(), integers(2, 9), [3, 10], "1 to 9"),
        (normal(9, 3).float(), integers(2, 9), [0, 9], "1 to 9"),
        (normal(9, 3).float(), integers(3, 9) + 1, None, "labels go from 1 to 3"),
    ],
)
def test_samples_that_do_not_fit(x: Tensor, y: Tensor, sizes: list[int] | None, message: str):
    """Types, lengths, landscape sizes and labels are checked before anything runs."""
    with pytest.raises(ConfigError, match=message):
        LossEngine(mlp([3, 2]), x, y, sizes=sizes)


# ------------------------------------------------------------------------------------------------ bit identity

SAME = {
    "mlp": (lambda: mlp([2, 32, 17, 1]), normal(300, 2), integers(2, 300), "bce_with_logits", (50, 90, 300)),
    "depth 0": (lambda: mlp([7, 3]), normal(70, 7), integers(3, 70), "cross_entropy", (20, 33, 70)),
    "wide mlp": (lambda: mlp([30, 100, 10]), normal(700, 30), integers(10, 700), "cross_entropy", (60, 600, 700)),
    "cnn": (CASES["cnn with pooling"].build, normal(60, 1, 8, 8), integers(3, 60), "cross_entropy", (10, 35, 60)),
    "general": (Residual, normal(40, 3), integers(2, 40), "cross_entropy", (10, 40)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("build", "x", "y", "loss", "sizes"), SAME.values(), ids=SAME)
def test_results_do_not_depend_on_the_company(
    build, x: Tensor, y: Tensor, loss: str, sizes: tuple[int, ...], dtype: torch.dtype
):
    """Bit for bit the same losses in any batch, with any directions held together, and whichever landscapes are asked for."""
    model, x = fixed(build).to(dtype), x.to(dtype)
    engine = LossEngine(model, x, y, loss, sizes)
    seeds, grid = list(range(1, 14)), np.array([0.01, 0.1, 0.5, 1.0])
    whole = engine.rays(seeds).evaluate(np.repeat(np.arange(13), 4), np.tile(grid, 13))
    whole_loss, whole_acc = whole.loss.reshape(-1, 13, 4), whole.accuracy.reshape(-1, 13, 4)
    rng = np.random.default_rng(0)
    for _ in range(12):
        held = rng.choice(13, rng.integers(1, 14), replace=False)
        rays = engine.rays([seeds[i] for i in held])
        rows, columns = rng.integers(0, len(held), size := rng.integers(1, 40)), rng.integers(0, 4, size)
        asked = sorted(rng.choice(len(sizes), rng.integers(1, len(sizes) + 1), replace=False))
        values = rays.evaluate(rows, grid[columns], [sizes[k] for k in asked])
        assert np.array_equal(values.loss, whole_loss[asked][:, held[rows], columns])
        assert np.array_equal(values.accuracy, whole_acc[asked][:, held[rows], columns])


@pytest.mark.parametrize(("build", "x", "y", "loss", "sizes"), SAME.values(), ids=SAME)
def test_results_do_not_depend_on_memory_or_shards(build, x: Tensor, y: Tensor, loss: str, sizes: tuple[int, ...]):
    """Curves are the same bit for bit with one direction held at a time, and from two shards of the seeds."""
    model, x = fixed(build).float(), x.float()
    grid = np.linspace(0, 1, 9) ** 2
    engine, tiny = (LossEngine(model, x, y, loss, sizes, memory_gib=gib) for gib in (2.0, 1e-9))
    assert tiny.group_size == 1
    assert engine.group_size > 10
    curves = trace_curves(engine, range(1, 12), grid, 1.0)
    one_by_one = trace_curves(tiny, range(1, 12), grid, 1.0)
    for name in ("loss", "accs", "seeds", "norms"):
        whole = getattr(curves, name)
        assert np.array_equal(whole, getattr(one_by_one, name), equal_nan=True)
        axis = 1 if whole.ndim == 3 else 0
        shards = [getattr(trace_curves(engine, part, grid, 1.0), name) for part in (range(1, 5), range(5, 12))]
        assert np.array_equal(whole, np.concatenate(shards, axis), equal_nan=True)


def test_scores_are_the_margins_in_order():
    """`score` is the (w + 1)-th smallest margin of each landscape, over tokens where there are several."""
    model, x, y = fixed(lambda: mlp([3, 8, 3])).double(), normal(200, 3), integers(3, 200)
    engine = LossEngine(model, x, y, sizes=[40, 200])
    values = engine.start
    scores = score_at_start(engine, [3, 150])
    with torch.no_grad():
        outputs = model(x)
    own = outputs.gather(1, y[:, None])[:, 0]
    margins = own - outputs.scatter(1, y[:, None], -torch.inf).max(1).values
    assert scores == pytest.approx([margins[:40].sort().values[3].item(), margins.sort().values[150].item()], rel=1e-12)
    right = margins > 0
    assert values.accuracy[:, 0].tolist() == pytest.approx(
        [right[:40].double().mean().item(), right.double().mean().item()]
    )
    gpt, tokens, labels = fixed(GPT).double(), integers(11, 9, 6), integers(11, 9, 6, seed=1)
    engine = LossEngine(gpt, tokens, labels)
    with torch.no_grad():
        logits = gpt.eval()(tokens).flatten(0, 1)
    own = logits.gather(1, labels.flatten()[:, None])[:, 0]
    margins = own - logits.scatter(1, labels.flatten()[:, None], -torch.inf).max(1).values
    assert engine.answers == 6
    assert score_at_start(engine, [50]) == pytest.approx([margins.sort().values[50].item()], rel=1e-10)


def score_at_start(engine: LossEngine, wrong_allowed: list[int]) -> list[float]:
    """The scores of the minimum itself."""
    rays = engine.rays([1])
    values = rays.evaluate(np.zeros(1, int), np.zeros(1), engine.sizes, wrong_allowed)
    assert values.score is not None
    return values.score[:, 0].tolist()
