"""The front door says what is wrong with samples, models and settings before anything runs."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from minima_volume import measure_volume
from minima_volume.errors import ConfigError

MODEL = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 2))
X, Y = torch.zeros(6, 4), torch.zeros(6, dtype=torch.long)


class NoParameters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("model", "x", "y", "message"),
    [
        (MODEL, np.zeros((6, 4)), Y, r"x is a numpy.ndarray; convert it with torch.as_tensor\(x\)"),
        (MODEL, X, [0] * 6, r"y is a list; give one tensor, e.g. torch.tensor\(y\)"),
        (MODEL, X, Y[:5], "x has 6 samples, y has 5"),
        (MODEL, X[:0], Y[:0], r"x has shape \(0, 4\); it must hold at least one sample"),
        (MODEL, torch.tensor(1.0), Y, r"x has shape \(\)"),
        (MODEL, torch.zeros(6, 5), Y, r"cannot take samples of shape \(5,\) .*0.weight \(3, 4\)"),
        (MODEL, X.long(), Y, "cannot take samples .* torch.int64"),
        (MODEL, X.double(), Y, r"x is torch.float64, the model torch.float32; convert it with x.to\(torch.float32\)"),
        (MODEL.forward, X, Y, "model is a method; it must be a torch.nn.Module"),
        (NoParameters(), X, Y, "NoParameters has no parameters"),
        (MODEL, X, Y + 2, "labels go from 2 to 2, the model has 2 outputs"),
        (MODEL, X, X, "needs integer labels"),
    ],
)  # fmt: skip
def test_samples_and_models(model: nn.Module, x: Tensor, y: Tensor, message: str):
    """One ConfigError each, that names the thing, its value and the way out."""
    with pytest.raises(ConfigError, match=message):
        measure_volume(model, x, y, threshold=0.1, measure="lebesgue", progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measure": "gauss"}, "'gauss' is not known; allowed: .*lebesgue, ball"),
        ({"measure": "ball", "estimator": "mean"}, "'mean' does not estimate measure 'ball'; allowed: monte_carlo, importance"),
        ({"measure": "ball", "max_coefficient": math.inf}, "finite"),
        ({"measure": "ball", "max_coefficient": math.nan}, "finite"),
        ({"measure": "lebesgue", "num_directions": 0}, "at least 1"),
        ({"measure": "ball", "preconditioner": "adam", "second_moments": 5}, "second_moments is a int; give the optimiser, or"),
        ({"measure": "ball", "preconditioner": "adam", "second_moments": {"0.bias": 1}}, "second_moments holds a int for '0.bias'"),
    ],
)  # fmt: skip
def test_settings(settings: dict, message: str):
    """Likewise for what is asked of it."""
    with pytest.raises(ConfigError, match=message):
        measure_volume(MODEL, X, Y, threshold=5.0, progress=False, **settings)


@pytest.mark.filterwarnings("ignore:.*(CSR|nested|quantiz).*:UserWarning")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Tensor.to_sparse, "a tensor of layout torch.sparse_coo; convert it with to_dense()"),
        (Tensor.to_sparse_csr, "a tensor of layout torch.sparse_csr; convert it with to_dense()"),
        (lambda x: torch.nested.nested_tensor(list(x)), "a tensor of samples of several lengths (nested); pad them to one"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantised numbers (torch.qint8); convert it with dequantize()"),
        (lambda x: x.to("meta"), "a tensor on the meta device, which has no values; make it on the CPU"),
    ],
)  # fmt: skip
def test_tensors_that_are_no_plain_arrays(make: Callable[[Tensor], Tensor], words: str):
    for x, y, name in ((make(X), Y, "x is "), ((make(X),), Y, "x holds "), (X, make(X), "y is ")):
        with pytest.raises(ConfigError, match=re.escape(name) + ".*" + re.escape(words)):
            measure_volume(MODEL, x, y, "mse", threshold=5.0, sigma=0.1, progress=False)


def test_a_model_without_values():
    with pytest.raises(ConfigError, match=r"on the meta device have no values: 0.weight, .*load the weights first"):
        measure_volume(copy.deepcopy(MODEL).to("meta"), X, Y, threshold=5.0, sigma=0.1, progress=False)


INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32, torch.uint64, torch.bool)


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [("cross_entropy", 2), ("bce_with_logits", 1), ("mse", 1), (nn.CrossEntropyLoss(), 2)],
)
def test_labels_of_any_integer_type(loss: Any, outputs: int):
    """The same numbers as with int64."""
    torch.manual_seed(0)
    own, y = nn.Linear(4, outputs), torch.tensor([0, 1, 1, 0])

    def found(dtype: torch.dtype) -> float | None:
        return measure_volume(own, EYE, y.to(dtype), loss, threshold=0.8, sigma=0.3, progress=False).log_mass

    assert [found(dtype) for dtype in INTEGERS] == [found(torch.int64)] * len(INTEGERS)


@pytest.mark.parametrize(
    ("loss", "outputs", "words"),
    [
        ("cross_entropy", 2, "needs integer labels of shape (4,) for outputs of shape (4, 2), got torch.complex64 (4,)"),
        ("bce_with_logits", 1, "labels are torch.complex64, allowed are real numbers from 0 to 1"),
        ("mse", 1, "mse needs real targets, got torch.complex64"),
    ],
)  # fmt: skip
def test_complex_labels(loss: str, outputs: int, words: str):
    with pytest.raises(ConfigError, match=re.escape(words)):
        measure_volume(nn.Linear(4, outputs), EYE, torch.zeros(4) + 0j, loss, threshold=0.8, sigma=0.3, progress=False)


class Made(Dataset):
    """Nine samples, each as it is made."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 9

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.make(i), i % 2


