"""Outputs, inputs and samples of every shape that people have: right, or one sentence."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from own_models import Case, X, Y, check_gaussian, check_rays, check_trace, normal, seeded, train
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

from minima_volume import measure_volume, other_views, suggest_sigma
from minima_volume.curvature.views import ViewSettings
from minima_volume.errors import ConfigError
from minima_volume.models.transformer import Transformer

TARGET = 0.5 * X[:, 0]
TOKENS = torch.randint(7, (60, 5), generator=torch.Generator().manual_seed(0))
IMAGES = normal(60, 1, 5, 4, seed=7)


class Squeezed(nn.Module):
    def __init__(self, every: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.every = nn.Linear(4, 8), nn.Linear(8, 1), every

    def forward(self, x: Tensor) -> Tensor:
        out = self.b(torch.tanh(self.a(x)))
        return out.squeeze() if self.every else out.squeeze(-1)


class Tokens(nn.Module):
    def __init__(self, classes: int, classes_first: bool) -> None:
        super().__init__()
        self.emb, self.norm, self.fc, self.first = (
            nn.Embedding(7, 6),
            nn.LayerNorm(6),
            nn.Linear(6, classes),
            classes_first,
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.fc(self.norm(self.emb(x)))
        return out.transpose(1, 2) if self.first else out


class Pixels(nn.Module):
    """A segmentation: a class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)))


@dataclass
class Answer:
    logits: Tensor
    size: Tensor


class Packed(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.b, self.kind = nn.Linear(4, 8), nn.Linear(8, 2), kind

    def forward(self, x: Tensor):
        out = self.b(torch.tanh(self.a(x)))
        if self.kind == "tuple":
            return out, out.square().sum()
        if self.kind == "dictionary":
            return {"logits": out, "hidden": [out]}
        if self.kind == "ordered":
            return OrderedDict(logits=out)
        return Answer(out, out.norm())


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.emb, self.b = nn.Linear(4, 8), nn.Embedding(7, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x) + self.emb(token)))


def perceptron(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))


def flattens_twice() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Flatten(), nn.Linear(18, 6), nn.Tanh(), nn.Flatten(), nn.Linear(6, 2)
    )  # fmt: skip


def binary(outputs: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, y)


