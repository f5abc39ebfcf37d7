"""Other views of one minimum and of all minima of a landscape: files, resuming, the table, the command."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import edit_config, make_run, normal, regression
from torch import Tensor

import minima_volume as mv
from minima_volume.curvature import MeanLoss, ViewSettings, other_views, sam_sharpness
from minima_volume.errors import ConfigError
from minima_volume.files.atomic import hash_arrays, read_json, read_pt, write_json, write_pt
from minima_volume.losses.registry import get_loss
from minima_volume.stages import views
from minima_volume.stages.run import Run
from minima_volume.stages.views import default_settings, views_table

QUICK = ViewSettings(num_eigenvalues=2, num_products=9, num_chains=2, num_draws=8, num_burn_in=4)
HESSIAN = replace(QUICK, num_chains=0)


class Stop(torch.autograd.Function):
    """A step that torch cannot differentiate, as some of its kernels' backward passes are."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("derivative for stop is not implemented")


class Square(torch.autograd.Function):
    """A square that can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.save_for_backward(value)
        return value.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Stop.apply(2 * ctx.saved_tensors[0] * gradient)


class Normed(torch.autograd.Function):
    """v / |v| whose backward pass takes |v| for a constant when it is differentiated itself, as torch's fused weight_norm does."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return v / v.norm()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        norm = v.norm().detach()
        return gradient / norm - v * (gradient * v).sum() / norm**3


def test_a_wrong_second_derivative_is_found():
    """The Hessian is not symmetric then: trace and eigenvalues are left out with the reason, the other views are there."""

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([[0.5, -0.3, 0.8]]).double())

        def forward(self, x: Tensor) -> Tensor:
            return x @ Normed.apply(self.weight).T

    x = normal(30, 3)
    views = other_views(Layer(), x, x.sum(1, keepdim=True), "mse", settings=HESSIAN)
    assert views.trace is None and views.spectrum is None and views.sam.value > 0
    assert views.notes["trace"] == views.notes["spectrum"]
    assert "no Hessian: u'Hv is" in views.notes["trace"] and "a layer of Layer is wrong" in views.notes["trace"]


def test_losses_of_ones_own():
    """A loss without a second derivative keeps the other views, with the reason; worse ones are refused by name."""
    model, x, y, _ = regression(np.geomspace(2, 0.5, 4), shift=0.1)

    def only_once(outputs: Tensor, targets: Tensor) -> Tensor:
        return Square.apply((outputs - targets).squeeze(-1))

    views = other_views(model, x, y, only_once, settings=ViewSettings(num_chains=2, num_draws=8, num_burn_in=8))
    assert views.trace is None and views.spectrum is None and views.sam.value > 0
    assert all(
        "only_once" in views.notes[name] and "no second derivative" in views.notes[name]
        for name in ("trace", "spectrum")
    )
    for loss, words in (
        (lambda outputs, targets: (outputs > 0).double().squeeze(-1), "has no gradient"),
        (lambda outputs, targets: outputs.squeeze(-1) * math.nan, "the loss at the minimum is nan"),
    ):
        with pytest.raises(ConfigError, match=words):
            assert not other_views(model, x, y, loss).sam and sam_sharpness(MeanLoss.of(model, x, y, loss))


def test_one_loss_of_all_samples():
    """A loss that returns one number for all samples has the views of the same loss sample by sample, in one piece."""
    model, x, y, exact = regression(np.geomspace(2, 0.5, 4), shift=0.1)
    settings = ViewSettings(scaling="none", num_chains=2, num_draws=8, num_burn_in=8)
    whole = other_views(model, x, y, lambda outputs, targets: (outputs - targets).square().mean(), settings=settings)
    each = other_views(model, x, y, "mse", settings=settings)
    assert whole.trace.value == pytest.approx(float(exact.trace()), rel=1e-9)
    assert whole.start_loss == pytest.approx(each.start_loss, rel=1e-12)
    assert whole.sam.value == pytest.approx(each.sam.value, rel=1e-9)
    assert whole.learning_coefficient.value == pytest.approx(each.learning_coefficient.value, rel=1e-6)


def test_the_views_agree_with_the_mean_loss_under_noise():
    """sigma_at_threshold: noise of that size raises a quadratic's mean loss to the threshold exactly."""
    model, x, y, _ = regression(np.geomspace(5, 0.1, 30), shift=0.01)
    views = other_views(model, x, y, "mse", threshold=0.3, settings=ViewSettings(num_chains=0))
    mean_loss, random = MeanLoss.of(model, x, y, "mse", scaling="filter"), torch.Generator().manual_seed(0)
    noise = views.sigma_at_threshold * torch.randn(3000, 30, generator=random).double()
    losses = [
        float(get_loss("mse").per_sample(x @ (model.weight + model.weight.norm() * z).T, y).mean().detach())
        for z in noise
    ]
    assert np.mean(losses) == pytest.approx(0.3, abs=6 * np.std(losses) / math.sqrt(3000))
    assert mean_loss.value() == views.start_loss and views.learning_coefficient is None
    assert (
        other_views(model, x, y, "mse", threshold=1e-9, settings=ViewSettings(num_chains=0)).sigma_at_threshold is None
    )
    assert mv.other_views is other_views