def padded(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    return nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True), torch.tensor([y for _, y in items])


GROWING = Made(lambda i: torch.ones(i + 1))
NO_BATCH = "gives samples that cannot be batched .*they must be tensors or numbers of one shape: convert or pad them"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (GROWING, f"Made {NO_BATCH}"),
        (DataLoader(GROWING, batch_size=3), f"DataLoader {NO_BATCH}"),
        (Made(lambda i: object()), f"Made {NO_BATCH}"),
        (DataLoader(GROWING, batch_size=3, collate_fn=padded), r"batches that differ: samples of shape \(3,\) and samples of shape \(6,\)"),
        (DataLoader(Made(lambda i: {str(i // 3): 1.0}), batch_size=3), "a dictionary of 0 and a dictionary of 1"),
        (DataLoader(Made(lambda i: (1.0,) * (1 + i // 3)), batch_size=3), "a tuple of 1 and a tuple of 2"),
    ],
)  # fmt: skip
def test_samples_of_several_shapes(source: Any, words: str):
    with pytest.raises(ConfigError, match=words):
        measure_volume(MODEL, source, threshold=5.0, sigma=0.1, progress=False)


def test_a_fault_of_the_dataset_is_its_own():
    with pytest.raises(ZeroDivisionError):
        measure_volume(MODEL, Made(lambda i: i / 0), threshold=5.0, sigma=0.1, progress=False)


def test_the_model_comes_back_as_it_was():
    """Weights, buffers and modes, also with a curvature measured and a model in training mode with one layer in evaluation."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    model[1].eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, y = torch.randn(6, 4), torch.tensor([0, 1] * 3)
    measure_volume(
        model,
        x,
        y,
        threshold=5.0,
        measure="ball",
        num_directions=3,
        preconditioner="low_rank",
        damping=1.0,
        progress=False,
    )
    assert [layer.training for layer in model] == [True, False, True]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


EYE = torch.eye(4)


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 1, bias=False)


def measure(loss: Any = "mse", **options: Any) -> Any:
    own = model()
    chosen = {"threshold": 0.1, "sigma": 0.1, "progress": False} | options
    return measure_volume(own, EYE, own(EYE).detach(), loss, **chosen)


@pytest.mark.parametrize("threshold", [0.1, np.float32(0.1), torch.tensor(0.1)])
def test_thresholds_are_numbers_of_any_library(threshold: Any) -> None:
    assert measure(threshold=threshold).log_mass == measure().log_mass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": "0.1"}, "threshold '0.1' is not allowed: it must be a finite loss"),
        ({"threshold": -0.1}, "threshold -0.1 is not allowed: it must be a positive loss, since mse is never negative"),
        ({"threshold": -0.1, "sigma": None, "measure": "ball"}, "threshold -0.1 is not allowed: it must be a positive loss (Gaussian"),
        ({"threshold": -math.inf}, "threshold -inf is not allowed"),
        ({"threshold": [0.1, 0.2]}, "threshold [0.1, 0.2] is not allowed"),
        ({"threshold": 0.0}, "threshold 0.0 is not allowed"),
        ({"threshold": math.nan}, "threshold nan is not allowed"),
        ({"threshold": True}, "threshold True is not allowed"),
        ({"threshold": None, "accuracy_threshold": 90}, "accuracy_threshold 90 is not allowed: it must be above 0 and at most 1"),
        ({"device": "gpu"}, "device 'gpu' is not known; allowed: cpu, cuda or cuda:<index>"),
        ({"device": "xla"}, "device 'xla': this machine has no usable XLA device; take cpu"),
        ({"device": "meta"}, "device 'meta': this machine has no usable META device; take cpu"),
        ({"loss": "cross_entropy", "class_axis": "a"}, "class_axis 'a' is not an axis of outputs of shape (4, 1) (a whole number"),
        ({"loss": "cross_entropy", "class_axis": 1.0}, "class_axis 1.0 is not an axis"),
        ({"loss": nn.MSELoss}, "loss is the class MSELoss; pass a function, or an instance"),
        ({"loss": lambda out, y: float(((out - y) ** 2).mean())}, "returns a float; it must return a tensor"),
    ],
)  # fmt: skip
def test_values_that_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        measure(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="device 'cuda': this machine has no usable CUDA device"):
        measure(device="cuda")


def test_a_perfect_accuracy_may_be_asked_for() -> None:
    torch.manual_seed(0)
    own = nn.Linear(4, 3)
    found = measure_volume(own, EYE, own(EYE).argmax(1), accuracy_threshold=1, sigma=0.01, progress=False)
    assert found.start_loss == 1.0 and found.log_mass is not None


def test_numbers_that_are_none_are_not_blamed_on_training() -> None:
    x, own = EYE.clone(), model()
    x[0, 0] = math.nan
    with pytest.raises(ConfigError, match="x holds NaN or infinite numbers in 1 of 4 samples"):
        measure_volume(own, x, own(EYE).detach(), "mse", threshold=0.1, sigma=0.1, progress=False)
    y = own(EYE).detach()
    own.weight.data[0, 0] = math.nan
    found = measure_volume(own, EYE, y, "mse", threshold=0.1, sigma=0.1, scaling="none", progress=False)
    assert "its value is nan before any perturbation; look at its weights and samples" in found.verdict


def test_a_plateau_is_no_minimum() -> None:
    """A threshold above the loss of the best constant, log 3 here, is reported, whatever is measured."""
    torch.manual_seed(0)
    own, x = nn.Linear(4, 3), torch.randn(30, 4)
    y = torch.arange(30) % 3
    own.weight.data.mul_(0.01)
    words = f"threshold 2: it is at or above the loss of the trivial predictor ({math.log(3):.3g})"
    volume = measure_volume(own, x, y, threshold=2.0, sigma=0.1, progress=False)
    profile = measure_volume(own, x, y, threshold=2.0, sigma=[0.1, 0.2], progress=False)
    star = measure_volume(own, x, y, threshold=2.0, measure="ball", num_directions=20, progress=False)
    assert words in volume.verdict and words in star.verdict and profile.verdict.count(words) == 1
    assert "trivial" not in measure_volume(own, x, own(x).argmax(1), accuracy_threshold=0.9, sigma=0.1).verdict


def test_a_certain_mass_has_no_negative_zero() -> None:
    assert measure(threshold=1e-4, sigma=1e-4).verdict == "measured: 0.00, 95 % interval 0.00 to 0.00"
