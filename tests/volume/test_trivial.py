"""The trivial predictor's loss against closed forms, and the verdict on thresholds at it or at the start loss."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import edit_config, make_run
from torch.nn import functional as F

import minima_volume as mv
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files.atomic import read_json, write_json
from minima_volume.losses.registry import get_loss
from minima_volume.volume.trivial import threshold_verdict, trivial_loss


@pytest.mark.parametrize("classes", [2, 10, 97])
def test_balanced_classes(classes):
    """log K for cross-entropy; (1 - 1/K) / K for the squared error of one-hot targets."""
    labels = torch.arange(classes).repeat(5)
    assert trivial_loss("cross_entropy", labels) == pytest.approx(math.log(classes), abs=1e-12)
    assert trivial_loss("mse", F.one_hot(labels, classes).float()) == pytest.approx(
        (1 - 1 / classes) / classes, abs=1e-9
    )


def test_unbalanced_and_soft_labels():
    """Entropy of the frequencies, of which absent classes are no part; of the mean label; the variance of plain numbers."""
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert trivial_loss("cross_entropy", torch.tensor([[0, 0], [0, 5]])) == pytest.approx(expected, abs=1e-12)
    assert trivial_loss("bce_with_logits", torch.tensor([0.0, 0.5, 0.0, 0.5])) == pytest.approx(expected, abs=1e-12)
    assert trivial_loss("mse", torch.tensor([1.0, 3.0])) == 1.0
    assert trivial_loss("bce_with_logits", torch.ones(3)) == trivial_loss("cross_entropy", torch.ones(3).long()) == 0.0


@pytest.mark.parametrize(
    ("name", "outputs", "targets"),
    [
        ("cross_entropy", 4, torch.tensor([0, 1, 1, 3, 3, 3, 3])),
        ("bce_with_logits", 1, torch.tensor([0.0, 1.0, 1.0, 0.2])),
        ("mse", 3, torch.randn(20, 3, generator=torch.Generator().manual_seed(0))),
    ],
)
def test_no_constant_output_does_better(name, outputs, targets):
    """The package's own losses, minimised over one constant output in float64, end at the trivial loss."""
    constant = torch.zeros(outputs, dtype=torch.float64, requires_grad=True)
    loss, optimizer = get_loss(name), torch.optim.LBFGS([constant], max_iter=200, line_search_fn="strong_wolfe")
    targets = targets if name == "cross_entropy" else targets.double()

    def closure():
        optimizer.zero_grad()
        value = loss.per_sample(constant.expand(len(targets), -1), targets).mean()
        value.backward()
        return value

    optimizer.step(closure)
    assert closure().item() == pytest.approx(trivial_loss(name, targets), abs=1e-6)


def test_what_has_no_trivial_predictor():
    """No targets, or a loss of the user's own."""
    with pytest.raises(ConfigError, match="at least one target"):
        trivial_loss("mse", torch.empty(0, 3))
    with pytest.raises(ConfigError, match="'hinge' has no trivial predictor"):
        trivial_loss("hinge", torch.ones(3))


@pytest.mark.parametrize(
    ("loss", "targets", "words"),
    [
        ("bce_with_logits", torch.tensor([1, 2, 3]), "labels are torch.int64 from 1 to 3, allowed are real numbers from 0 to 1"),
        ("bce_with_logits", torch.tensor([-0.5, 1.0]), "labels are torch.float32 from -0.5 to 1"),
        ("cross_entropy", torch.tensor([1.0, 2.0]), "needs integer labels of at least 0, got torch.float32 from 1 to 2"),
        ("cross_entropy", torch.tensor([-1, 2]), "needs integer labels of at least 0, got torch.int64 from -1 to 2"),
        ("cross_entropy", torch.tensor([1j]), "needs integer labels of at least 0, got torch.complex64"),
        ("mse", torch.tensor([1j]), "mse needs real targets, got torch.complex64"),
        ("mse", torch.tensor([math.nan, 1.0]), "targets holds NaN"),
        ("mse", [1.0, 2.0], "targets is a list"),
        ("mse", torch.tensor(1.0), "at least one target"),
    ],
)  # fmt: skip
def test_targets_that_the_loss_cannot_have(loss, targets, words):
    """One message each, with their type and range."""
    with pytest.raises(ConfigError, match=words):
        trivial_loss(loss, targets)