def each(outputs: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(outputs, y, reduction="none")


def case(build, plain, x=X, y=Y, steps: int = 120, **settings) -> Case:
    return Case(lambda: train(seeded(build), x, y, plain, steps), x, y, plain, **settings)


PIXELS = (IMAGES[:, 0] > 0).long() + (IMAGES[:, 0] > 1).long()
LABELS = torch.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 0] > X[:, 2]], 1).double()
COLUMN = F.mse_loss
CASES = {
    "(N,), mse": case(Squeezed, F.mse_loss, y=TARGET, loss="mse", threshold=0.02, sigma=0.15),
    "(N,), bce": case(Squeezed, binary, y=Y.double(), loss="bce_with_logits", sigma=0.5),
    "squeeze() of everything": case(lambda: Squeezed(True), F.mse_loss, y=TARGET, loss="mse", threshold=0.02, sigma=0.15),
    "(N, 1) outputs, (N,) targets": case(
        lambda: perceptron(1), lambda o, y: F.mse_loss(o, y[:, None]), y=TARGET, loss="mse", threshold=0.02, sigma=0.15
    ),
    "(N, C, L)": case(lambda: Tokens(4, True), F.cross_entropy, TOKENS, TOKENS % 4, sigma=0.35),
    "(N, C, L) with C = L": case(lambda: Tokens(5, True), F.cross_entropy, TOKENS, TOKENS % 5, sigma=0.35),
    "(N, L, C)": case(lambda: Tokens(4, False), lambda o, y: F.cross_entropy(o.transpose(1, 2), y), TOKENS, TOKENS % 4, sigma=0.35),
    "(N, L, C) with C = L": case(
        lambda: Tokens(5, False), lambda o, y: F.cross_entropy(o.transpose(1, 2), y), TOKENS, TOKENS % 5, sigma=0.35,
        settings={"class_axis": -1},
    ),
    "(N, C, H, W)": case(Pixels, F.cross_entropy, IMAGES, PIXELS, threshold=0.5, sigma=0.18),
    "several labels a sample": case(lambda: perceptron(3), binary, y=LABELS, loss="bce_with_logits", sigma=0.3),
    "images as targets": case(
        lambda: nn.Conv2d(1, 2, 3), F.mse_loss, IMAGES, torch.cat([IMAGES, -IMAGES], 1)[:, :, 1:4, 1:3], loss="mse", threshold=0.3, sigma=0.18
    ),
    "tuple, own loss": case(
        lambda: Packed("tuple"), lambda o, y: F.cross_entropy(o[0], y), loss=lambda o, y: each(o[0], y)
    ),
    "dictionary, own loss": case(
        lambda: Packed("dictionary"), lambda o, y: F.cross_entropy(o["logits"], y), loss=lambda o, y: each(o["logits"], y)
    ),
    "ordered dictionary, own loss": case(
        lambda: Packed("ordered"), lambda o, y: F.cross_entropy(o["logits"], y), loss=lambda o, y: each(o["logits"], y)
    ),
    "dataclass, one own loss of all": case(
        lambda: Packed("dataclass"), lambda o, y: F.cross_entropy(o.logits, y), loss=lambda o, y: F.cross_entropy(o.logits, y)
    ),
    "two inputs": case(TwoInputs, F.cross_entropy, (X, TOKENS[:, 0])),
    "named inputs": case(TwoInputs, F.cross_entropy, {"token": TOKENS[:, 0], "x": X}),
    "several targets, own loss": case(
        lambda: perceptron(3), lambda o, y: F.cross_entropy(o[:, :2], y[0]) + F.mse_loss(o[:, 2], y[1]), y=(Y, TARGET),
        loss=lambda o, y: each(o[:, :2], y[0]) + (o[:, 2] - y[1]).square(), threshold=0.35, sigma=0.22,
    ),
    "flattens twice": case(flattens_twice, F.cross_entropy, IMAGES, (IMAGES.mean((1, 2, 3)) > 0).long(), sigma=0.18),
    "one loss of all samples": case(lambda: perceptron(2), F.cross_entropy, loss=F.cross_entropy),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_shape_by_every_door(case: Case):
    """Rays, Gaussian mass and Hessian trace are those of the loss as its author would write it."""
    model = case.build()
    check_rays(case, model, 2)
    check_gaussian(case, model, 300)
    check_trace(case, model)


@pytest.mark.parametrize(
    "name", ["dataclass, one own loss of all", "two inputs", "(N, C, L)", "one loss of all samples"]
)
@pytest.mark.parametrize("preconditioner", ["full", "low_rank"])
def test_importance_sampling_of_such_models(name: str, preconditioner: str):
    """Importance-sampled rays end where the plain loop says, too."""
    case = CASES[name]
    model = case.build()
    arguments = {"threshold": case.threshold, "measure": "ball", "num_directions": 4, "progress": False}
    if preconditioner == "low_rank" and "dataclass" in name:
        with pytest.raises(ConfigError, match="one tensor.*'full' or 'adam'"):
            measure_volume(model, case.x, case.y, case.loss, preconditioner=preconditioner, **arguments)
        return
    found = measure_volume(model, case.x, case.y, case.loss, preconditioner=preconditioner, **arguments)
    assert found.estimator == "importance" and found.log_volume is not None
    assert abs(found.start_loss - case.mean_loss(model.eval())) < 1e-9


def test_what_was_read_is_said():
    """Where two axes could count the classes the verdict says which was taken; class_axis decides, and then there is no note."""
    case = CASES["(N, C, L) with C = L"]
    arguments = {"threshold": 0.3, "measure": "ball", "num_directions": 2, "progress": False}
    model = case.build()
    said = "were read as PyTorch has them, classes along axis 1"
    assert said in measure_volume(model, case.x, case.y, **arguments).verdict
    assert said not in measure_volume(model, case.x, case.y, class_axis=1, **arguments).verdict
    assert said in other_views(model, case.x, case.y, settings=ViewSettings(num_chains=0)).notes["model"]
    assert suggest_sigma(model, case.x, case.y, threshold=0.3) == suggest_sigma(
        model, case.x, case.y, threshold=0.3, class_axis=1
    )


def test_models_of_the_package_declare_their_axis():
    """A transformer over as many tokens as there are classes is read with its classes last."""
    model = train(seeded(lambda: Transformer((7,), 7, 1, 1, 4)), TOKENS.repeat(1, 2)[:, :7], TOKENS.repeat(1, 2)[:, :7],
                  lambda o, y: F.cross_entropy(o.transpose(1, 2), y), 5)  # fmt: skip
    x = TOKENS.repeat(1, 2)[:, :7]
    found = measure_volume(model, x, x, threshold=5.0, sigma=0.1, progress=False)
    with torch.no_grad():
        right = F.cross_entropy(model.eval()(x).transpose(1, 2), x).item()
    assert found.start_loss == pytest.approx(right, rel=1e-6) and "axis 1" not in found.verdict


def test_a_builtin_loss_of_a_tuple_is_one_sentence():
    """It names what the model returns, and a loss that would do."""
    with pytest.raises(
        ConfigError, match=r"returns a tuple.*F\.cross_entropy\(outputs\[0\], targets, reduction='none'\)"
    ):
        measure_volume(seeded(lambda: Packed("tuple")), X, Y, threshold=1.0, sigma=0.1, progress=False)
    with pytest.raises(ConfigError, match=r"returns a Answer.*outputs\.logits"):
        measure_volume(seeded(lambda: Packed("dataclass")), X, Y, threshold=1.0, sigma=0.1, progress=False)


# --------------------------------------------------------------------------------------------- loaders and lists


class Rows(Dataset):
    def __init__(self, kind: str = "pair") -> None:
        self.kind = kind

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int):
        return {"pair": (X[i], int(Y[i])), "inputs": ((X[i], TOKENS[i, 0]), Y[i]), "alone": X[i]}[self.kind]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


