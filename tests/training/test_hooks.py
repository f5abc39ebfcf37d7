"""The training loop with objectives, gradients at other weights, validation, early stopping and checkpoints."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minima_volume.config.sections import Sam
from minima_volume.errors import ConfigError, DamagedFileError, DataError, StaleError
from minima_volume.files.atomic import read_pt, write_pt
from minima_volume.seeding import own_randomness
from minima_volume.training.checkpoint import load_checkpoint, restore, save_checkpoint, snapshot
from minima_volume.training.gradient import AtTheWeights, Gradient, moved
from minima_volume.training.loop import Parts, Progress, Validation, Watch, train
from minima_volume.training.sam import AtTheAscent
from minima_volume.training.supervised import batches
from minima_volume.training.weight_noise import AtNoisyWeights

EPOCHS = 5
X = torch.randn(23, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def relative_noise(model: nn.Module, random: torch.Generator) -> list[Tensor | None]:
    """5 % of each weight's deviation; none on vectors."""
    return [0.05 * p.std() * torch.randn(p.shape, generator=random) if p.ndim > 1 else None for p in model.parameters()]


def shuffled(order: torch.Generator, size: int = 6):
    for batch in batches(len(X), size, order):
        yield X[batch], Y[batch]


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw, amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
}


def gradients(name: str) -> Gradient:
    if name == "noise":
        return AtNoisyWeights(relative_noise, torch.Generator().manual_seed(5))
    return AtTheAscent(Sam(rho=0.1)) if name == "sam" else AtTheWeights()


def parts_of(optimizer: str = "adam", gradient: str = "plain", model: nn.Module | None = None) -> Parts:
    model = network() if model is None else model
    order = torch.Generator().manual_seed(3)
    made = OPTIMIZERS[optimizer](model.parameters())
    return Parts(model, made, cross_entropy, partial(shuffled, order), gradients(gradient), {"batches": order})


def same(first, second) -> bool:
    """Equal to the bit, whatever is nested."""
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def held_out(model: nn.Module) -> dict[str, float]:
    return {"loss": F.cross_entropy(model(X[:9]), Y[:9]).item()}


