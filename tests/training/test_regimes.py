"""Training regimes: SAM and ASAM, series over epochs and batch sizes, stopping at a loss, and fixed data with many seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import ALL_STAGES, make_run, numbers, tiny
from torch import nn

import minima_volume as mv
from minima_volume.analysis import verdicts
from minima_volume.config.run import parse_config
from minima_volume.config.sections import Sam, Training
from minima_volume.errors import ConfigError, StaleError
from minima_volume.files.atomic import read_json
from minima_volume.files.yaml import write_yaml
from minima_volume.reports.terminal import describe
from minima_volume.runs.clean import clean
from minima_volume.runs.states import run_stage, stage_states
from minima_volume.runs.status import describe_status, status
from minima_volume.stages.run import read_run
from minima_volume.training.sam import ascended, ascent
from minima_volume.training.supervised import train_model

FEW = {"data.levels": [20], "perturbation.num_directions": 6, "volume.top_k": 3}
EPOCHS = {
    **FEW,
    "training.checkpoints": [30, 5, 12],
    "volume.loss_thresholds": [2.5],
    "volume.accuracy_thresholds": None,
}
BATCHES = {
    **FEW,
    "training.batch_sizes": [40, 10],
    "volume.loss_thresholds": [0.5],
    "volume.accuracy_thresholds": [0.8],
}


# ---- SAM


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_step_up_is_that_of_the_papers(adaptive):
    """rho g / ||g||, or rho p^2 g / ||p g||, with norms over all parameters together, in float64."""
    random = torch.Generator().manual_seed(2)
    parameters = [nn.Parameter(torch.randn(3, 2, generator=random).double()), nn.Parameter(torch.randn(4).double())]
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=random).double()
    p = np.concatenate([p.detach().numpy().ravel() for p in parameters])
    g = np.concatenate([p.grad.numpy().ravel() for p in parameters])
    found = torch.cat([e.flatten() for e in ascent(parameters, Sam(rho=0.3, adaptive=adaptive))]).numpy()
    wanted = 0.3 * p**2 * g / np.linalg.norm(p * g) if adaptive else 0.3 * g / np.linalg.norm(g)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_asam_does_not_change_when_weights_are_rescaled():
    """f(a, b) = h(a b): from (2 a, b / 2) the relative step of each is the same; SAM's is not."""

    def relative(scale, adaptive):
        a, b = nn.Parameter(torch.tensor([1.5 * scale]).double()), nn.Parameter(torch.tensor([0.7 / scale]).double())
        ((a * b - 3) ** 2).sum().backward()
        return [(e / p).item() for e, p in zip(ascent([a, b], Sam(rho=0.1, adaptive=adaptive)), (a, b), strict=True)]

    assert relative(1, True) == pytest.approx(relative(2, True), rel=1e-12)
    assert relative(1, False) != pytest.approx(relative(2, False), rel=1e-2)


