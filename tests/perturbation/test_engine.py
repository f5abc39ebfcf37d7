"""The loss engine's fast paths against the plain loop in float64, and float32 against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_cases import (
    CASES,
    CUDA,
    SEEDS,
    Case,
    fixed,
    integers,
    mlp,
    normal,
    plain_loop,
    run_engine,
    targets,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from minima_volume.perturbation import cnn_path, mlp_path, tiles
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.tiles import plan_tiles, tiles_for


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fast_paths_equal_the_plain_loop(case: Case, device: str):
    """Losses to 1e-9 relative in float64 and equal accuracies, in every landscape; the general path gives the same."""
    model, x = fixed(case.build).double(), normal(*case.x)
    y = targets(case.loss, len(x), case.outputs)
    losses, accs = plain_loop(model, x, y, case.loss, case.sizes)
    model, x, y = model.to(device), x.to(device), y.to(device)
    engine = LossEngine(model, x, y, case.loss, case.sizes)
    assert engine.path.name == case.path
    engine.check()
    for one in (engine, LossEngine(model, x, y, case.loss, case.sizes, fast=False)):
        got_losses, got_accs = run_engine(one)
        np.testing.assert_allclose(got_losses, losses, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(got_accs, accs, rtol=1e-12)
        np.testing.assert_allclose(one.start.loss[:, 0], losses[:, 0, 0], rtol=1e-9)
    assert LossEngine(model, x, y, case.loss, fast=False).path.name == "general"


@st.composite
def perceptrons(draw: st.DrawFn) -> dict:
    samples = draw(st.integers(1, 80))
    return {
        "widths": draw(st.lists(st.integers(1, 40), min_size=2, max_size=7)),
        "activation": draw(st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU, nn.Softplus])),
        "bias": draw(st.booleans()),
        "flatten": draw(st.booleans()),
        "sizes": sorted(draw(st.sets(st.integers(1, samples), max_size=4)) | {samples}),
        "loss": draw(st.sampled_from(["cross_entropy", "bce_with_logits", "mse"])),
        "tile": draw(st.integers(1, 50)),
        "smallest": draw(st.integers(1, 40)),
        "max_chunk": draw(st.integers(4, 30)),
        "cache": draw(st.sampled_from([1, 5_000, 4 << 20])),
        "seed": draw(st.integers(0, 10)),
    }


@given(perceptrons())
@settings(max_examples=40, deadline=None)
def test_any_perceptron_with_any_chunks_equals_the_plain_loop(p: dict):
    """Whatever the architecture, the landscapes, the tiles and the chunks."""
    widths = p["widths"] if p["loss"] != "bce_with_logits" else [*p["widths"][:-1], 1]
    model = fixed(lambda: mlp(widths, p["activation"], p["bias"], p["flatten"]), p["seed"]).double()
    x, y = normal(p["sizes"][-1], widths[0]), targets(p["loss"], p["sizes"][-1], widths[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "SMALLEST_TILE", p["smallest"])
        patch.setattr(mlp_path, "plan_tiles", lambda sizes, largest: plan_tiles(sizes, p["tile"]))
        patch.setattr(mlp_path, "MAX_CHUNK", p["max_chunk"])
        patch.setattr(mlp_path, "CACHE_BYTES", p["cache"])
        engine = LossEngine(model, x, y, p["loss"], p["sizes"])
        assert engine.path.name == "mlp"
        losses, accs = run_engine(engine)
    expected_losses, expected_accs = plain_loop(model, x, y, p["loss"], p["sizes"])
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(accs, expected_accs)


@given(
    st.integers(1, 3), st.integers(1, 6), st.integers(4, 9), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2),
    st.sampled_from(["zeros", "reflect", "circular"]), st.integers(1, 40), st.integers(1, 9), st.integers(1, 60),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_any_convolutional_stack_with_any_chunks_equals_the_plain_loop(
    depth: int,
    channels: int,
    side: int,
    kernel: int,
    stride: int,
    padding: int,
    mode: str,
    samples: int,
    chunk: int,
    tile: int,
):
    """Whatever the kernel, stride, padding, tiles and chunks."""

    def build() -> nn.Module:
        conv = nn.Conv2d(depth, channels, kernel, stride, padding, padding_mode=mode)
        return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3))

    model, x, y = fixed(build).double(), normal(samples, depth, side, side), integers(3, samples)
    sizes = sorted({1, (samples + 1) // 2, samples})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cnn_path.CNNPath, "chunk", chunk)
        patch.setattr(cnn_path, "plan_tiles", lambda sizes, largest: plan_tiles(sizes, tile))
        engine = LossEngine(model, x, y, sizes=sizes)
        assert engine.path.name == "cnn"
        losses, accs = run_engine(engine)
    expected_losses, expected_accs = plain_loop(model, x, y, "cross_entropy", sizes)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(accs, expected_accs)


@given(st.sets(st.integers(1, 3000), min_size=1, max_size=6), st.integers(1, 700))
@settings(max_examples=200, deadline=None)
def test_tiles_cover_every_sample_once_and_cut_at_every_landscape(sizes: set[int], largest: int):
    """Tiles follow each other, hold at most `largest` samples, and each landscape ends at a cut."""
    plan = plan_tiles(sorted(sizes), largest)
    assert [t.start for t in plan] == [0, *(t.stop for t in plan[:-1])]
    assert plan[-1].stop == max(sizes)
    ends = {t.start + cut for t in plan for cut in t.cuts}
    assert sizes <= ends
    for t in plan:
        assert 0 < t.stop - t.start <= largest
        assert t.cuts[-1] == t.stop - t.start
        assert list(t.cuts) == sorted(set(t.cuts))
    for size in sizes:
        needed = tiles_for(plan, size)
        assert needed[-1].start < size <= needed[-1].stop


# ------------------------------------------------------------------------------------------------ float32


def confident(scale: float, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor, Tensor]:
    """An MLP that is right with large margins on every sample: its loss is as small as `scale` is large."""
    model = fixed(lambda: mlp([8, 64, 64, 4]), 3)
    with torch.no_grad():
        model[-1].weight.mul_(scale)
        model[-1].bias.mul_(scale)
        x = normal(4000, 8, dtype=torch.float32)
        top = model(x).topk(2).values
        keep = (top[:, 0] - top[:, 1]).topk(250).indices
        x = x[keep]
        y = model(x).argmax(1)
    return model.to(dtype), x.to(dtype), y


BOUNDS = {(1e-6, 1e-4): 9e-3, (1e-4, 1e-2): 7e-5, (1e-2, 1e3): 2e-6}  # ENGINE.md's baseline, by decade of loss


@pytest.mark.parametrize("fast", [True, False])
def test_float32_errors_by_decade_are_no_worse_than_the_baselines(fast: bool):
    """Relative error of float32 losses against the float64 plain loop; every decade must be met by 30 losses or more."""
    exact, got = [], []
    coefficients = [0.0, *np.geomspace(0.003, 1.0, 14)]
    for scale in (1, 10, 30, 40, 55, 65, 75):
        model, x, y = confident(scale)
        exact.append(plain_loop(model, x, y, "cross_entropy", [100, 250], SEEDS, coefficients)[0].ravel())
        engine = LossEngine(model, x, y, sizes=[100, 250], fast=fast)
        assert engine.path.name == ("mlp" if fast else "general")
        got.append(run_engine(engine, SEEDS, coefficients)[0].ravel())
    truth, values = np.concatenate(exact), np.concatenate(got)
    error = np.abs(values - truth) / truth
    for (low, high), bound in BOUNDS.items():
        here = (low <= truth) & (truth < high)
        assert here.sum() >= 30
        assert error[here].max() <= bound, (low, error[here].max())
