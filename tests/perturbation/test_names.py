"""Which parameters move: the default, names, prefixes and globs; against plain loops on the user's own module."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_run, normal
from name_cases import CASES, Loop, looped
from small_models import SMALL
from torch import Tensor, nn

from minima_volume import ViewSettings, load_results, measure_volume, other_views
from minima_volume.errors import ConfigError, StaleError
from minima_volume.files.atomic import read_json, write_json
from minima_volume.models.build import MODELS
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.names import perturbed_names
from minima_volume.reports.analyze import analyze
from minima_volume.reports.html import write_report
from minima_volume.reports.terminal import describe
from minima_volume.runs.states import run_stage, stage_states
from minima_volume.stages.radii import estimate_volumes
from minima_volume.stages.run import Run, read_run
from minima_volume.stages.sweep_files import read_sweep, write_sweep
from minima_volume.stages.views import views_table


@pytest.fixture(params=CASES)
def loop(request: pytest.FixtureRequest) -> Loop:
    return looped(CASES[request.param])


@pytest.mark.parametrize("name", CASES)
def test_what_the_default_moves(name: str):
    """The table's names, in the model's order; all others are named as left out, with their entries."""
    case, model = CASES[name], looped(CASES[name]).model
    directions = Directions.of(model)
    assert set(directions.names) == set(case.moved.split())
    assert set(directions.left_out) == set(case.left_out.split())
    entries = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert directions.num_left_out == sum(entries[name] for name in directions.left_out)
    assert directions.num_params + directions.num_left_out == sum(entries.values())


def test_the_gaussian_volume_is_that_of_the_plain_loop(loop: Loop):
    """Two independent shares of 400 perturbed models, at the loss that half of the loop's pass.

    A share of 400 has a standard error of at most 0.025, the difference of two 0.036; 4.5 of them are a false alarm in 7e-6 of cases.
    """
    sigma = 0.3
    found = loop.losses(sigma, 400, seed=3)
    threshold = float(np.median(found))
    if loop.loss() >= threshold:  # noise that helps as often as it harms
        threshold = float(np.quantile(found, 0.8))
    mass = measure_volume(
        loop.model, loop.x, loop.y, threshold=threshold, sigma=sigma, estimator="monte_carlo", progress=False
    )
    share = float((found <= threshold).mean())
    error = math.hypot(*(math.sqrt(share * (1 - share) / count) for count in (400, mass.num_samples)))
    assert abs(math.exp(mass.log_mass) - share) < 4.5 * error


def test_rays_end_where_the_plain_loop_passes_the_threshold(loop: Loop):
    """Exact: at the coefficient found, the loop's loss is the threshold, along the direction that the seed names."""
    threshold = 1.5 * loop.loss()
    volume = measure_volume(
        loop.model, loop.x, loop.y, threshold=threshold, measure="ball", num_directions=6, seed=4, progress=False
    )
    crossed = 0
    for i, seed in enumerate(volume.seeds.tolist()):
        xi = loop.xi(torch.Generator().manual_seed(seed))
        length = math.sqrt(sum(float(part.square().sum()) for part in xi))
        c = float(volume.coefficients[i])
        assert volume.radii[i] == pytest.approx(c * length, rel=1e-9)
        with loop.moved([c * f * z for f, z in zip(loop.norms(), xi, strict=True)]):
            if c < 16:
                crossed += 1
                assert loop.loss() == pytest.approx(threshold, rel=1e-3)
    assert crossed >= 3


def test_the_trace_is_that_of_central_differences(loop: Loop):
    """Entry by entry on the user's own module, in float64."""
    expected = loop.trace()
    views = other_views(
        loop.model, loop.x, loop.y, settings=ViewSettings(num_chains=0, num_products=600, num_eigenvalues=1)
    )
    assert views.trace.method == "exact"
    assert views.trace.value == pytest.approx(expected, rel=1e-4, abs=1e-6)