def test_the_table_of_a_landscape(copied: Run):
    """A row a minimum of the landscape: the numbers of `other_views`, beside the volumes; strict JSON in its folder."""
    trained = mv.load_models_and_data(copied)
    found = views_table(copied, 20, settings=QUICK, progress=False)
    assert found["level"].tolist() == [20, 40]
    x, y = trained.dataset.x_train[:40], trained.dataset.y_train[:40]
    views = other_views(trained.models[40], x, y, threshold=0.5, settings=QUICK)
    row = found.iloc[1]
    assert (row["trace"], row["trace_standard_error"]) == (views.trace.value, views.trace.standard_error)
    assert (row["sam_sharpness"], row["asam_sharpness"]) == (views.sam.value, views.asam.value)
    assert (row["top_eigenvalue"], row["start_loss"]) == (views.spectrum.eigenvalues[0], views.start_loss)
    assert row["learning_coefficient"] == views.learning_coefficient.value
    assert row["learning_coefficient_verdict"] == views.learning_coefficient.verdict
    assert row["sigma_at_threshold"] == views.sigma_at_threshold
    results = mv.load_results(copied.results_file(20, 0.5))
    assert found["log_exp_r_n"].tolist() == results["log_exp_r_n_values"]
    stored = read_json(copied.views_file(20))
    assert copied.views_file(20) == copied.folder / "data_20" / "views.json"
    assert stored["model_data_levels"] == [20, 40] and stored["settings"]["scaling"] == "filter"
    assert stored["minima"][1]["top_eigenvalues"] == views.spectrum.eigenvalues.tolist()
    assert (
        read_json(copied.folder / "data_20" / "views.json")["minima"][0]["weights_hash"]
        == trained.records[20]["weights_hash"]
    )


@pytest.mark.parametrize(("variation", "key"), [("epoch", "checkpoints"), ("batch_size", "batch_sizes")])
def test_a_series(tmp_path, cli, variation: str, key: str):
    """Minima by epoch or batch size, all on the one data set; each row is that minimum's own, and named so."""
    run = make_run(
        tmp_path / "model_0_data_10",
        {"data.levels": [20], f"training.{key}": [10, 30], "perturbation.num_directions": 4},
        ("train", "perturb", "volume"),
    )
    trained = mv.load_models_and_data(run)
    found = views_table(run, settings=HESSIAN, progress=False)
    assert list(found.columns[:2]) == [variation, "start_loss"] and found[variation].tolist() == [10, 30]
    for minimum, (_, row) in zip((10, 30), found.iterrows(), strict=True):
        views = other_views(trained.models[minimum], trained.dataset.x_train, trained.dataset.y_train, settings=HESSIAN)
        assert (row["start_loss"], row["trace"]) == (views.start_loss, views.trace.value)
    assert found["trace"].nunique() == 2
    stored = read_json(run.folder / "data_20" / "views.json")
    assert stored["variation"] == variation and stored["model_data_levels"] == [10, 30]
    code, out, _ = cli("views", run.folder, "--chains", 2, "--draws", 8)
    name = {"epoch": "epoch 30", "batch_size": "batch size 30"}[variation]
    assert code == 0 and out.splitlines()[-1].startswith(f"{name}: learning coefficient: ")


def test_volumes_of_the_gaussian_kind_and_none(copied: Run):
    """`log_mass_values` gives a column a sigma; results of other weights are not shown; without results.json there is none."""
    path = copied.results_file(40, 0.5)
    results = mv.load_results(path)
    keys = ("intervals", "methods", "num_stages", "num_forward", "notes", "verdicts")
    masses = {f"log_mass_{key}": [[None, None]] for key in keys} | {"log_mass_values": [[-1.5, None]]}
    write_json(path, results | masses | {"sigmas": [0.05, 0.1], "sigma": 0.05, "log_mass_comparisons": []})
    found = views_table(copied, 40, settings=QUICK, progress=False)
    assert found["log_mass(0.05)"].tolist() == [-1.5] and found["log_mass(0.1)"].isna().all()
    write_json(path, results | {"weights_hashes": ["0" * 16]})
    assert views_table(copied, 40, settings=QUICK, progress=False)["log_exp_r_n"].isna().all()
    path.unlink()
    assert views_table(copied, 40, settings=QUICK, progress=False)["log_exp_r_n"].isna().all()


