"""Models that people bring, with the plain loop that says what is right: it moves the user's own module in place, no code of the package."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import scipy
import torch
from torch import Tensor, nn

import minima_volume as mv
from minima_volume import ViewSettings, measure_volume, other_views
from minima_volume.files.atomic import read_json
from minima_volume.stages.run import Run

FALSE_ALARM = 1e-6  # of the comparison of two frequencies


def weights_and_biases(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters() if name.endswith(("weight", "bias"))]


def everything(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


@dataclass(frozen=True)
class Case:
    """A trained model with its samples.

    Attributes:
        build: the trained model.
        x, y: samples, as `measure_volume` takes them.
        plain: (outputs, y) -> mean loss, as its author would write it.
        loss: as `measure_volume` takes it.
        threshold, sigma: so that a perturbation of size sigma is inside now and then.
        reset: puts the model into the state in which its author would start a pass.
        moved: names of the parameters that are perturbed; `names` asks for them.
        settings: other arguments of `measure_volume`.
    """

    build: Callable[[], nn.Module]
    x: Any
    y: Any
    plain: Callable[[Any, Any], Tensor]
    loss: Any = "cross_entropy"
    threshold: float = 0.3
    sigma: float = 0.4
    reset: Callable[[nn.Module], None] = lambda model: None
    moved: Callable[[nn.Module], list[str]] = weights_and_biases
    names: Any = "weight_bias"
    settings: dict[str, Any] = field(default_factory=dict)

    def mean_loss(self, model: nn.Module) -> float:
        """One pass over all samples, as the author would make it."""
        self.reset(model)
        with torch.no_grad():
            x = copy.deepcopy(self.x)
            outputs = model(*x) if isinstance(x, tuple) else model(**x) if isinstance(x, dict) else model(x)
            value = float(self.plain(outputs, copy.deepcopy(self.y)))
        self.reset(model)
        return value


def filter_norm(parameter: Tensor) -> Tensor:
    if parameter.ndim < 2:
        return torch.ones_like(parameter)
    rows = parameter.detach().reshape(len(parameter), -1).square().sum(1).sqrt()
    return rows.reshape(-1, *[1] * (parameter.ndim - 1))


@contextlib.contextmanager
def in_evaluation(case: Case, model: nn.Module) -> Iterator[tuple[list[nn.Parameter], list[Tensor], list[Tensor]]]:
    """The perturbed parameters, theta* and F; afterwards the model is as it was."""
    was = model.training
    model.eval()
    case.reset(model)
    have = dict(model.named_parameters())
    parameters = [have[name] for name in case.moved(model)]
    start = [p.detach().clone() for p in parameters]
    try:
        yield parameters, start, [filter_norm(p) for p in start]
    finally:
        move(parameters, start)
        model.train(was)
        case.reset(model)


def move(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data.copy_(value)


def normals(seed: int, like: Sequence[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=generator, dtype=torch.float32).to(t) for t in like]


def check_rays(case: Case, model: nn.Module, directions: int = 3) -> None:
    """Each ray's own crossing, by the plain loop: inside just before it, outside just after it."""
    found = measure_volume(
        model, case.x, case.y, case.loss, threshold=case.threshold, measure="ball", num_directions=directions, seed=11,
        names=case.names, progress=False, **case.settings,
    )  # fmt: skip
    assert found.log_volume is not None
    with in_evaluation(case, model) as (parameters, start, factors):
        assert abs(found.start_loss - case.mean_loss(model)) < 1e-6 + 1e-4 * found.start_loss
        for seed, c in zip(found.seeds, found.coefficients, strict=True):
            xi = normals(int(seed), start)
            for shift, inside in ((0.999, True), (1.001, False)):
                move(parameters, [t + c * shift * f * z for t, f, z in zip(start, factors, xi, strict=True)])
                assert (case.mean_loss(model) <= case.threshold) == inside, (seed, c, shift)


def check_gaussian(case: Case, model: nn.Module, passes: int = 600) -> None:
    """Frequencies of staying inside, the package's and the plain loop's: Fisher's exact test at a chance of 1e-6."""
    found = measure_volume(
        model, case.x, case.y, case.loss, threshold=case.threshold, sigma=case.sigma, estimator="monte_carlo", seed=3,
        names=case.names, progress=False, **case.settings,
    )  # fmt: skip
    assert found.hits is not None and found.num_samples is not None
    hits = 0
    with in_evaluation(case, model) as (parameters, start, factors):
        for seed in range(passes):
            xi = normals(10_000 + seed, start)
            move(parameters, [t + case.sigma * f * z for t, f, z in zip(start, factors, xi, strict=True)])
            hits += case.mean_loss(model) <= case.threshold
    assert 0.02 * passes < hits < 0.98 * passes  # else the test says little
    table = [[found.hits, found.num_samples - found.hits], [hits, passes - hits]]
    assert scipy.stats.fisher_exact(table).pvalue > FALSE_ALARM, (found.hits / found.num_samples, hits / passes)


