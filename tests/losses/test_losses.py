"""Losses and margins against float64 truths."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.losses.classification import class_margins, cross_entropy_elements
from minima_volume.losses.loss import Fit, Loss
from minima_volume.losses.registry import LOSSES, fit, get_loss
from minima_volume.losses.regression import is_one_hot, one_hot_margins
from minima_volume.perturbation.engine import LossEngine
from minima_volume.volume.trivial import trivial_loss


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("size", [1e-8, 1e-7, 1e-6, 1e-5, 1e-4])
def test_tiny_cross_entropies_keep_their_digits_in_float32(size: float):
    """log(1 + e^-gap), computed from the float32 logits in float64, to 1e-3 where logsumexp - z_y has lost 2e-2."""
    gaps = torch.linspace(-math.log(size) - 0.5, -math.log(size) + 0.5, 200)
    for offset in (0.0, 30.0, -30.0):
        logits = torch.stack([gaps + offset, torch.full_like(gaps, offset)], 1)
        exact = torch.log1p(torch.exp(logits[:, 1].double() - logits[:, 0].double()))
        got = cross_entropy_elements(logits, torch.zeros(200, dtype=torch.long))
        assert got.dtype == torch.float32
        assert ((got.double() - exact).abs() / exact).max() < 1e-3


@pytest.mark.parametrize("label", [0, 1, 2])
def test_cross_entropy_of_large_logits(label: int):
    """Neither overflow nor a negative loss at logits of +-1e4; a tie of two classes is log 2."""
    logits = torch.tensor([[1e4, -1e4, 1e4]])
    expected = {0: math.log(2), 1: 2e4 + math.log(2), 2: math.log(2)}[label]
    got = cross_entropy_elements(logits, torch.tensor([label])).item()
    assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 97])
def test_cross_entropy_and_its_gradient_agree_with_torch(classes: int):
    """Values and gradients of F.cross_entropy in float64, ties among the largest logits included."""
    logits = 5 * normal(50, classes)
    logits[:10] = logits[:10].round()
    labels = torch.arange(50) % classes
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    a = cross_entropy_elements(ours, labels)
    b = F.cross_entropy(theirs, labels, reduction="none")
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    a.mean().backward()
    b.mean().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_cross_entropy_takes_batches_and_tokens():
    """Leading batch dimensions, and (samples, tokens) labels with (B, samples, tokens, classes) logits."""
    logits, labels = normal(3, 5, 7, 4), torch.arange(35).reshape(5, 7) % 4
    got = cross_entropy_elements(logits, labels)
    assert got.shape == (3, 5, 7)
    for b in range(3):
        expected = F.cross_entropy(logits[b].reshape(35, 4), labels.flatten(), reduction="none").reshape(5, 7)
        torch.testing.assert_close(got[b], expected, rtol=1e-12, atol=1e-13)
    means = LOSSES["cross_entropy"].per_sample(logits[0], labels)
    torch.testing.assert_close(means, got[0].mean(1))


def test_binary_cross_entropy():
    """-log sigmoid of the signed logit, per sample, for a batch; the margin is the signed logit."""
    loss, logits = get_loss("bce_with_logits"), 6 * normal(3, 20, 1)
    labels = (torch.arange(20) % 2).double()
    sign = 2 * labels - 1
    torch.testing.assert_close(loss.elements(logits, labels), torch.log1p(torch.exp(-sign * logits.squeeze(-1))))
    assert loss.margins is not None
    assert torch.equal(loss.margins(logits, labels), sign * logits.squeeze(-1))


def test_mean_squared_error():
    """The mean over outputs; images are averaged over all their dimensions by `per_sample`."""
    loss, outputs, targets = get_loss("mse"), normal(4, 6), normal(4, 6, seed=1)
    torch.testing.assert_close(loss.elements(outputs, targets), ((outputs - targets) ** 2).sum(1) / 6)
    images, wanted = normal(4, 2, 3, 5), normal(4, 2, 3, 5, seed=1)
    torch.testing.assert_close(
        loss.per_sample(images, wanted), F.mse_loss(images, wanted, reduction="none").mean((1, 2, 3))
    )


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=8),
    st.lists(st.integers(0, 3), min_size=8, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_margins_say_who_is_right(rows: list[list[int]], labels: list[int]):
    """z_y - max of the others, by loops; integers make ties, and a tie is wrong."""
    logits, own = torch.tensor(rows, dtype=torch.float64), torch.tensor(labels[: len(rows)])
    got = class_margins(logits, own)
    for margin, row, label in zip(got.tolist(), rows, labels, strict=False):
        others = [value for k, value in enumerate(row) if k != label]
        assert margin == row[label] - max(others)
        assert (margin > 0) == all(row[label] > value for value in others)


def test_a_tie_is_wrong_in_the_engine():
    """A model whose outputs are all equal has accuracy 0, not 1 / classes."""
    model = torch.nn.Linear(2, 3)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    assert LossEngine(model, torch.ones(6, 2), torch.arange(6) % 3).start.accuracy[0, 0] == 0
    binary = torch.nn.Linear(2, 1)
    torch.nn.init.zeros_(binary.weight)
    torch.nn.init.zeros_(binary.bias)
    engine = LossEngine(binary, torch.ones(6, 2), torch.arange(6) % 2, "bce_with_logits")
    assert engine.start.accuracy[0, 0] == 0
    assert engine.start.loss[0, 0] == pytest.approx(math.log(2), rel=1e-6)


def test_one_hot_margins():
    """With mse, one-hot targets are right where their class has the largest output; other targets have no accuracy."""
    outputs, targets = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.5, 0.0]]), torch.eye(3)[[1, 0]]
    loss = fit(get_loss("mse"), outputs, 2, targets).loss
    assert loss.margins is one_hot_margins
    torch.testing.assert_close(loss.margins(outputs, targets), torch.tensor([0.5, 0.0]))
    for other in (targets[:, :1], targets + 0.1, torch.tensor([0.0, 1.0]), torch.eye(3)[None].expand(2, 3, 3)):
        assert not is_one_hot(other)
        assert fit(get_loss("mse"), torch.zeros(other.shape), 2, other).loss.margins is None


BAD_TARGETS = {
    "labels above the outputs": ("cross_entropy", (6, 3), torch.tensor([0, 1, 2, 3, 0, 1])),
    "negative label": ("cross_entropy", (6, 3), torch.tensor([0, 1, 2, -1, 0, 1])),
    "float labels": ("cross_entropy", (6, 3), torch.zeros(6)),
    "labels with a column too many": ("cross_entropy", (6, 3), torch.zeros(6, 1, dtype=torch.long)),
    "one label for each token": ("cross_entropy", (6, 5, 3), torch.zeros(6, dtype=torch.long)),
    "too few labels": ("cross_entropy", (6, 3), torch.zeros(5, dtype=torch.long)),
    "binary with two outputs": ("bce_with_logits", (6, 2), torch.zeros(6)),
    "binary with too few labels": ("bce_with_logits", (6, 1), torch.zeros(5)),
    "binary labels -1 and 1": ("bce_with_logits", (6, 1), torch.tensor([-1.0, 1, 1, 1, -1, 1])),
    "binary labels 0, 1, 2": ("bce_with_logits", (6, 1), torch.arange(6) % 3),
    "mse of another width": ("mse", (6, 3), torch.zeros(6, 2)),
    "mse transposed": ("mse", (6, 3), torch.zeros(3, 6)),
    "mse with swapped image axes": ("mse", (6, 2, 3), torch.zeros(6, 3, 2)),
}


@pytest.mark.parametrize(("loss", "shape", "targets"), BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_targets_that_do_not_fit_are_refused(loss: str, shape: tuple[int, ...], targets: torch.Tensor):
    """A ConfigError that names the loss, instead of broadcasting or an index error deep inside."""
    with pytest.raises(ConfigError, match=loss):
        fit(get_loss(loss), torch.zeros(shape), shape[0], targets)


@pytest.mark.parametrize(
    ("shape", "given"),
    [((6, 1), (6,)), ((6, 8), (6, 2, 4)), ((6, 1, 2, 4), (6, 2, 4)), ((6, 2, 4), (6, 2, 4)), ((6, 1, 1), (6,))],
)
def test_mse_targets_are_brought_to_the_outputs_shape(shape: tuple[int, ...], given: tuple[int, ...]):
    """Flattened and unflattened samples are the same numbers in the same order."""
    targets = normal(*given, dtype=torch.float64)
    got = fit(get_loss("mse"), torch.zeros(shape, dtype=torch.float32), 6, targets).targets
    assert got.shape == shape
    assert got.dtype == torch.float32
    assert torch.equal(got.flatten(), targets.flatten().float())


def test_small_integer_labels_become_indices():
    """uint8 labels, as image data sets store them, are usable as indices; boolean binary labels as numbers."""
    small = torch.tensor([0, 1, 2, 1], dtype=torch.uint8)
    labels = fit(get_loss("cross_entropy"), torch.zeros(4, 3), 4, small).targets
    assert labels.dtype == torch.int64
    binary = fit(get_loss("bce_with_logits"), torch.zeros(2, 1), 2, torch.tensor([[True], [False]])).targets
    assert binary.tolist() == [1.0, 0.0]


def huber(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.huber_loss(outputs, targets, reduction="none").mean(1)


def test_a_loss_of_ones_own():
    """A callable is taken as it is: its mean is the loss, its name is kept, accuracy is undefined."""
    model, x, y = torch.nn.Linear(3, 2).double(), normal(9, 3), normal(9, 2, seed=1)
    engine = LossEngine(model, x, y, huber)
    assert engine.loss.name == "huber"
    assert engine.start.loss[0, 0] == pytest.approx(F.huber_loss(model(x), y).item(), rel=1e-12)
    assert math.isnan(engine.start.accuracy[0, 0])


def test_a_loss_of_ones_own_must_be_per_sample():
    """Neither one value per sample nor one for all (here a value an output): refused with the shape it must have."""

    def each(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets, reduction="none")

    with pytest.raises(ConfigError, match=r"one value per sample, shape \(2,\), got \(2, 2\).*mean\(1\)"):
        LossEngine(torch.nn.Linear(3, 2), torch.ones(4, 3), torch.zeros(4, 2), each)
    column = LossEngine(torch.nn.Linear(3, 1), torch.ones(4, 3), torch.zeros(4, 1), each)
    assert column.start.loss.shape == (1, 1)


def test_unknown_loss():
    """The message names what is allowed."""
    with pytest.raises(ConfigError, match=r"'nll'.*cross_entropy, bce_with_logits, mse"):
        get_loss("nll")


SHAPES = {
    "(N, C, L) as PyTorch has it": ((6, 5, 3), (6, 3), None, 1),
    "(N, L, C), classes last": ((6, 3, 5), (6, 3), None, 2),
    "(N, C, H, W)": ((6, 4, 3, 2), (6, 3, 2), None, 1),
    "both fit: axis 1": ((6, 5, 5), (6, 5), None, 1),
    "both fit, the last asked for": ((6, 5, 5), (6, 5), -1, 2),
    "both fit, axis 1 asked for": ((6, 5, 5), (6, 5), 1, 1),
}


@pytest.mark.parametrize(("shape", "given", "class_axis", "axis"), SHAPES.values(), ids=SHAPES)
def test_which_axis_counts_classes(shape: tuple[int, ...], given: tuple[int, ...], class_axis: int | None, axis: int):
    """Loss and accuracy are those of the classes along the right axis; if two would fit, a note names the one taken."""
    outputs = normal(*shape)
    labels = torch.randint(shape[axis], given, generator=torch.Generator().manual_seed(1))
    fitted = fit(get_loss("cross_entropy"), outputs, 6, labels, class_axis)
    assert (fitted.note is not None) == (class_axis is None and shape[1] == shape[-1])
    rows = outputs.movedim(axis, -1)
    expected = F.cross_entropy(rows.flatten(0, -2), labels.flatten(), reduction="none").reshape(6, -1).mean(1)
    torch.testing.assert_close(fitted.loss.per_sample(outputs, fitted.targets), expected)
    margins = fitted.loss.margins(fitted.loss.read(outputs), fitted.targets)  # type: ignore[misc]
    right = rows.argmax(-1) == labels
    assert torch.equal(margins > 0, right)


@pytest.mark.parametrize("axis", [0, 3, -3, 7])
def test_a_class_axis_that_is_none(axis: int):
    """Axis 0 counts samples; an axis that is not there is named."""
    with pytest.raises(ConfigError, match=f"class_axis {axis}"):
        fit(get_loss("cross_entropy"), torch.zeros(4, 3, 2), 4, torch.zeros(4, 2, dtype=torch.long), axis)
    with pytest.raises(ConfigError, match="only to cross_entropy"):
        fit(get_loss("mse"), torch.zeros(4, 3), 4, torch.zeros(4, 3), 1)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3), (6, 2, 4), (6, 1, 3, 3)])
@pytest.mark.parametrize("loss", ["mse", "bce_with_logits"])
def test_outputs_of_any_shape(loss: str, shape: tuple[int, ...]):
    """Targets of the outputs' shape: the mean over all entries of a sample, whatever their arrangement."""
    outputs, targets = normal(*shape), (normal(*shape, seed=1) > 0).double()
    fitted = fit(get_loss(loss), outputs, 6, targets)
    plain = {"mse": F.mse_loss, "bce_with_logits": F.binary_cross_entropy_with_logits}[loss]
    expected = plain(outputs, targets, reduction="none").reshape(6, -1).mean(1)
    torch.testing.assert_close(fitted.loss.per_sample(outputs, fitted.targets), expected)


