"""What the calling process has set (gradient modes, autocast, precision, default types and devices) changes no number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import few_bits, make_run, numbers, same_sweeps
from torch import Tensor, nn

from minima_volume import ViewSettings, measure_volume, other_views, suggest_sigma, views_table
from minima_volume.config.sections import Training
from minima_volume.files.atomic import read_pt
from minima_volume.isolation import own_defaults
from minima_volume.perturbation.directions import draw_gaussian
from minima_volume.stages.run import Run
from minima_volume.training import train_model


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def all_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "default type float64": lambda: default_dtype(torch.float64),
    "default type bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "gradients off": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic algorithms": deterministic,
    "products in few bits": lambda: few_bits(False),
    "numpy errors": lambda: np.errstate(all="raise"),
    "warnings are errors": all_warnings,
}
if hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision"):  # torch 2.9 and newer
    SETTINGS["products in few bits, newer settings"] = lambda: few_bits(True)


class Sums(nn.Module):
    """A recurrent model that makes a tensor in its forward pass, as its samples are."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.unflatten(1, (2, 3)), x.new_zeros(1, len(x), 4))[0][:, -1])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)),
    "convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)
    ),
    "batch normalisation": lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)),
    "recurrent": Sums,
    "double": lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 2)).double(),
}


def made(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, x = MODELS[name](), torch.randn(20, 6)
        x = x.to(next(model.parameters()).dtype)
        return model, x, (x[:, 0] > 0).long()


def measured(model: nn.Module, x: Tensor, y: Tensor) -> list[Any]:
    """Numbers of every kind, small: splitting, rays, rays along a curvature, the views; plain samples and a sigma where they are quick."""
    quiet = {"threshold": 1.2, "progress": False}
    split = measure_volume(
        model, x, y, sigma=0.9, estimator="splitting", num_particles=20, num_moves=2, num_repeats=2, **quiet
    )
    ball = measure_volume(model, x, y, measure="ball", num_directions=4, **quiet)
    curved = measure_volume(model, x, y, measure="ball", num_directions=4, preconditioner="full", damping=0.1, **quiet)
    settings = ViewSettings(
        num_chains=2, num_draws=8, num_burn_in=8, num_products=9, num_eigenvalues=1, density_vectors=1
    )
    views = other_views(model, x, y, threshold=1.2, settings=settings)
    found = [
        *(split.log_mass, split.num_forward, ball.log_volume, curved.log_volume),
        *(views.start_loss, views.trace.value, views.sam.value, views.asam.value, views.learning_coefficient.value),
        *views.spectrum.eigenvalues.tolist(),
    ]
    if isinstance(model, nn.Sequential) and isinstance(model[1], nn.ReLU):
        plain = measure_volume(model, x, y, sigma=0.4, estimator="monte_carlo", **quiet)
        found += [plain.log_mass, plain.hits, suggest_sigma(model, x, y, threshold=1.2)]
    return found


@cache
def expected(name: str) -> list[Any]:
    return measured(*made(name))


# every model under what reaches the tensors it makes; under what reaches the package alone, a model of a fast path and one of none
EVERYWHERE = ("default type float64", "default type bfloat16", "default device")
PAIRS = [
    (name, setting)
    for setting in SETTINGS
    for name in MODELS
    if setting in EVERYWHERE or name in ("perceptron", "recurrent")
]


@pytest.mark.parametrize(("name", "setting"), PAIRS)
def test_no_number_changes(name: str, setting: str):
    """Bit for bit the same inside and outside; afterwards the caller's settings are as they were."""
    arguments, numbers_outside = made(name), expected(name)
    state = torch.get_rng_state()
    with SETTINGS[setting]():
        before = _settings()
        assert measured(*arguments) == numbers_outside
        assert _settings() == before
    assert torch.equal(torch.get_rng_state(), state)


def _settings() -> tuple[Any, ...]:
    return (
        *(torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()),
        *(torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), tuple(np.geterr().items())),
        *(torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, *map(_precision, PRECISIONS)),
    )


PRECISIONS: list[Callable[[], Any]] = [
    torch.get_float32_matmul_precision,
    lambda: torch.backends.cuda.matmul.allow_tf32,
    lambda: torch.backends.cudnn.allow_tf32,
    lambda: torch.backends.cuda.matmul.fp32_precision,
    lambda: torch.backends.cudnn.conv.fp32_precision,
    lambda: torch.backends.mkldnn.matmul.fp32_precision,
    lambda: torch.backends.mkldnn.conv.fp32_precision,
]


