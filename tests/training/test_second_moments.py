"""Adam's second moments, stored with the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import make_run
from torch import nn

from minima_volume import load_models_and_data, measure_volume
from minima_volume.errors import ConfigError
from minima_volume.files.atomic import read_pt, write_pt
from minima_volume.stages.run import Run
from minima_volume.training import adam_second_moments


def trained(optimizer_class: type, **options: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = optimizer_class(model.parameters(), **options)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.AdamW])
def test_second_moments_by_name(optimizer_class: type):
    """The optimiser's own tensors, copied, under the parameters' names."""
    model, optimizer = trained(optimizer_class, lr=0.1)
    moments = adam_second_moments(model, optimizer)
    assert list(moments) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        own = optimizer.state[parameter]["exp_avg_sq"]
        assert torch.equal(moments[name], own)
        assert moments[name].data_ptr() != own.data_ptr()


def test_no_second_moments():
    """Momentum has none; an optimiser of another model is an error."""
    model, optimizer = trained(torch.optim.SGD, lr=0.1, momentum=0.9)
    assert adam_second_moments(model, optimizer) == {}
    with pytest.raises(ConfigError, match="SGD does not optimise this model's parameters"):
        adam_second_moments(nn.Linear(2, 1), optimizer)


def test_stored_with_the_model_and_used(digits_run: Run):
    """Each model's file holds them in the shapes of its parameters; they precondition the rays of that model."""
    loaded = load_models_and_data(digits_run)
    for level, model in loaded.models.items():
        moments = loaded.records[level]["exp_avg_sq"]
        assert {name: tensor.shape for name, tensor in moments.items()} == {
            name: parameter.shape for name, parameter in model.named_parameters()
        }
        assert all(bool((tensor >= 0).all()) for tensor in moments.values())
        assert any(bool((tensor > 0).any()) for tensor in moments.values())
    x, y = loaded.dataset.x_base_train, loaded.dataset.y_base_train
    estimate = measure_volume(
        loaded.models[0], x, y, threshold=0.5, measure="ball", preconditioner="adam", num_directions=10, progress=False,
        second_moments=loaded.records[0]["exp_avg_sq"],
    )  # fmt: skip
    assert estimate.preconditioner.name == "adam"
    assert estimate.log_volume is not None


def test_of_the_saved_epoch(tmp_path: Path):
    """`best` stores the second moments of the epoch whose weights it stores: those of a training that ends there."""
    best = make_run(
        tmp_path / "model_0_data_0", {"training.epochs": 12, "checkpoint.save_strategy": "best"}, ("train",)
    )
    records = {level: read_pt(best.model_file(level)) for level in best.config.data.levels}
    level, record = min(records.items(), key=lambda item: item[1]["epoch"])
    last = make_run(
        tmp_path / "again" / "model_0_data_0",
        {"training.epochs": record["epoch"], "checkpoint.save_strategy": "last"},
        ("train",),
    )
    again = read_pt(last.model_file(level))
    assert again["weights_hash"] == record["weights_hash"]
    assert all(torch.equal(tensor, record["exp_avg_sq"][name]) for name, tensor in again["exp_avg_sq"].items())


def test_momentum_stores_none(tmp_path: Path):
    """Another optimiser has none: the key is there and empty."""
    run = make_run(
        tmp_path / "model_0_data_0", {"training.optimizer": "sgd", "training.learning_rate": 0.01, "training.epochs": 3},
        ("train",),
    )  # fmt: skip
    assert read_pt(run.model_file(0))["exp_avg_sq"] == {}


def test_older_files_load(copied: Run):
    """Models saved before second moments were kept."""
    for level in copied.config.data.levels:
        record = read_pt(copied.model_file(level))
        record.pop("exp_avg_sq")
        write_pt(copied.model_file(level), record)
    assert "exp_avg_sq" not in load_models_and_data(copied).records[0]