class Layers(nn.Module):
    """Four blocks and a head whose weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 3, bias=False)
        self.position = nn.Parameter(torch.zeros(3))
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))
        self.head = nn.Linear(4, 3)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x) + self.position
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        return hidden + self.head(x)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["position"], "position"),
        (["layers.1"], "layers.1.weight layers.1.bias"),
        (["layers.3", "layers.0.bias"], "layers.0.bias layers.3.weight layers.3.bias"),
        (["layers.*.weight"], "layers.0.weight layers.1.weight layers.2.weight layers.3.weight"),
        (["layers.[12]"], "layers.1.weight layers.1.bias layers.2.weight layers.2.bias"),
        (["*bias"], "layers.0.bias layers.1.bias layers.2.bias layers.3.bias head.bias"),
        (["head"], "embed.weight head.bias"),
        (("head.weight", "embed"), "embed.weight"),
        (["pos*", "position"], "position"),
    ],
)
def test_names_prefixes_and_globs(names: Sequence[str], chosen: str):
    """A name, all below a module, a glob over either; in the model's order, each once, a tied one by each of its names."""
    assert sorted(perturbed_names(Layers(), names)) == sorted(chosen.split())
    have = [name for name, _ in Layers().named_parameters()]
    assert list(perturbed_names(Layers(), names)) == [name for name in have if name in chosen.split()]
    assert set(perturbed_names(Layers(), "all")) == set(have)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["layer.1"], "names: 'layer.1' matches no parameter of the model; it has position, embed.weight, "),
        (["head", "fc?"], "names: 'fc[?]' matches no parameter"),
        (["layers.1.weigh"], "'layers.1.weigh' matches no parameter"),
        ("head", "names 'head' is not known; allowed: weight_bias, weights, all, or a list .*such as \\['head'\\]"),
        ([3], "names: 3 is not text"),
        ([], "no parameter of Layers is perturbed"),
    ],
)
def test_names_that_match_nothing(names: object, words: str):
    """The message names the entry and what there is, at each of the doors."""
    x = normal(6, 4).float()
    for measure in (
        lambda: measure_volume(Layers(), x, x[:, 0].long() % 3, threshold=9.0, sigma=0.1, names=names, progress=False),
        lambda: other_views(Layers(), x, x[:, 0].long() % 3, settings=ViewSettings(names=names, num_chains=0)),
    ):
        with pytest.raises(ConfigError, match=words):
            measure()


def test_the_packages_own_models_move_what_they_did():
    """Names that end in weight or bias, and no others: numbers measured earlier keep their n."""
    models = {
        "mlp": MODELS["mlp"]((10,), 3, hidden=[7]),
        "cnn": MODELS["cnn"]((1, 8, 8), 3, channels=[2], fc=[4]),
        "resnet18": MODELS["resnet18"]((3, 32, 32), 10),
        "vit": MODELS["vit"]((3, 8, 8), 3, **SMALL["vit"][0]),
        "transformer": MODELS["transformer"]((8,), 11, **SMALL["transformer"][0]),
    }
    assert set(models) == set(MODELS)
    for name, model in models.items():
        ending = [key for key, _ in model.named_parameters() if key.endswith(("weight", "bias"))]
        assert perturbed_names(model) == tuple(ending), name


def test_what_is_left_out_is_said_by_every_measure():
    """In the verdict of both measures, at every sigma, and in the notes of the views; entries counted, long lists cut."""
    loop = looped(CASES["attention"])
    total = sum(parameter.numel() for parameter in loop.model.parameters())
    words = f"16 of {total} entries were not perturbed: position"
    arguments = loop.model, loop.x, loop.y
    profile = measure_volume(*arguments, threshold=0.9, sigma=[0.01, 2.0], estimator="monte_carlo", progress=False)
    outside = measure_volume(*arguments, threshold=0.01, sigma=0.1, progress=False)
    ball = measure_volume(*arguments, threshold=0.9, measure="ball", num_directions=3, progress=False)
    views = other_views(*arguments, settings=ViewSettings(num_chains=0))
    for verdict in (*(v.verdict for v in profile.volumes), outside.verdict, ball.verdict, views.notes["left_out"]):
        assert words in verdict
    assert outside.verdict.startswith("undefined")
    assert views.left_out == ball.left_out == outside.left_out == ("position",)
    everything = measure_volume(*arguments, threshold=0.9, sigma=0.01, names="all", progress=False)
    assert everything.num_params == total and "perturbed" not in everything.verdict
    few = measure_volume(*arguments, threshold=0.9, sigma=0.01, names=["head.bias"], progress=False)
    cut = "were not perturbed: position, embed.weight, embed.bias, attention.in_proj_weight and 8 more"
    assert f"{total - 2} of {total} entries {cut}" in few.verdict and few.verdict.startswith("measured")