SOURCES = {
    "dataset": lambda: TensorDataset(X, Y),
    "own dataset": Rows,
    "loader": lambda: DataLoader(Rows(), batch_size=7),
    "shuffling loader": lambda: DataLoader(Rows(), batch_size=7, shuffle=True),
    "stream": lambda: DataLoader(Stream(), batch_size=13),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_loaders_and_datasets_are_read_once(source):
    """The numbers of the tensors themselves, whatever the order of a loader; a note reports it, and no random number is used up."""
    model = train(seeded(lambda: perceptron(2)), X, Y, F.cross_entropy)
    arguments = {"threshold": 0.3, "measure": "ball", "num_directions": 3, "progress": False}
    before = torch.get_rng_state()
    found = measure_volume(model, source(), **arguments)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.coefficients.tolist() == measure_volume(model, X, Y, **arguments).coefficients.tolist()
    assert "60 samples were read once from the" in found.verdict
    few = ViewSettings(num_chains=0, density_vectors=0)
    assert other_views(model, source(), settings=few).trace == other_views(model, X, Y, settings=few).trace


def test_loaders_of_several_inputs_and_of_some_samples():
    """Inputs may be tuples; a sampler that leaves samples out is obeyed."""
    model = train(seeded(TwoInputs), (X, TOKENS[:, 0]), Y, F.cross_entropy)
    arguments = {"threshold": 0.3, "measure": "ball", "num_directions": 2, "progress": False}
    found = measure_volume(model, Rows("inputs"), **arguments)
    assert found.coefficients.tolist() == measure_volume(model, (X, TOKENS[:, 0]), Y, **arguments).coefficients.tolist()
    some = DataLoader(Rows(), batch_size=4, sampler=SubsetRandomSampler(range(20)))
    plain = train(seeded(lambda: perceptron(2)), X, Y, F.cross_entropy)
    assert "20 samples were read once" in measure_volume(plain, some, **arguments).verdict


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([X, X], Y, r"x is a list; give torch.stack\(x\) if these are samples, tuple\(x\) if they are several inputs"),
        (["one", "two"], Y, "x is a list; .*text must be encoded first"),
        ((X, "two"), Y, "x holds something that is a str, where a tensor is needed"),
        (X.numpy(), Y, r"x is a numpy.ndarray; convert it with torch.as_tensor\(x\)"),
        ((X, X[:5]), Y, r"x holds tensors of \[5, 60\] samples"),
        (X, None, "y is missing"),
        (DataLoader(Rows()), Y, "leave y out"),
        (DataLoader(Rows("alone"), batch_size=3), None, "they must be pairs"),
        (range(3), Y, "x is a range; it must be a tensor, a tuple of tensors"),
        ({"a": X}, Y, "cannot take samples"),
    ],
)  # fmt: skip
def test_advice_can_be_followed(x, y, message: str):
    """What cannot be read is named, with what to give instead."""
    for measure in (
        lambda: measure_volume(seeded(lambda: perceptron(2)), x, y, threshold=1.0, sigma=0.1, progress=False),
        lambda: other_views(seeded(lambda: perceptron(2)), x, y),
    ):
        with pytest.raises(ConfigError, match=message):
            measure()


def test_a_data_frame_is_told_how_to_become_a_tensor():
    import pandas as pd

    with pytest.raises(ConfigError, match=r"torch\.as_tensor\(x\.to_numpy\(\)\)"):
        measure_volume(seeded(lambda: perceptron(2)), pd.DataFrame(X.numpy()), Y, threshold=1.0, sigma=0.1)


def test_a_model_that_cannot_be_put_into_evaluation_mode() -> None:
    class Exported(nn.Linear):
        def train(self, mode: bool = True) -> nn.Module:
            raise NotImplementedError("Calling train() is not supported yet.")

    with pytest.raises(
        ConfigError, match=r"Exported cannot be put into evaluation mode.*NotImplementedError: Calling.*Give the module"
    ):
        measure_volume(Exported(4, 2).double(), X, Y, threshold=1.0, sigma=0.1, progress=False)
