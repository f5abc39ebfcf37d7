"""What is easily overlooked: losses that read more than outputs, masked outputs, groups of samples, parameters that forward writes to."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from own_models import Case, X, Y, check_gaussian, check_rays, check_trace, normal, seeded, state_of, train
from torch import Tensor, nn

import minima_volume as mv
from minima_volume import measure_volume, other_views
from minima_volume.errors import ConfigError

HELD: dict[str, nn.Module] = {}  # where a loss of a notebook finds its model
MASK = torch.tensor([False, False, True])
GROUPS_X = (normal(125, 1, 4, seed=7) + 0.5 * normal(125, 8, 4, seed=8)).reshape(1000, 4)
GROUPS_Y = (GROUPS_X.view(125, 8, 4).mean(1)[:, 0] > 0).long().repeat_interleave(8)
NODES_X = normal(300, 4, seed=9)
NODES_Y = (NODES_X[:, 0] > 0).long()
WEIGHTS = normal(60, seed=10).abs() + 0.2


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def penalised(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets) + 5e-3 * sum(p.square().sum() for p in HELD["model"].parameters())


class Masked(nn.Module):
    """The third class is never chosen: its logit is -1e9."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.b, self.kind = nn.Linear(4, 8), nn.Linear(8, 3), kind
        if kind == "replaced":
            inner = self.forward
            self.forward = lambda x: inner(x)  # type: ignore[method-assign]  # refers to this very module

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        if self.kind == "dropout":
            h = F.dropout(h, 0.5, training=True)
        if self.kind == "batch":
            h = (h - h.mean(0)) / (h.std(0) + 1e-3)
        return self.b(h).masked_fill(MASK, -1e9)


class Grouped(nn.Module):
    """Eight samples in a row share their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.b(torch.cat([part.mean(0, keepdim=True).expand_as(part) for part in h.split(8)]))


class ManyCaches(nn.Module):
    """A hidden state behind many tensors that are never used, and one that always is."""

    def __init__(self) -> None:
        super().__init__()
        for i in range(30):
            setattr(self, f"constant{i}", torch.zeros(1, dtype=torch.float64))
        self.scale = torch.ones(1, dtype=torch.float64)
        self.inputs, self.again, self.out, self.h = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2), None

    def forward(self, x: Tensor) -> Tensor:
        z = self.inputs(x) * self.scale
        if self.h is not None and len(self.h) == len(x):
            z = z + self.again(self.h)
        h = torch.tanh(z)
        self.h = h.detach()
        return self.out(h)


class Normalises(nn.Module):
    """Weights are normalised where they lie, in each pass."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.b, self.kind = nn.Linear(4, 8), nn.Linear(8, 2), kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "in place":
            with torch.no_grad():
                self.a.weight.copy_(F.normalize(self.a.weight, dim=1))
        else:  # as some published networks bound the norms of their filters
            self.a.weight.data = torch.renorm(self.a.weight.data, 2, 0, 1.0)
        return self.b(torch.tanh(self.a(x)))


class Graph(nn.Module):
    """Nodes of one graph: all of them or none."""

    def __init__(self) -> None:
        super().__init__()
        ring = torch.eye(300) + torch.eye(300).roll(1, 0) + torch.eye(300).roll(-1, 0)
        self.register_buffer("ring", ring / 3)
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.ring @ torch.tanh(self.a(x)))