def test_views_are_resumed(copied: Run, monkeypatch: pytest.MonkeyPatch):
    """What was measured on the same weights with the same settings is kept, minimum by minimum; all else is measured again."""
    measured: list[int] = []
    real = views.other_views

    def counting(model, *arguments, **options):
        measured.append(1)
        if len(measured) == stop:
            raise KeyboardInterrupt
        return real(model, *arguments, **options)

    monkeypatch.setattr(views, "other_views", counting)
    stop = 3
    with pytest.raises(KeyboardInterrupt):
        views_table(copied, settings=HESSIAN, progress=False)
    assert read_json(copied.views_file(0))["model_data_levels"] == [0, 20]
    stop = 0
    whole = views_table(copied, settings=HESSIAN, progress=False)
    assert len(measured) == 4 and whole["level"].tolist() == [0, 20, 40]
    before = copied.views_file(0).read_bytes()
    assert views_table(copied, settings=HESSIAN, progress=False).equals(whole)
    assert len(measured) == 4 and copied.views_file(0).read_bytes() == before
    record = read_pt(copied.model_file(20))
    name = next(iter(record["state_dict"]))
    record["state_dict"][name] = record["state_dict"][name] * 1.1
    record["weights_hash"] = hash_arrays(record["state_dict"])
    write_pt(copied.model_file(20), record)
    changed = views_table(copied, settings=HESSIAN, progress=False)
    assert len(measured) == 5 and changed["trace"][1] != whole["trace"][1] and changed["trace"][0] == whole["trace"][0]
    views_table(copied, settings=replace(HESSIAN, scaling="none"), progress=False)
    assert len(measured) == 8
    copied.views_file(0).write_text("{", encoding="utf-8")
    views_table(copied, settings=HESSIAN, progress=False)
    assert len(measured) == 11


def test_a_diverged_chain_is_null_with_a_reason(copied: Run):
    """views.json is strict JSON whatever happens."""
    settings = ViewSettings(num_products=9, num_chains=2, num_draws=8, num_burn_in=4, step_size=1e9)
    found = views_table(copied, 40, settings=settings, progress=False)
    assert found["learning_coefficient"].isna().all() and "diverged" in found["learning_coefficient_verdict"][0]
    stored = read_json(copied.views_file(40))["minima"][0]
    assert stored["learning_coefficient"] is None and stored["learning_coefficient_chains"] == [None, None]


def test_the_command(copied: Run, cli):
    """An estimate, the table, a verdict a minimum; wrong names in one line; `clean --what results` removes the file."""
    code, out, _ = cli("views", copied.folder, "--landscape", 40, "--chains", 2, "--draws", 8, "--scaling", "none")
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("1 minima to measure in landscape +40: about ")
    assert "scaling none" in out and "log_exp_r_n" in out and lines[-1].startswith("+40: learning coefficient: ")
    for option, value, words in (
        ("--landscape", 7, "landscape 7 is not among data.levels [0, 20, 40]"),
        ("--threshold", 0.3, "threshold 0.3 is not among volume.loss_thresholds [0.5, 0.2]"),
        ("--scaling", "rows", "scaling 'rows' is not known"),
    ):
        code, _, err = cli("views", copied.folder, "--quiet", "--chains", 0, option, value)
        assert code == 1 and words in err and err.count("\n") == 1
    cli("clean", copied.folder, "--what", "results", "--yes")
    assert not copied.views_file(40).exists()


def test_own_scaling_is_the_default(copied: Run):
    """The run's scaling and names decide, so that the views belong to its volumes."""
    settings = default_settings(
        edit_config(copied.folder, {"perturbation.scaling": "none", "perturbation.names": "all"})
    )
    assert (settings.scaling, settings.names) == ("none", "all")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_views():
    """Noise and probes are drawn on the CPU, so that seeds mean the same on every device."""
    model, x, y, _ = regression(np.geomspace(5, 0.1, 80), shift=0.01)
    here, there = (
        other_views(model, x, y, "mse", settings=replace(QUICK, num_products=30), device=device)
        for device in ("cpu", "cuda")
    )
    assert there.trace.value == pytest.approx(here.trace.value, rel=1e-9)
    assert np.allclose(there.spectrum.eigenvalues, here.spectrum.eigenvalues, rtol=1e-6)
    assert np.allclose(there.learning_coefficient.losses, here.learning_coefficient.losses, rtol=1e-6)
    assert (there.sam.value, there.asam.value) == pytest.approx((here.sam.value, here.asam.value), rel=1e-9)
    assert model.weight.device.type == "cpu"
