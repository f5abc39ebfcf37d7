"""Sweeps: exact without noise, repeatable, harmless to the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from robustness_cases import tiny_study

from minima_volume.robustness import evaluate
from minima_volume.robustness.architectures import build_architecture
from minima_volume.robustness.evaluate import read_sweep, recalibrated, sweep_network, write_sweep
from minima_volume.robustness.images import dense, load_images
from minima_volume.robustness.noise import noise_directions, steps


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_images(tiny_study(tmp_path_factory.mktemp("study")).config.data)


@pytest.fixture(params=["mlp", "cnn", "resnet18"])
def model(request, images):
    options = {"mlp": {"hidden": [8]}, "cnn": {"channels": [4]}, "resnet18": {}}[request.param]
    if request.param == "resnet18":
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(144, 10),
        )
    return build_architecture(request.param, options, images.shape, 10, 0)


def test_alpha_0_is_the_clean_accuracy(model, images):
    """Exactly, for every draw."""
    sweep = sweep_network(model, images, [0.0, 0.5], [1, 2, 3], 100)
    with torch.no_grad():
        right = (model.eval()(images.x_test).argmax(1) == images.y_test).numpy()
    assert (sweep.correct[0] == right).all()
    assert sweep.correct.shape == (2, 3, 200)
    assert not (sweep.correct[1, 0] == sweep.correct[1, 1]).all()


def test_against_a_loop_by_hand(model, images):
    """Loss and right answers at W + alpha * std(W) * z, written out in a copy."""
    import copy

    sweep = sweep_network(model, images, [0.0, 0.4], [11], 100)
    other = copy.deepcopy(model).eval()
    moves = steps(model, noise_directions(model), 11)
    with torch.no_grad():
        for parameter, move in zip(other.parameters(), moves, strict=True):
            if move is not None:
                parameter += 0.4 * move
        outputs = other(images.x_test)
    assert (sweep.correct[1, 0] == (outputs.argmax(1) == images.y_test).numpy()).all()
    expected = float(torch.nn.functional.cross_entropy(outputs, images.y_test))
    assert sweep.loss[1, 0] == pytest.approx(expected, rel=1e-4)


def test_repeatable_and_the_network_is_as_before(model, images):
    """The same seeds give the same sweep, whatever was measured in between; weights, buffers and mode stay."""
    model.train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    first = sweep_network(model, images, [0.0, 0.3], [4, 5], 100)
    again = sweep_network(model, images, [0.0, 0.1, 0.3], [5, 4], 100)
    assert (first.at(0.3) == again.at(0.3)[::-1]).all()
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_weights_come_back_after_an_exception_in_the_middle(model, images, monkeypatch):
    """The second evaluation fails."""
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    calls = []

    def failing(*args):
        calls.append(args)
        if len(calls) == 3:
            raise MemoryError
        return np.zeros(len(args[2]), bool), 0.0

    monkeypatch.setattr(evaluate, "classified", failing)
    with pytest.raises(MemoryError):
        sweep_network(model, images, [0.0, 0.3], [4, 5], 100)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_recalibration_is_the_average_over_batches(images):
    """Inside the block the statistics are those of the images at the weights as they are; afterwards as before."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    before = model[1].running_mean.clone()
    with recalibrated(model, images.x_train[:300]):
        expected = model[0](images.x_train[:300]).mean((0, 2, 3))
        assert torch.allclose(model[1].running_mean, expected, atol=1e-5)
        assert not model[1].training
    assert torch.equal(model[1].running_mean, before) and model[1].momentum == 0.1


@pytest.mark.parametrize("count", [130, 500, 501, 1001, 1300, 2000])
def test_every_image_counts_alike(count):
    """Images of mean 0, those after the last full 500 shifted by 3: the mean is 3 x share of these; variances are those within batches."""
    torch.manual_seed(0)
    x = torch.randn(count, 3, 1, 1)
    x[count - count % 500 :] += 3
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    parts = x.double().tensor_split(-(-count // 500))
    with recalibrated(model, x):
        assert torch.allclose(model[0].running_mean.double(), x.double().mean((0, 2, 3)), atol=1e-5)
        within = sum(len(part) * part.var(0).flatten() for part in parts) / count
        assert torch.allclose(model[0].running_var.double(), within, rtol=1e-5)
    assert model[0].momentum == 0.1


@pytest.mark.parametrize("count", [77, 500, 1500])
def test_equal_batches_are_averaged_as_torch_averages_them(count):
    """To the bit: a momentum of None is the plain average over batches."""
    torch.manual_seed(0)
    x = torch.randn(count, 3, 4, 4)
    layer = torch.nn.BatchNorm2d(3, momentum=None)
    for images in x.split(500):
        layer(dense(images))
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    with recalibrated(model, x):
        assert torch.equal(model[0].running_mean, layer.running_mean)
        assert torch.equal(model[0].running_var, layer.running_var)


def test_only_batch_normalisation_has_a_second_column(model, images):
    """And it differs from the first under noise."""
    sweep = sweep_network(model, images, [0.0, 0.5], [1, 2], 200)
    has = any(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules())
    assert (sweep.recalibrated is not None) == has
    if sweep.recalibrated is not None and sweep.recalibrated_loss is not None:
        assert not np.allclose(sweep.recalibrated_loss, sweep.loss)


def test_a_file_keeps_every_bit(tmp_path, model, images):
    """And is not taken for one of other settings."""
    sweep = sweep_network(model, images, [0.0, 0.5], [1, 2], 100)
    path = write_sweep(tmp_path / "sweep.npz", sweep, {"draws": 2})
    found = read_sweep(path, {"draws": 2})
    assert found is not None and (found.correct == sweep.correct).all() and (found.loss == sweep.loss).all()
    assert read_sweep(path, {"draws": 3}) is None and read_sweep(tmp_path / "none.npz") is None