def _precision(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (RuntimeError, AttributeError):  # torch refuses to read older settings that newer ones contradict
        return "not readable"


@pytest.mark.parametrize("name", MODELS)
def test_models_and_samples_made_in_inference_mode(name: str):
    """Tensors that autograd does not take are copied; the model itself stays what it is."""
    with torch.inference_mode():
        model, x, y = made(name)
    assert x.is_inference() and next(model.parameters()).is_inference()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert measured(model, x, y) == expected(name)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert next(model.parameters()).is_inference()


def test_a_model_that_relies_on_the_default_type():
    """Its forward pass makes tensors of the default type, which stays the caller's while it runs: the plain loop's radii."""

    class Relies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.cat([torch.tanh(self.first(x)[:, :4]), torch.ones(len(x), 1)], 1)
            assert hidden.dtype == torch.float64
            return hidden @ self.second.weight.T + torch.eye(2) @ self.second.bias

    with default_dtype(torch.float64):
        torch.manual_seed(0)
        model, x = Relies(), torch.randn(20, 6)
        y = (x[:, 0] > 0).long()
        volume = measure_volume(model, x, y, threshold=1.2, measure="ball", num_directions=3, progress=False)
        views = other_views(model, x, y, settings=ViewSettings(num_chains=0))
        assert views.trace is not None
        parameters = list(model.parameters())
        start = [parameter.detach().clone() for parameter in parameters]
        for seed, c in zip(volume.seeds.tolist(), volume.coefficients.tolist(), strict=True):
            xi = draw_gaussian(seed, [parameter.shape for parameter in parameters])
            with torch.no_grad():
                for parameter, minimum, part in zip(parameters, start, xi, strict=True):
                    factor = minimum.norm(dim=1, keepdim=True) if minimum.ndim > 1 else 1.0
                    parameter.copy_(minimum + c * part.double() * factor)
                loss = nn.functional.cross_entropy(model(x), y).item()
            assert c >= 16 or loss == pytest.approx(1.2, rel=1e-3)


def test_directions_are_float32_of_the_cpu():
    """A seed names the same direction under any default."""
    shapes = [torch.Size([3, 2]), torch.Size([])]
    plain = draw_gaussian(5, shapes)
    assert plain[0].dtype == torch.float32
    for setting in ("default type float64", "default device", "inference mode"):
        with SETTINGS[setting]():
            assert all(torch.equal(a, b) for a, b in zip(draw_gaussian(5, shapes), plain, strict=True))


@pytest.mark.parametrize("setting", ["default type float64", "default device", "inference mode"])
def test_a_run_is_what_its_config_says(digits_run: Run, tmp_path: Path, setting: str):
    """Samples, trained weights, sweeps, radii and views of a whole run, bit for bit."""
    with SETTINGS[setting]():
        run = make_run(tmp_path / "model_0_data_10", stages=("train", "perturb", "volume", "cutoff", "accuracy"))
        views = views_table(run, settings=ViewSettings(num_chains=0), progress=False)
    for level in (0, 20, 40):
        hashes = [read_pt(r.model_file(level))["weights_hash"] for r in (run, digits_run)]
        assert hashes[0] == hashes[1]
    same_sweeps(run, digits_run)
    assert numbers(run.results_file(0, 0.5)) == numbers(digits_run.results_file(0, 0.5))
    assert run.cutoffs_file.read_text() == digits_run.cutoffs_file.read_text()
    assert np.isfinite(views["trace"]).all()


def _steps_on_meta() -> bool:
    """Whether torch's own optimiser works where the default device has no numbers; that of torch 2.4 does not."""
    weight = torch.ones(1, requires_grad=True)
    weight.grad = torch.ones(1)
    with torch.device("meta"):
        try:
            torch.optim.AdamW([weight]).step()
        except RuntimeError:
            return False
    return True


@pytest.mark.parametrize("setting", ["default device", "inference mode", "no_grad", "autocast"])
def test_training_ones_own_model(setting: str):
    """`train_model` takes the same steps, in shuffled batches."""
    if setting == "default device" and not _steps_on_meta():
        pytest.skip("this torch's AdamW counts its steps on the default device")
    found = []
    for context in (nullcontext, SETTINGS[setting]):
        model, x, y = made("batch normalisation")
        settings = Training(epochs=3, batch_size=7)
        with context():
            train_model(model, (x, y), (x, y), settings, 3)
        found.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_own_defaults_come_back_after_an_error():
    """Also where the block fails."""
    with default_dtype(torch.float64), torch.device("meta"):
        with own_defaults():
            assert torch.zeros(1).dtype == torch.float32 and torch.zeros(1).device.type == "cpu"
        with pytest.raises(ZeroDivisionError):
            own_defaults()(lambda: 1 / 0)()
        assert torch.zeros(1).dtype == torch.float64 and torch.zeros(1).device.type == "meta"