def test_unsigned_labels_are_labels():
    labels = torch.tensor([0, 1, 1, 0, 1])
    for loss in ("cross_entropy", "bce_with_logits"):
        assert trivial_loss(loss, labels.to(torch.uint16)) == trivial_loss(loss, labels)


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (0.01, "within 10 % of"),
        (0.0102, "at or above"),
        (0.5, "at or above"),
        (0.0091, None),
        (0.0093, "within 10 % of"),
    ],
)
def test_thresholds_at_the_trivial_predictor(threshold, words):
    """The published threshold 0.01 of modulo arithmetic is one; from 90 % of the loss on a verdict says so."""
    verdict = threshold_verdict(threshold, 0.0102, {"+0": 1e-5})
    assert verdict == "" if words is None else (words in verdict and "answers the same for every input" in verdict)


def test_thresholds_at_the_start_loss():
    """Each minimum that starts at, above or closely below the threshold is named with its loss."""
    starts = {"+0": 0.01, "+20": 0.0899, "+40": 0.095, "+60": 0.1, "+80": 0.2, "+100": None}
    verdict = threshold_verdict(0.1, 2.3, starts)
    assert "at or above it start +60 (0.1), +80 (0.2), +100 (not finite), which are outside" in verdict
    assert "within 10 % below it starts +40 (0.095): its volume" in verdict
    assert "+0" not in verdict and "+20" not in verdict and "trivial" not in verdict


@pytest.fixture(scope="module")
def modulo_run(tmp_path_factory):
    """Modulo 11, hardly trained: one threshold at the trivial predictor, one below the start losses, one in order."""
    folder = tmp_path_factory.mktemp("trivial") / "model_0_data_1"
    return make_run(
        folder,
        {
            "data.source": "modulo_arithmetic",
            "data.options": {"modulus": 11},
            "data.base_size": 60,
            "data.levels": [0, 20],
            "training.loss": "mse",
            "training.epochs": 60,
            "training.learning_rate": 0.01,
            "model.options": {"hidden": [16]},
            "volume.loss_thresholds": [0.08, 0.07, 1e-4],
            "volume.accuracy_thresholds": None,
        },
        ("train", "perturb", "volume"),
    )


def test_what_the_notebook_says(modulo_run):
    """In results.json, with the verdicts, and for all thresholds and landscapes together."""
    text = mv.describe_thresholds(modulo_run)
    near, fine, low = text.split("threshold ")[1:]
    assert near.startswith("0.08; loss of the trivial predictor 0.08") and "within 10 % of the loss" in near
    assert fine.strip().endswith("below it, and above every start loss")
    assert "landscape +0: at or above it start +0 (" in low and "landscape +20: at or above it starts +20 (" in low
    for landscape in (0, 20):
        results = mv.load_results(modulo_run.results_file(landscape, 0.08))
        targets = mv.load_models_and_data(modulo_run).dataset.y_train[: 60 + landscape]
        assert results["trivial_loss"] == trivial_loss("mse", targets)
        assert f"threshold 0.08: {results['threshold_verdict']}" in mv.verdicts(results)
        assert mv.load_results(modulo_run.results_file(landscape, 0.07))["threshold_verdict"] is None
        assert None not in results["log_volume_values"]
        assert set(mv.load_results(modulo_run.results_file(landscape, 1e-4))["log_volume_values"]) == {None}


def test_results_of_an_earlier_version_are_described_too(modulo_run):
    """A results.json without the new keys: the sentences are made from the samples; one that is missing is named."""
    before = mv.describe_thresholds(modulo_run)
    path = modulo_run.results_file(0, 0.08)
    content = read_json(path)
    old = {key: value for key, value in content.items() if key not in ("trivial_loss", "threshold_verdict")}
    write_json(path, old)
    assert mv.describe_thresholds(modulo_run) == before and "threshold 0.08" not in mv.verdicts(old)
    write_json(path, content)
    with pytest.raises(MissingStageError, match="results.json"):
        mv.describe_thresholds(edit_config(modulo_run.folder, {"volume.loss_thresholds": [0.08, 0.06]}))