class Entries(OrderedDict):
    """A dictionary whose entries are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


Pair = namedtuple("Pair", "logits hidden")


class Structured(nn.Module):
    def __init__(self, kind: Callable[..., Any]) -> None:
        super().__init__()
        self.a, self.b, self.kind = nn.Linear(4, 8), nn.Linear(8, 2), kind

    def forward(self, x: Tensor) -> Any:
        h = torch.tanh(self.a(x))
        return self.kind(logits=self.b(h), hidden=h)


def sparse(outputs: Any, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.logits, targets, reduction="none") + 0.1 * outputs.hidden.square().mean(1)


def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    return WEIGHTS * F.cross_entropy(outputs, targets, reduction="none")


def case(build: Callable[[], nn.Module], plain=F.cross_entropy, loss=None, x=X, y=Y, **settings: Any) -> Case:
    def made() -> nn.Module:
        HELD["model"] = model = seeded(build)
        return train(model, x, y, lambda outputs, targets: plain(outputs, targets).mean())

    return Case(made, x, y, lambda outputs, targets: plain(outputs, targets).mean(), loss or plain, **settings)


def larger(kind: str) -> nn.Module:
    model = Normalises(kind)
    model.a.weight.data *= 3  # the same function, another minimum
    return model


CASES = {
    "a penalty on the parameters": case(lambda: net(), penalised, sigma=0.15, threshold=0.15),
    "a masked class, forward replaced": case(lambda: Masked("replaced"), sigma=0.5),
    "a masked class, batch statistics": case(lambda: Masked("batch"), x=GROUPS_X, y=GROUPS_Y, sigma=0.3, threshold=0.6),
    "groups of samples": case(Grouped, x=GROUPS_X, y=GROUPS_Y, sigma=0.3, threshold=0.2),
    "all nodes of a graph": case(Graph, x=NODES_X, y=NODES_Y, sigma=0.4, threshold=0.8),
    "a loss of all samples at once": case(net, weighted),
    "a dictionary with attributes": case(lambda: Structured(Entries), sparse),
    "a named tuple": case(lambda: Structured(Pair), sparse),
    "weights normalised in place": case(lambda: larger("in place")),
    "weights replaced": case(lambda: larger("replaced")),
}
REWRITES = ("weights normalised in place", "weights replaced")


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_a_plain_loop(name: str):
    model = CASES[name].build().eval()
    before = state_of(model)
    measure_volume(model, CASES[name].x, CASES[name].y, CASES[name].loss, threshold=1.0, sigma=0.1, progress=False)
    assert state_of(model) == before
    check_rays(CASES[name], model, 2)
    check_gaussian(CASES[name], model, 400)
    if name in REWRITES:
        with pytest.raises(ConfigError, match="writes to its own parameters in forward"):
            other_views(model, X, Y)
    elif CASES[name].x is X:
        check_trace(CASES[name], model)


def test_a_hidden_state_is_found_among_many_tensors():
    model = train(seeded(ManyCaches), X, Y, F.cross_entropy, reset=lambda m: setattr(m, "h", None)).eval()
    fresh = measure_volume(model, X, Y, threshold=0.3, sigma=0.3, progress=False)
    model(-X)
    used = measure_volume(model, X, Y, threshold=0.3, sigma=0.3, progress=False)
    assert used.log_mass == fresh.log_mass and used.start_loss == fresh.start_loss
    assert "h of an earlier pass was not used" in used.verdict


def test_dropout_behind_a_mask_is_refused():
    with pytest.raises(ConfigError, match="gives other outputs for the same inputs and parameters"):
        measure_volume(seeded(lambda: Masked("dropout")), X, Y, threshold=0.3, sigma=0.2, progress=False)


@pytest.mark.parametrize("kind", ["attribute", "hook", "hook with a variable of its own"])
def test_a_loss_that_reads_what_a_pass_left_is_refused(kind: str):
    """Also where what is there now is what the last pass left, and so is right at the minimum itself."""
    model = seeded(net)
    kept: dict[str, Tensor] = {}
    if kind == "attribute":
        model.kept = kept  # type: ignore[assignment]
    if kind == "hook":
        HELD_BY_HOOK.clear()
        model[1].register_forward_hook(keep_globally)
    else:
        model[1].register_forward_hook(lambda _module, _inputs, outputs: kept.update(h=outputs))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        hidden = HELD_BY_HOOK["h"] if kind == "hook" else kept["h"]
        return F.cross_entropy(outputs, targets) + 0.1 * hidden.abs().mean()

    train(model, X, Y, loss).eval()
    threshold = 1.2 * float(loss(model(X), Y).detach())
    with pytest.raises(ConfigError, match="reads what a forward pass of Sequential leaves behind"):
        measure_volume(model, X, Y, loss, threshold=threshold, sigma=0.15, progress=False)


HELD_BY_HOOK: dict[str, Tensor] = {}


def keep_globally(_module: nn.Module, _inputs: Any, outputs: Tensor) -> None:
    HELD_BY_HOOK["h"] = outputs


def test_outputs_of_varying_length_run_in_one_piece():
    """Tokens of padded sequences: how many come back depends on the longest of the batch."""

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x: Tensor, length: Tensor) -> Tensor:
            return self.a(x[:, : int(length.max())])

    x, length = normal(40, 6, 4, seed=3), torch.arange(40) // 8 + 2
    model = seeded(Packed)
    found = measure_volume(
        model,
        (x, length),
        length,
        lambda outputs, _: outputs.square().mean((1, 2)),
        threshold=5.0,
        sigma=0.1,
        progress=False,
    )
    assert found.start_loss == pytest.approx(float(model(x, length).detach().square().mean()), rel=1e-6)


def test_two_losses_of_one_name_are_not_compared():
    model = train(seeded(net), X, Y, F.cross_entropy)
    first, second = (
        measure_volume(model, X, Y, lambda o, t, k=k: k * F.cross_entropy(o, t, reduction="none"), threshold=0.3, sigma=0.3, progress=False)
        for k in (1, 3)
    )  # fmt: skip
    assert mv.compare(first, first).difference == 0
    with pytest.raises(ConfigError, match="loss of the same outputs: .* and .*"):
        mv.compare(first, second)


@pytest.mark.parametrize("loss", ["cross_entropy", F.cross_entropy, nn.CrossEntropyLoss()])
def test_the_axis_of_classes_is_that_asked_for(loss: Any):
    x, model = normal(40, 5, 5, seed=4), nn.Linear(5, 5).double()
    y = model(x).argmax(-1)
    for axis, outputs in ((1, model(x)), (-1, model(x).transpose(1, 2))):
        found = measure_volume(model, x, y, loss, class_axis=axis, threshold=2.0, sigma=0.01, progress=False)
        assert found.start_loss == pytest.approx(float(F.cross_entropy(outputs, y).detach()), rel=1e-6)
    with pytest.raises(ConfigError, match="applies only to cross_entropy"):
        measure_volume(model, x, y, lambda o, t: o.mean((1, 2)), class_axis=-1, threshold=2.0, sigma=0.01)