def test_no_gradient_gives_no_step_and_parameters_without_one_stay():
    """Zero, not NaN."""
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    parameters[0].grad = torch.zeros(2)
    assert [e.tolist() for e in ascent(parameters, Sam())] == [[0, 0], [0, 0, 0]]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_training_with_sam_takes_the_gradient_at_the_top_of_the_step(optimizer, adaptive):
    """Three epochs of a linear regression against the update written out; the loss recorded is that of the weights."""
    random = torch.Generator().manual_seed(4)
    x, y = torch.randn(12, 3, generator=random).double(), torch.randn(12, 1, generator=random).double()
    model = nn.Linear(3, 1).double()
    w, b = model.weight.detach().clone().requires_grad_(), model.bias.detach().clone().requires_grad_()
    settings = Training(
        loss="mse",
        epochs=3,
        optimizer=optimizer,
        learning_rate=0.05,
        weight_decay=0.0,
        sam=Sam(rho=0.2, adaptive=adaptive),
    )
    history = train_model(model, (x, y), (x, y), settings, seed=0)
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    base, losses = kinds[optimizer]([w, b], lr=0.05, weight_decay=0.0), []
    for _ in range(3):
        base.zero_grad()
        ((x @ w.T + b - y) ** 2).mean().backward()
        t = [(p.abs() if adaptive else torch.ones_like(p)).detach() for p in (w, b)]
        norm = torch.cat([(k * p.grad).flatten() for k, p in zip(t, (w, b), strict=True)]).norm()
        up = [(p + 0.2 * k**2 * p.grad / norm).detach().requires_grad_() for k, p in zip(t, (w, b), strict=True)]
        ((x @ up[0].T + up[1] - y) ** 2).mean().backward()
        w.grad, b.grad = up[0].grad, up[1].grad
        base.step()
        losses.append(((x @ w.T + b - y) ** 2).mean().item())
    torch.testing.assert_close(model.weight, w, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(model.bias, b, rtol=1e-9, atol=1e-12)
    assert history.train_loss == pytest.approx(losses, rel=1e-9)


def test_running_statistics_rest_during_the_step_up():
    """Batch normalisation sees the unperturbed forward pass only."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).train()
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    model(x).square().sum().backward()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with ascended(model, Sam(rho=1.0)):
        assert not torch.equal(model[0].weight, before["0.weight"])
        model(x).square().sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model(x)
    assert model[1].num_batches_tracked == before["1.num_batches_tracked"] + 1


# ---- a loss to stop at


@pytest.mark.parametrize("batch_size", [None, 15])
def test_training_stops_at_the_target_loss(batch_size, tmp_path):
    """At the first epoch whose loss on all training samples is at most the target, which is the loss of the weights kept."""
    target = {"training.target_loss": 0.8, "training.epochs": 200, "training.batch_size": batch_size}
    run = make_run(tmp_path / "model_0_data_10", target, stages=("train",))
    trained = mv.load_models_and_data(run)
    epochs = []
    for level, record in trained.records.items():
        x, y = trained.dataset.x_train[: 20 + level], trained.dataset.y_train[: 20 + level]
        with torch.no_grad():
            loss = nn.functional.cross_entropy(trained.models[level](x), y).item()
        assert record["train_loss"][-1] == pytest.approx(loss, rel=1e-4) and loss <= 0.8
        assert min(record["train_loss"][:-1]) > 0.8
        assert record["epoch"] == len(record["train_loss"]) == len(record["test_loss"]) < 200
        epochs.append(record["epoch"])
    assert len(set(epochs)) > 1 or batch_size is not None


def test_a_target_that_is_not_reached_is_said(tmp_path, capsys):
    """By notebook 1, each time it is run, and by status; the model is kept, with all its epochs."""
    overrides = {"training.target_loss": 1e-6, "data.levels": [0]}
    run = make_run(tmp_path / "model_0_data_10", overrides, stages=("train",))
    missed = "+0: after 30 epochs the training loss is"
    assert missed in capsys.readouterr().out
    assert mv.train_models(run, progress=False).records[0]["epoch"] == 30
    assert missed in capsys.readouterr().out
    assert f"model_0_data_10, train: {missed}" in describe_status(status(run.folder))


# ---- series on one data set


@pytest.fixture(scope="module")
def epochs_run(tmp_path_factory):
    torch.set_num_threads(1)
    return make_run(tmp_path_factory.mktemp("grokking") / "model_0_data_10", EPOCHS, stages=ALL_STAGES)


@pytest.fixture(scope="module")
def batches_run(tmp_path_factory):
    torch.set_num_threads(1)
    return make_run(tmp_path_factory.mktemp("batches") / "model_0_data_10", BATCHES, stages=ALL_STAGES)


def test_checkpoints_are_the_weights_that_shorter_trainings_end_with(epochs_run, tmp_path):
    """Bit for bit, with the histories up to there."""
    trained = mv.load_models_and_data(epochs_run)
    assert list(trained.models) == [5, 12, 30]
    for epoch in (5, 12):
        short = make_run(
            tmp_path / f"{epoch}" / "model_0_data_10", {**FEW, "training.epochs": epoch}, stages=("train",)
        )
        record = mv.load_models_and_data(short).records[20]
        assert trained.records[epoch]["weights_hash"] == record["weights_hash"]
        for key in ("train_loss", "test_loss", "train_accs", "test_accs"):
            np.testing.assert_allclose(trained.records[epoch][key], record[key], rtol=1e-6)
        for name, moment in record["exp_avg_sq"].items():
            assert torch.equal(trained.records[epoch]["exp_avg_sq"][name], moment)
    names = {p.name for p in epochs_run.models.iterdir()}
    assert names == {"dataset.pt", "model_epoch_5.pt", "model_epoch_12.pt", "model_epoch_30.pt"}


def test_a_series_over_epochs_has_one_landscape(epochs_run):
    """data_20/epoch_<e>.npz; the variation's values sorted as numbers; every start loss is the checkpoint's training loss."""
    assert sorted(p.name for p in epochs_run.landscape(20).glob("*.npz")) == [
        "epoch_12.npz",
        "epoch_30.npz",
        "epoch_5.npz",
    ]
    assert [p.name for p in epochs_run.output.glob("data_*")] == ["data_20"]
    results = mv.load_results(epochs_run.results_file(20, 2.5))
    records = mv.load_models_and_data(epochs_run).records
    assert results["model_data_levels"] == [5, 12, 30] and results["variation"] == "epoch"
    assert results["start_loss_values"] == pytest.approx([records[e]["train_loss"][-1] for e in (5, 12, 30)], rel=1e-4)
    assert results["loss_native_is_largest"] is None and results["loss_landscape_data_param"] == 20
    metadata = mv.read_sweep(epochs_run.sweep_file(20, 5)).metadata
    assert (metadata["additional_data"], metadata["model_trained_data"], metadata["variation_value"]) == (20, 20, 5)
    assert all(state.complete for state in stage_states(epochs_run.folder).values())
    accuracies = mv.read_npz(epochs_run.accuracies_file)
    assert accuracies["variation_values"].tolist() == [5, 12, 30] and accuracies["dataset_size"].tolist() == [40] * 3
    assert set(read_json(epochs_run.cutoffs_file)) == {"Model_5", "Model_12", "Model_30"}


def test_each_batch_size_is_a_training_of_its_own(batches_run, tmp_path):
    """The same weights as a run with that batch size alone; a size of all samples is the full batch."""
    trained = mv.load_models_and_data(batches_run)
    assert list(trained.models) == [10, 40]
    for size, batch_size in ((10, 10), (40, None)):
        single = {**FEW, "training.batch_size": batch_size}
        alone = make_run(tmp_path / f"{size}" / "model_0_data_10", single, stages=("train",))
        assert mv.load_models_and_data(alone).records[20]["weights_hash"] == trained.records[size]["weights_hash"]
    assert [record["batch_size"] for record in trained.records.values()] == [10, 40]
    assert {p.name for p in batches_run.models.iterdir()} == {
        "dataset.pt",
        "model_batch_size_10.pt",
        "model_batch_size_40.pt",
    }
    results = mv.load_results(batches_run.results_file(20, 0.5))
    assert results["model_data_levels"] == [10, 40] and batches_run.sweep_file(20, 10).name == "batch_size_10.npz"


@pytest.mark.parametrize("which", ["epochs_run", "batches_run"])
def test_figures_and_tables_call_the_minima_by_their_variation(which, request):
    """Legends, axes and the summary."""
    run = request.getfixturevalue(which)
    name = {"epochs_run": "epoch", "batches_run": "batch size"}[which]
    (landscape,), thresholds = run.config.data.levels, run.config.volume.loss_thresholds
    trained = mv.load_models_and_data(run)
    results = mv.load_results(run.results_file(landscape, thresholds[0]))
    figure = mv.plots.volumes(results)
    assert figure.axes[0].get_xlabel() == name
    legend = figure.axes[1].get_legend()
    assert legend.get_title().get_text() == name
    assert [text.get_text() for text in legend.get_texts()] == [str(minimum) for minimum in run.config.minima]
    sweeps = {m: mv.read_sweep(run.sweep_file(landscape, m)) for m in run.config.minima}
    assert mv.plots.loss_curves(sweeps, thresholds).axes[0].get_title() == f"{name} {run.config.minima[0]}"
    assert mv.plots.accuracies(mv.read_npz(run.accuracies_file)).axes[0].get_xlabel() == name
    assert "one landscape" in mv.plots.cutoff_curves(mv.read_json(run.cutoffs_file), thresholds)
    assert mv.plots.predictions(trained, "cross_entropy").axes[0].get_ylabel() == name
    mv.plots.training_curves(trained)
    mv.plots.held_out_curves(mv.held_out_curves(run, trained, num_directions=2), thresholds, run.config.variation)
    growth = mv.plots.growth_with_directions(results)
    assert growth.legends[0].get_title().get_text() == name
    assert str(run.config.minima[0]) in [text.get_text() for text in growth.legends[0].get_texts()]
    assert f"{name} {run.config.minima[0]} and {name} {run.config.minima[1]}" in verdicts(results)
    analysis = mv.analyze(run.folder.parent)
    assert analysis.table["level"].tolist() == run.config.minima
    assert name in describe(analysis).splitlines()[1]


def test_a_series_is_resumed_where_it_stopped(epochs_run, tmp_path):
    """A missing checkpoint is made again, the others are left alone; results are the same."""
    run = make_run(tmp_path / "model_0_data_10", EPOCHS, stages=("train",))
    kept = run.model_file(30).stat().st_mtime_ns
    run.model_file(12).unlink()
    run_stage(run, "train", progress=False)
    assert run.model_file(30).stat().st_mtime_ns == kept
    for stage in ("perturb", "volume"):
        run_stage(run, stage, progress=False)
    assert numbers(run.results_file(20, 2.5)) == numbers(epochs_run.results_file(20, 2.5))
    removed = {path.name for path in clean(run.folder, "sweeps")}
    assert {"epoch_5.npz", "epoch_12.npz", "epoch_30.npz", "results.json"} <= removed


def test_models_of_another_series_are_refused(epochs_run, tmp_path):
    """Checkpoints that the configuration no longer has, and models of levels where it now asks for epochs."""
    run = make_run(tmp_path / "model_0_data_10", {**EPOCHS, "training.checkpoints": [3, 5]}, stages=("train",))
    content = tiny({**EPOCHS, "training.checkpoints": [5], "seeds.model": 0, "seeds.data": 10})
    run.model_file(5).unlink()
    write_yaml(run.folder / "config.yaml", content)
    with pytest.raises(StaleError, match=r"model_epoch_3.pt: training.checkpoints \[5\] does not have this one"):
        mv.train_models(read_run(run.folder), progress=False)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"training.checkpoints": [5, 40]}, ["training: checkpoints [5, 40] go past epochs 30"]),
        ({"training.checkpoints": [5, 5]}, ["training.checkpoints: [5, 5] is not allowed", "each once"]),
        ({"training.checkpoints": [0]}, ["training.checkpoints.0: 0 is not allowed"]),
        ({"training.checkpoints": [5], "training.batch_sizes": [5]}, ["checkpoints and batch_sizes are both set"]),
        (
            {"training.batch_sizes": [5], "training.batch_size": 3},
            ["batch_sizes is a series", "batch_size 3 must be null"],
        ),
        ({"training.checkpoints": [5], "training.target_loss": 0.1}, ["target_loss may end the training before"]),
        ({"training.batch_sizes": [5]}, ["training.batch_sizes makes a series on one data set", "[0, 20, 40]"]),
        (
            {"training.checkpoints": [5], "data.levels": [0], "checkpoint.save_strategy": "all"},
            ["checkpoint.save_strategy 'all' must be 'last'"],
        ),
        ({"training.sam": {"rho": 0.0}}, ["training.sam.rho: 0.0 is not allowed", "greater than 0"]),
        (
            {"training.sam": {"rhoo": 1.0}},
            ["training.sam.rhoo: unknown key (did you mean rho?); allowed: rho, adaptive"],
        ),
        ({"training.target_loss": -1.0}, ["training.target_loss: -1.0 is not allowed"]),
    ],
)
def test_regimes_that_are_not_allowed(overrides, words):
    """Errors name the key, its value and the way out."""
    with pytest.raises(ConfigError) as failure:
        parse_config(tiny(overrides))
    assert all(word in str(failure.value) for word in words), failure.value


# ---- fixed data, many model seeds


def test_a_condition_may_fix_the_data_seed(tmp_path):
    """--seeds makes model_i_data_<fixed>; all runs have the same samples and different weights."""
    write_yaml(tmp_path / "config.yaml", tiny({**FEW, "seeds.data": 10}))
    runs = mv.new_runs(tmp_path, mv.seed_pairs(3, tmp_path))
    assert [run.name for run in runs] == ["model_0_data_10", "model_1_data_10", "model_2_data_10"]
    trained = [mv.train_models(mv.open_run(run, "train"), progress=False) for run in runs]
    assert len({t.dataset.hash() for t in trained}) == 1
    assert len({t.records[20]["weights_hash"] for t in trained}) == 3
    with pytest.raises(ConfigError, match=r"fixes seeds.data at 10, so model_0_data_11 cannot be made"):
        mv.new_runs(tmp_path, [(0, 11)])