@pytest.mark.parametrize("gradient", ["plain", "sam", "noise"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_goes_on_to_the_bit_after_every_epoch(optimizer, gradient, tmp_path):
    """From the file of each epoch, in a process whose random numbers are elsewhere: same weights, optimiser, generators, history.

    With dropout (torch's global generator), running statistics, shuffled batches and weight noise.
    """
    validation = Validation(held_out, every=2)
    whole = parts_of(optimizer, gradient)
    with own_randomness(7, torch.device("cpu")):
        progress = train(
            whole,
            EPOCHS,
            validation=validation,
            on_epoch=lambda p: save_checkpoint(tmp_path / f"{p.epoch}.pt", whole, p) and None,
        )
        end = snapshot(whole, progress)
    for epoch in range(1, EPOCHS):
        again = parts_of(optimizer, gradient)
        with torch.random.fork_rng(devices=[]):
            torch.rand(epoch)
            progress = load_checkpoint(tmp_path / f"{epoch}.pt", again)
            assert progress.epoch == epoch
            progress = train(again, EPOCHS, progress=progress, validation=validation)
            assert same(snapshot(again, progress), end)
    assert not same(read_pt(tmp_path / "1.pt")["state_dict"], end["state_dict"])


def test_a_snapshot_does_not_move_with_the_training():
    """Held in memory as `best`, it stays what it was; the training that is set back repeats itself."""
    parts = parts_of("momentum")
    kept = {}
    with own_randomness(7, torch.device("cpu")):
        progress = train(parts, 4, on_epoch=lambda p: kept.update({2: snapshot(parts, p)}) if p.epoch == 2 else None)
        end = snapshot(parts, progress)
        progress = restore(kept[2], parts)
        assert progress.epoch == 2 and len(progress.train_loss) == 2
        assert same(snapshot(parts, train(parts, 4, progress=progress)), end)


def test_checkpoints_of_another_training_are_refused(tmp_path):
    """Another model, other generators, and what is no checkpoint: named, and nothing half restored for generators."""
    parts = parts_of()
    path = save_checkpoint(tmp_path / "a.pt", parts, Progress())
    with pytest.raises(StaleError, match=r"a\.pt: the checkpoint has random generators \['batches'\].*weight noise"):
        load_checkpoint(path, parts_of(gradient="noise"))
    with pytest.raises(StaleError, match="another model or optimiser"):
        load_checkpoint(path, parts_of(model=nn.Linear(4, 3)))
    write_pt(tmp_path / "b.pt", {"state_dict": {}})
    with pytest.raises(DamagedFileError, match=r"b\.pt lacks generators, optimizer"):
        load_checkpoint(tmp_path / "b.pt", parts)


def test_weight_noise_is_one_draw_per_step_and_the_clean_weights_are_stepped():
    """Three steps against plain torch: gradient at the noisy weights, SGD's step from the clean ones; to the bit."""
    ours = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    theirs = copy.deepcopy(ours)
    random = torch.Generator().manual_seed(5)
    for _ in range(3):
        clean = [p.detach().clone() for p in theirs.parameters()]
        with torch.no_grad():
            for p, step in zip(theirs.parameters(), relative_noise(theirs, random), strict=True):
                if step is not None:
                    p.add_(step)
        theirs.zero_grad()
        cross_entropy(theirs, (X, Y)).mean().backward()
        with torch.no_grad():
            for p, start in zip(theirs.parameters(), clean, strict=True):
                p.copy_(start - 0.1 * p.grad)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    train(Parts(ours, optimizer, cross_entropy, lambda: [(X, Y)], gradients("noise")), 3)
    for ours_p, theirs_p in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours_p, theirs_p, rtol=1e-6, atol=1e-7)
    noiseless = AtNoisyWeights(lambda model, random: [None for _ in model.parameters()], torch.Generator())
    first, second = network().eval(), network().eval()
    noiseless(first, lambda: cross_entropy(first, (X, Y)))
    AtTheWeights()(second, lambda: cross_entropy(second, (X, Y)))
    assert same([p.grad for p in first.parameters()], [p.grad for p in second.parameters()])


@pytest.mark.parametrize("gradient", ["sam", "noise"])
def test_weights_come_back_after_an_exception(gradient):
    """In the pass at other weights: every bit of the parameters is as before, also where p + e - e would not be p."""
    model = network()
    before = copy.deepcopy(dict(model.named_parameters()))
    passes = []

    def fails_elsewhere() -> Tensor:
        moved_now = not same(dict(model.named_parameters()), before)
        passes.append(moved_now)
        if moved_now:
            raise KeyboardInterrupt
        return cross_entropy(model, (X, Y))

    with pytest.raises(KeyboardInterrupt):
        gradients(gradient)(model, fails_elsewhere)
    assert passes[-1] and same(dict(model.named_parameters()), before)
    large = [torch.full_like(p, 1e6) for p in model.parameters()]
    with moved(list(model.parameters()), large):
        pass
    assert same(dict(model.named_parameters()), before)
    assert all(layer.track_running_stats for layer in model.modules() if isinstance(layer, nn.BatchNorm1d))


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (lambda model, random: [None], "1 tensors, the model 6 parameters"),
        (lambda model, random: [torch.zeros(2), *[None] * 5], r"0\.weight has shape \(2,\), the parameter \(6, 4\)"),
    ],
    ids=["too few", "shape"],
)
def test_noise_that_does_not_fit_is_refused(noise, words):
    """Instead of broadcasting."""
    model = network()
    with pytest.raises(ConfigError, match=words):
        AtNoisyWeights(noise, torch.Generator())(model, lambda: cross_entropy(model, (X, Y)))


def scripted(values: list[float]) -> Validation:
    left = iter(values)
    return Validation(lambda model: {"score": next(left), "other": math.nan})


@pytest.mark.parametrize(
    ("mode", "patience", "values", "epochs", "best"),
    [
        ("min", 2, [3, 2, 2.5, 2, 1, 0], 4, 2),
        ("min", 3, [3, 2, 2.5, 2, 1, 4], 6, 5),
        ("max", 1, [1, 2, 3, 3, 9, 9], 4, 3),
        ("max", None, [5, 4, 3, 2, 1, 0], 6, 1),
    ],
)
def test_early_stopping(mode, patience, values, epochs, best):
    """Stops after so many values that are no better; equal is not better, and a metric nobody watches may be NaN."""
    parts, watch = parts_of(), Watch("score", mode, patience)
    improved = []
    progress = train(
        parts,
        6,
        validation=scripted(values),
        watches=[watch],
        on_epoch=lambda p: improved.append(p.epoch) if watch.improved(p) else None,
    )
    assert progress.epoch == len(progress.train_loss) == epochs
    assert watch.best(progress) == improved[-1] == best
    assert train(parts, 6, progress=progress, watches=[watch]).epoch == (6 if patience is None else epochs)