def test_a_loss_that_draws_random_numbers_is_refused():
    """The same outputs and targets must give the same value."""

    def noisy(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(-1) - targets).square() * torch.rand(len(targets))

    with pytest.raises(ConfigError, match="'noisy' gives other values"):
        LossEngine(torch.nn.Linear(3, 1), torch.ones(4, 3), torch.zeros(4), noisy)


def absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().mean(-1)


ABSOLUTE = Loss(
    "mae",
    absolute,
    prepare=lambda loss, given: Fit(loss, given.targets.reshape(given.shape).to(given.dtype)),
    trivial=lambda targets: float((targets - targets.median(0).values).abs().mean()),
    vector_targets=True,
)


def test_a_new_loss_is_one_object():
    """Values on the fast path, its trivial predictor, and views: nothing else in the package needs to know it."""
    model, x, y = torch.nn.Linear(3, 2).double(), normal(9, 3), normal(9, 2, seed=1)
    engine = LossEngine(model, x, y, ABSOLUTE)
    assert engine.path.name != "general" and get_loss(ABSOLUTE) is ABSOLUTE
    assert engine.start.loss[0, 0] == pytest.approx(F.l1_loss(model(x), y).item(), rel=1e-12)
    assert trivial_loss(ABSOLUTE, y) == pytest.approx(
        min((y[:, :1] - a).abs().mean().item() for a in y[:, 0]) / 2
        + min((y[:, 1:] - b).abs().mean().item() for b in y[:, 1]) / 2
    )
    with pytest.raises(ConfigError, match="'huber' has no trivial predictor"):
        trivial_loss(get_loss(huber), y)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_what_a_built_in_loss_says_of_itself(loss: Loss):
    """Never below 0 if it says so; the root of its Hessian is that of two derivatives of its values, per output and token."""
    logits = 4 * normal(7, 3)
    targets = {"cross_entropy": torch.arange(7) % 3}.get(loss.name, (normal(7, 3, seed=1) > 0).double())
    fitted = fit(loss, logits, 7, targets)
    assert loss.non_negative and float(fitted.loss.per_sample(50 * logits, fitted.targets).min()) >= 0
    assert loss.hessian_root is not None
    rows = loss.hessian_root(logits)(torch.eye(3, dtype=torch.float64).unsqueeze(1).expand(3, 7, 3))
    for i in range(7):
        target = fitted.targets[i : i + 1]
        exact = torch.autograd.functional.hessian(
            lambda z, target=target: fitted.loss.per_sample(z.unsqueeze(0), target).sum(), logits[i]
        )
        torch.testing.assert_close(rows[:, i].T @ rows[:, i], exact, rtol=1e-9, atol=1e-12)
    margins = fitted.loss.sample_margins(logits[:1], fitted.targets[:1])
    assert fitted.loss.answers(fitted.targets) == margins.numel() == (3 if loss.name == "bce_with_logits" else 1)


