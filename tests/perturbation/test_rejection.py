"""Particles that are given up early: the same decisions as with every sample, from fewer of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minima_volume.models.cnn import CNN
from minima_volume.models.mlp import MLP
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.perturbation.rejection import Rejection, hardest_first, ordered
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.pace import Pace
from minima_volume.volume.gaussian.splitting import Splitting, splitting

SIZE = 600


def samples(shape: tuple[int, ...] = (6,)) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(SIZE, *shape, generator=random)
    return x, (x.flatten(1)[:, :3] + 0.3 * torch.randn(SIZE, 3, generator=random)).argmax(1)


def perceptron() -> nn.Module:
    """Sure of most samples, wrong on some."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MLP((6,), 3, [16])
    x, y = samples()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def engine_of(kind: str) -> LossEngine:
    if kind == "mlp":
        return LossEngine(perceptron(), *samples())
    if kind == "mse":
        return LossEngine(perceptron(), samples()[0], F.one_hot(samples()[1], 3).float(), "mse")
    if kind == "cnn":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return LossEngine(CNN((1, 40, 40), 3, channels=(16,), fc=(8,)), *samples((1, 40, 40)))
    x, y = samples()
    return LossEngine(perceptron(), x.repeat(4, 1), y.repeat(4), fast=False)


def counted(target: Target, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sample evaluations of each pass over a tile."""
    runner, seen = target.particles.runner, list[int]()
    run = runner.outputs

    def count(stacked: Any, tiles: Any) -> Any:
        for tile, outputs in zip(tiles, run(stacked, tiles), strict=True):
            seen.append((tile.stop - tile.start) * len(outputs))
            yield outputs

    monkeypatch.setattr(runner, "outputs", count)
    return seen


@pytest.mark.parametrize("accuracy", [False, True])
@pytest.mark.parametrize("kind", ["mlp", "mse", "cnn", "general"])
def test_scores_are_exact_below_the_limit(kind: str, accuracy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, alone and beside others; above the limit they are above it; not all samples are run."""
    engine = engine_of(kind)
    target = Target.of(engine, 0.3, engine.sizes[-1], Condition("accuracy" if accuracy else "loss", 0.7))
    assert len(target.particles.engine.path.tiles) >= 4
    z = target.empty(12).normal_(generator=target.generator(1))
    whole = target.scores(z)
    limits = np.full(12, np.quantile(whole, 0.3))
    limits[:2], limits[2:4] = np.inf, whole[2:4]
    seen = counted(target, monkeypatch)
    found = target.scores_below(z, limits)
    below = whole <= limits
    assert below[:4].all() and not below.all()
    np.testing.assert_array_equal(found[below], whole[below])
    assert (found[~below] > limits[~below]).all()
    assert sum(seen) < 12 * engine.sizes[-1]
    for i in (0, 5, 11):
        alone = target.scores_below(z[i : i + 1], limits[i : i + 1])
        assert alone[0] == found[i] or (alone[0] > limits[i] and found[i] > limits[i])


def test_splitting_is_the_same_with_stopping_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """All repeats and stages; at 30 % acceptance and with few hard samples about half of the evaluations are left."""
    target = Target.of(engine_of("mlp"), 0.5, SIZE, Condition("loss", 0.3))
    how, pace = Splitting(num_particles=30, max_stages=4), Pace((3,), (0.5,))
    seen = counted(target, monkeypatch)
    found = splitting(target, [1, 2], how, drive=pace)
    stopped = sum(seen)
    monkeypatch.setattr("minima_volume.volume.gaussian.event.can_stop", lambda particles: False)
    seen.clear()
    assert splitting(target, [1, 2], how, drive=pace) == found and len(found[0].stages) >= 2
    assert sum(seen) == SIZE * sum(repeat.num_forward for repeat in found) > stopped


def test_the_order_is_that_of_the_losses_at_the_minimum() -> None:
    """Found once for each engine and landscape; too few tiles, or a loss that may be negative, leave it as it is."""
    engine = engine_of("mlp")
    order = hardest_first(engine, SIZE)
    x, y = samples()
    losses = F.cross_entropy(engine.host.module(x), y, reduction="none").detach()[order]
    assert sorted(order.tolist()) == list(range(SIZE)) and bool((losses.diff() <= 1e-6).all())
    other = ordered(engine, SIZE)
    assert ordered(engine, SIZE) is other is not engine
    assert torch.equal(other.y, y[order]) and other.path.name == engine.path.name
    np.testing.assert_allclose(other.start.loss, engine.start.loss, rtol=1e-6)
    small = LossEngine(perceptron(), x[:200], y[:200])
    assert ordered(small, 200) is small


def own(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def test_a_loss_of_your_own_is_evaluated_whole_unless_it_declares_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nonnegative = True` on the function; the scores below the limit are the same."""
    (x, y), model = samples(), perceptron()
    x, y = x.repeat(4, 1), y.repeat(4)

    def declared(outputs: Tensor, targets: Tensor) -> Tensor:
        return own(outputs, targets)

    declared.nonnegative = True  # type: ignore[attr-defined]
    run = []
    for loss in (own, declared):
        target = Target.of(LossEngine(model, x, y, loss), 0.5, len(x), Condition("loss", 0.3))
        z = target.empty(6).normal_(generator=target.generator(1))
        whole = target.scores(z)
        limits = np.full(6, np.sort(whole)[1])
        seen = counted(target, monkeypatch)
        found = target.scores_below(z, limits)
        np.testing.assert_array_equal(found[whole <= limits], whole[whole <= limits])
        run.append(sum(seen))
    assert run[0] == 6 * len(x) > run[1]


def test_a_sum_that_is_nan_is_outside() -> None:
    """Wherever in the order it comes."""
    target = Target.of(engine_of("mlp"), 1.0, SIZE, Condition("loss", 0.3))
    z = target.empty(4).normal_(generator=target.generator(1))
    z[1, :] = torch.nan
    found = target.scores_below(z, np.full(4, 1e9))
    assert found[1] == np.inf and np.isfinite(found[[0, 2, 3]]).all()
    assert Rejection(Particles(ordered(engine_of("mlp"), SIZE), 1.0)).scores(z, np.full(4, 1e9))[1] == np.inf