def test_nan_stops_the_training_and_is_never_the_best():
    """The message names the metric and the epoch, which `on_epoch` does not see; the progress holds finite training losses alone."""
    seen: list[int] = []
    watch, progress = Watch("score"), Progress()
    with pytest.raises(DataError, match="score was nan after epoch 3"):
        train(
            parts_of(),
            6,
            progress=progress,
            validation=scripted([2, 1, math.nan, 0]),
            watches=[watch],
            on_epoch=lambda p: seen.append(p.epoch),
        )
    assert seen == [1, 2] and watch.best(progress) == 2

    parts = parts_of("sgd")
    bad = Parts(
        parts.model,
        parts.optimizer,
        lambda model, batch: cross_entropy(model, batch) * (math.nan if len(seen) == 4 else 1.0),
        parts.batches,
        random=parts.random,
    )
    progress = Progress()
    with pytest.raises(DataError, match=r"the loss was nan in epoch 3; lower the learning rate \(0\.1\)"):
        train(bad, 9, progress=progress, on_epoch=lambda p: seen.append(p.epoch))
    assert len(progress.train_loss) == 2 and all(map(math.isfinite, progress.train_loss))


def test_validation_happens_every_few_epochs_in_evaluation_mode():
    """And training goes on in training mode; the training loss is the mean over samples, not over batches."""
    modes = []

    def measure(model: nn.Module) -> dict[str, float]:
        modes.append((model.training, torch.is_grad_enabled()))
        return {"score": 0.0}

    parts = parts_of("sgd")
    progress = train(parts, 5, validation=Validation(measure, every=2))
    assert progress.validated == [2, 4] and modes == [(False, False)] * 2
    assert Watch("train_loss").best(progress) == min(range(1, 6), key=lambda epoch: progress.train_loss[epoch - 1])
    frozen = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(frozen.parameters(), lr=0.0)
    progress = train(Parts(frozen, optimizer, cross_entropy, partial(shuffled, torch.Generator())), 1)
    with torch.no_grad():
        assert progress.train_loss[0] == pytest.approx(F.cross_entropy(frozen(X), Y).item(), rel=1e-5)


def test_objectives_and_metrics_that_cannot_be_used():
    """One message each: a mean instead of per-sample losses, no batches, an unknown metric."""
    parts = parts_of()
    mean = Parts(parts.model, parts.optimizer, lambda m, b: cross_entropy(m, b).mean(), parts.batches)
    with pytest.raises(ConfigError, match=r"one loss per sample, shape \(samples,\), got \(\)"):
        train(mean, 1)
    with pytest.raises(DataError, match="no batches"):
        train(Parts(parts.model, parts.optimizer, cross_entropy, list), 1)
    with pytest.raises(ConfigError, match="'auc' is not measured; allowed: train_loss, score, other"):
        train(parts, 1, validation=scripted([1.0]), watches=[Watch("auc")])


@pytest.mark.parametrize(
    ("gradient", "words"),
    [
        (
            AtNoisyWeights(lambda m, r: [1e30 * torch.ones_like(p) for p in m.parameters()], torch.Generator()),
            "lower the weight noise",
        ),
        (AtTheWeights(), "look at the data and the initial weights"),
    ],
)
def test_a_loss_that_is_none_before_the_first_step_is_not_blamed_on_the_learning_rate(gradient, words):
    """Noise of 1e30, or a loss that is NaN from the start."""
    spoilt = isinstance(gradient, AtTheWeights)
    parts = replace(parts_of(), gradient=gradient)
    if spoilt:
        parts = replace(parts, objective=lambda model, batch: cross_entropy(model, batch) * math.nan)
    with pytest.raises(DataError, match=f"before the first step of training, so the learning rate .* reason; {words}"):
        train(parts, EPOCHS)


def test_a_step_of_sam_without_bounds_is_named():
    """The first loss is fine, so the learning rate may be the reason, too."""
    parts = replace(parts_of(), gradient=AtTheAscent(Sam(rho=1e30)))
    with pytest.raises(
        DataError, match=r"training diverged: .* lower the learning rate \(0.01\) or sam.rho \(1e\+30\), or"
    ):
        train(parts, EPOCHS)
