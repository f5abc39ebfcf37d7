"""Losses of PyTorch with their default settings are the built-in ones of the same meaning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import minima_volume as mv
from minima_volume.losses.registry import fit, get_loss

LABELS, BITS, NUMBERS = torch.tensor([0, 2, 1]), torch.tensor([[1.0], [0.0], [1.0]]), torch.rand(3, 3)


@pytest.mark.parametrize(
    ("loss", "targets", "name"),
    [
        (nn.CrossEntropyLoss(), LABELS, "cross_entropy"),
        (nn.CrossEntropyLoss(reduction="none"), LABELS, "cross_entropy"),
        (F.cross_entropy, LABELS, "cross_entropy"),
        (nn.BCEWithLogitsLoss(), BITS, "bce_with_logits"),
        (F.binary_cross_entropy_with_logits, BITS, "bce_with_logits"),
        (nn.MSELoss(), NUMBERS, "mse"),
        (F.mse_loss, NUMBERS, "mse"),
        (nn.CrossEntropyLoss(reduction="sum"), LABELS, "CrossEntropyLoss"),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), LABELS, "CrossEntropyLoss"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), LABELS, "CrossEntropyLoss"),
        (nn.CrossEntropyLoss(), NUMBERS.softmax(1), "CrossEntropyLoss"),  # probabilities
        (nn.CrossEntropyLoss(), torch.tensor([0, -100, 1]), "CrossEntropyLoss"),  # a label to be ignored
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)), BITS, "BCEWithLogitsLoss"),
        (nn.L1Loss(), NUMBERS, "L1Loss"),
    ],
)
def test_what_torch_losses_are_called(loss: Any, targets: torch.Tensor, name: str):
    outputs = torch.randn(3, 1 if targets is BITS else 3, generator=torch.Generator().manual_seed(0))
    fitted = fit(get_loss(loss), outputs, 3, targets)
    assert fitted.loss.name == name
    theirs = torch.as_tensor(loss(outputs, targets)).mean()
    torch.testing.assert_close(fitted.loss.per_sample(outputs, fitted.targets).mean(), theirs)


def test_a_hook_on_a_torch_loss_keeps_it_a_loss_of_ones_own():
    loss = nn.MSELoss()
    loss.register_forward_hook(lambda module, given, result: 2 * result)
    assert fit(get_loss(loss), NUMBERS, 3, NUMBERS).loss.name == "MSELoss"


def test_classes_are_counted_where_torch_counts_them():
    """Outputs (2, 3, 3) fit labels (2, 3) both ways; PyTorch's classes are axis 1, whatever the model declares."""
    outputs = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[0, 1, 2], [2, 2, 0]])
    fitted = fit(get_loss(nn.CrossEntropyLoss()), outputs, 2, labels, class_axis=-1)
    torch.testing.assert_close(fitted.loss.per_sample(outputs, labels).mean(), F.cross_entropy(outputs, labels))


def test_a_model_measured_with_a_torch_loss_is_the_same_minimum():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(30, 4)
    y = model(x).argmax(1)
    named, own = (
        mv.measure_volume(model, x, y, loss=loss, sigma=0.05, threshold=2.0, progress=False)
        for loss in ("cross_entropy", nn.CrossEntropyLoss())
    )
    assert own.log_mass == named.log_mass
    assert own.context == named.context
    assert mv.compare(named, own) is not None


@pytest.mark.parametrize("loss", [nn.MSELoss(), F.mse_loss])
def test_torch_broadcasts_what_the_built_in_mse_pairs(loss: Any):
    """Outputs (N, 1) and targets (N,): PyTorch's loss is the mean over all N x N differences, and the result says so."""
    generator = torch.Generator().manual_seed(0)
    model, x, y = nn.Linear(3, 1), torch.randn(20, 3, generator=generator), torch.randn(20, generator=generator)
    given = {"threshold": 50.0, "measure": "ball", "num_directions": 3, "progress": False}
    with pytest.warns(UserWarning, match="target size"):
        theirs, paired = mv.measure_volume(model, x, y, loss, **given), mv.measure_volume(model, x, y, "mse", **given)
    with torch.no_grad():
        outputs = model(x)
    assert theirs.start_loss == pytest.approx(float((outputs - y[None, :]).square().mean()), rel=1e-6)
    assert paired.start_loss == pytest.approx(float((outputs[:, 0] - y).square().mean()), rel=1e-6)
    assert "targets of shape (2,) as PyTorch's MSE broadcasts them; loss='mse' pairs each output" in theirs.verdict
    assert "broadcasts" not in paired.verdict