@pytest.mark.parametrize("scale", [1, 10, 100, 1000])
@torch.inference_mode()
def test_binary_cross_entropy_keeps_its_digits_far_out(scale: float):
    """In single precision to 1e-6 of the double one, label 0 as label 1; numbers below the smallest normal one are 0."""
    generator = torch.Generator().manual_seed(scale)
    x, y = scale * torch.randn(4000, generator=generator), torch.rand(4000, generator=generator)
    for labels in (y, y.round()):
        fitted = fit(LOSSES["bce_with_logits"], x.unsqueeze(-1), 4000, labels)
        ours = fitted.loss.elements(x.unsqueeze(-1), fitted.targets).double()
        far, soft = x.double(), labels.double()
        right = -soft * F.logsigmoid(far) - (1 - soft) * F.logsigmoid(-far)
        torch.testing.assert_close(ours, right, rtol=1e-6, atol=3e-38)
        mirrored = fit(LOSSES["bce_with_logits"], x.unsqueeze(-1), 4000, 1 - labels)
        assert torch.allclose(mirrored.loss.elements(-x.unsqueeze(-1), mirrored.targets).double(), ours, rtol=1e-6)


@torch.inference_mode()
def test_a_certain_answer_has_no_loss_and_a_certain_mistake_an_infinite_one():
    x = torch.tensor([[math.inf], [-math.inf], [math.inf], [-math.inf], [math.nan]])
    fitted = fit(LOSSES["bce_with_logits"], x, 5, torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0]))
    found = fitted.loss.elements(x, fitted.targets)
    assert found[:4].tolist() == [0, 0, math.inf, math.inf] and bool(found[4].isnan())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, 87.0, -87.0, 88.0, 1e30])