def test_rows_of_zeros_are_said():
    """With filter norms a row of zeros does not move; where nothing does, no verdict passes for a measurement."""
    model = nn.Linear(3, 2, bias=False)
    x = normal(8, 3).float()
    nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.weight[1] = 1
    arguments = model, x, x[:, :2] * 0
    some = measure_volume(*arguments, "mse", threshold=9.0, sigma=0.1, progress=False)
    assert some.num_params == 3 and some.verdict.endswith("3 of 6 entries did not move: their scaling is 0")
    nn.init.zeros_(model.weight)
    none = measure_volume(*arguments, "mse", threshold=9.0, sigma=0.1, progress=False)
    ball = measure_volume(*arguments, "mse", threshold=9.0, measure="ball", num_directions=3, progress=False)
    for verdict in (none.verdict, ball.verdict):
        assert "6 of 6 entries did not move: their scaling is 0" in verdict


@pytest.fixture(scope="module")
def partly(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run that perturbs the last layer alone, by a prefix."""
    folder = tmp_path_factory.mktemp("condition")
    overrides = {
        "perturbation.names": ["layers.3"],
        "volume.gaussian": {"sigma": 0.2},
        "perturbation.num_directions": 4,
    }
    return make_run(folder / "model_0_data_10", overrides, ("train", "perturb", "volume", "cutoff"))


def test_a_run_says_what_is_left_out(partly: Run):
    """In every verdict of results.json, the tables of the analysis, its text and page, and the table of views."""
    words = "1,040 of 1,210 entries were not perturbed: layers.1.weight, layers.1.bias"
    results = load_results(partly.results_file(0, 0.5))
    assert results["left_out_params"] == ["layers.1.weight", "layers.1.bias"]
    assert (results["num_params"], results["num_left_out_params"]) == (170, 1040)
    verdicts = [*results["verdicts"], *(row[0] for row in results["log_mass_verdicts"])]
    assert len(verdicts) == 6 and all(verdict.endswith(words) for verdict in verdicts)
    assert stage_states(partly.folder)["volume"].complete
    assert run_stage(partly, "volume", progress=False) is not None
    analysis = analyze(partly.folder.parent, formats=["png"])
    assert analysis.collected.table["left_out"].unique().tolist() == [words]
    assert describe(analysis).count(words) == 1
    assert write_report(partly.folder.parent).read_text(encoding="utf-8").count(words) >= 1 + 6
    table = views_table(partly, settings=ViewSettings(names=["layers.3"], num_chains=0), progress=False)
    assert table["left_out"].unique().tolist() == [words]
    stored = read_json(partly.views_file(0))["minima"][0]
    assert stored["left_out_params"] == results["left_out_params"] and stored["notes"]["left_out"] == words


def test_sweeps_of_an_earlier_default_are_stale(partly: Run, tmp_path: Path):
    """A sweep that left still what is perturbed now is refused, with the way out, and so are views with another n."""
    folder = tmp_path / "condition" / partly.folder.name
    shutil.copytree(partly.folder, folder)
    run = read_run(folder)
    path = run.sweep_file(0, 0)
    sweep = read_sweep(path)
    write_sweep(path, replace(sweep, metadata=sweep.metadata | {"left_out": ["layers.1.weight", "layers.3.bias"]}))
    with pytest.raises(StaleError, match=r"left layers\.3\.bias as it was.*clean RUN --what sweeps"):
        estimate_volumes(run)
    assert stage_states(folder)["perturb"].name == "stale"
    settings = ViewSettings(names=["layers.3"], num_chains=0)
    before = views_table(run, settings=settings, progress=False)
    content = read_json(run.views_file(0))
    for record in content["minima"]:
        record |= {"num_params": 8, "trace": 0.0}
    write_json(run.views_file(0), content)
    assert views_table(run, settings=settings, progress=False).equals(before)