def check_trace(case: Case, model: nn.Module, step: float = 1e-3) -> None:
    """The trace of the Hessian, by second differences of the plain loop's loss along each coordinate."""
    numbers = sum(p.numel() for name, p in model.named_parameters() if name in case.moved(model))
    settings = ViewSettings(
        scaling="none", names=case.names, num_products=max(6, numbers), num_eigenvalues=1, num_chains=0
    )
    views = other_views(model, case.x, case.y, case.loss, settings=settings, **case.settings)
    assert views.trace is not None and views.trace.method == "exact", views.notes
    with in_evaluation(case, model) as (parameters, start, _):
        centre, total, size = case.mean_loss(model), 0.0, 0.0
        for parameter, tensor in zip(parameters, start, strict=True):
            for i in range(tensor.numel()):
                sides = []
                for sign in (-1, 1):
                    moved = tensor.clone()
                    moved.view(-1)[i] += sign * step
                    move([parameter], [moved])
                    sides.append(case.mean_loss(model))
                move([parameter], [tensor])
                second = (sides[0] + sides[1] - 2 * centre) / step**2
                total, size = total + second, size + abs(second)
    assert abs(views.trace.value - total) < 2e-3 * size + 1e-7, (views.trace.value, total)


def train(
    model: nn.Module, x: Any, y: Any, plain: Callable[[Any, Any], Tensor], steps: int = 120, lr: float = 0.03,
    reset: Callable[[nn.Module], None] = lambda model: None,
) -> nn.Module:  # fmt: skip
    """A few steps of Adam, in training mode."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(steps):
        reset(model)
        optimizer.zero_grad()
        given = copy.deepcopy(x)
        outputs = model(*given) if isinstance(x, tuple) else model(**given) if isinstance(x, dict) else model(given)
        plain(outputs, copy.deepcopy(y)).backward()
        optimizer.step()
    reset(model)
    optimizer.zero_grad()
    return model


class Counter(nn.Module):
    """Notes how many samples each pass has."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        COUNTED.append(len(x))
        return self.fc(x)


COUNTED: list[int] = []


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build().double()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y = normal(60, 4), (normal(60, 4)[:, 0] > 0).long()


def state_of(model: nn.Module) -> dict[str, Any]:
    """What must come back: bits of parameters and buffers, gradients, flags, modes, hooks and attributes."""
    own = {}
    for name, module in model.named_modules():
        attributes = {
            key: value for key, value in vars(module).items() if key not in ("_parameters", "_buffers", "_modules")
        }
        own[name] = {key: (id(value), _content(value)) for key, value in attributes.items()}
    return {
        "tensors": {name: tensor.detach().numpy().tobytes() for name, tensor in model.state_dict().items()},
        "ids": {name: id(p) for name, p in model.named_parameters()},
        "flags": {name: p.requires_grad for name, p in model.named_parameters()},
        "grads": {name: None if p.grad is None else (id(p.grad), p.grad.numpy().tobytes()) for name, p in model.named_parameters()},
        "attributes": own,
        "random": (torch.get_rng_state().tolist(), str(np.random.get_state())),  # noqa: NPY002
    }  # fmt: skip


def _content(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _content(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_content(item) for item in value]
    return value if isinstance(value, int | float | bool | str | None) else id(value)


def check_run(run: Run, plain_loss: Callable[[nn.Module, Tensor, Tensor], float], threshold: float) -> None:
    """Losses after training, radii, cut-offs and test losses of a run that has been through all stages, against a plain pass over one batch.

    Args:
        run: with one threshold that most directions cross.
        plain_loss: (model, x, y) -> mean loss of one pass over these samples.
        threshold: of the loss.
    """
    trained = mv.load_models_and_data(run)
    data, checked = trained.dataset, 0
    tests = np.load(run.accuracies_file, allow_pickle=False)
    cutoffs = read_json(run.cutoffs_file)
    for i, (level, model) in enumerate(trained.models.items()):
        model.eval()
        named = dict(model.named_parameters())
        start = [p.detach().clone() for p in named.values()]
        assert tests["test_loss"][i] == pytest.approx(plain_loss(model, data.x_test, data.y_test), rel=1e-4)
        record = trained.records[level]
        size = data.base_size + level
        assert record["train_loss"][-1] == pytest.approx(
            plain_loss(model, data.x_train[:size], data.y_train[:size]), rel=1e-4
        )
        curve = cutoffs[f"Model_{level}"]
        for n, value in list(zip(curve["indices"], curve["loss_curve"], strict=True))[::7]:
            assert value == pytest.approx(plain_loss(model, data.x_train[:n], data.y_train[:n]), rel=1e-4)
        for landscape in [other for other in run.config.data.levels if other <= level]:
            x, y = (part[: data.base_size + landscape] for part in (data.x_train, data.y_train))
            results = read_json(run.results_file(landscape, threshold))
            row = results["model_data_levels"].index(level)
            assert results["start_loss_values"][row] == pytest.approx(plain_loss(model, x, y), rel=1e-4)
            radii = np.load(run.radii_file(landscape, threshold), allow_pickle=False)
            for seed, c, censored in zip(
                radii["perturbation_seed"], radii["coefficient"][row], radii["censored"][row], strict=True
            ):
                if censored or np.isnan(c):
                    continue
                xi = normals(int(seed), start)
                for shift, inside in ((0.998, True), (1.002, False)):
                    move(
                        list(named.values()),
                        [t + c * shift * filter_norm(t) * z for t, z in zip(start, xi, strict=True)],
                    )
                    assert (plain_loss(model, x, y) <= threshold) == inside
                    checked += 1
                move(list(named.values()), start)
    assert checked >= 8