@pytest.mark.parametrize("label", [0.0, 0.5, 1.0])
@torch.inference_mode()
def test_binary_cross_entropy_of_odd_logits_is_that_of_torch(value: float, label: float):
    """Where torch has one: its 0 times infinity is none."""
    x, y = torch.tensor([value, 1.0]), torch.tensor([label, 0.0])
    ours = LOSSES["bce_with_logits"].elements(x.unsqueeze(-1), y)
    theirs = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    known = ~theirs.isnan()
    torch.testing.assert_close(ours[known], theirs[known], rtol=1e-6, atol=3e-38)
    assert bool(ours[0].isnan()) >= math.isnan(value)


@pytest.mark.parametrize("spread", [60, 86, 87.5, 90, 103, 200])
@torch.inference_mode()
def test_cross_entropy_where_exponentials_underflow(spread: float):
    """Single precision ends at 1e-38: what is lost is less than that, beside a large logit or a small one."""
    logits = torch.tensor([[0.0, -spread, -spread - 1], [-spread, 0.0, -3.0]])
    labels = torch.tensor([0, 0])
    small = math.log1p(math.exp(-spread) + math.exp(-spread - 1))
    large = spread + math.log1p(math.exp(-3) + math.exp(-spread))
    assert cross_entropy_elements(logits, labels).tolist() == pytest.approx([small, large], rel=2e-6, abs=6e-38)
