"""Four architectures for images of three channels."""

from __future__ import annotations

import pytest
import torch
from robustness_cases import tiny_study

from minima_volume.errors import ConfigError, DataError
from minima_volume.robustness.architectures import build_architecture
from minima_volume.robustness.images import load_images


@pytest.mark.parametrize(
    ("name", "parameters"), [("mlp", 1_338_634), ("cnn", 62_090), ("resnet18", 11_173_962), ("vit", 809_226)]
)
def test_shapes(name: str, parameters: int):
    """(2, 3, 28, 28) -> (2, 10), and the published widths: 2352-512-256-10 has 1,338,634 parameters."""
    model = build_architecture(name, {}, (3, 28, 28), 10, 0).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, 28, 28)).shape == (2, 10)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_seeds():
    """The same seed begins with the same weights, another with others, and the global generator stays."""
    before = torch.get_rng_state()
    first, same, other = (build_architecture("cnn", {}, (3, 8, 8), 10, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rnn", {}, "architecture 'rnn' is not known; allowed: mlp, cnn, resnet18, vit"),
        ("mlp", {"widths": [1]}, r"architectures.mlp \{'widths': \[1\]\} does not fit"),
        ("vit", {"variant": "large"}, "variant vit_b_16 alone"),
        ("vit", {"variant": "vit_b_16", "patch_size": 4}, "variant vit_b_16 alone"),
    ],
)
def test_unknown(name: str, options: dict, message: str):
    """The message says what there is."""
    with pytest.raises(ConfigError, match=message):
        build_architecture(name, options, (3, 28, 28), 10, 0)


def test_an_architecture_that_is_not_in_the_configuration(tmp_path):
    """Named with what is allowed."""
    with pytest.raises(ConfigError, match="'vit' is not known; allowed: mlp, cnn"):
        tiny_study(tmp_path).networks(["mlp", "vit"])


def test_digits_are_sixteenths_in_three_equal_channels(tmp_path):
    """Values in [0, 1], exactly the stored pixels."""
    images = load_images(tiny_study(tmp_path).config.data)
    assert images.shape == (3, 8, 8) and len(images.x_train) == 400 and len(images.y_test) == 200
    assert torch.equal(images.x_train[:, 0], images.x_train[:, 2])
    assert torch.equal(images.x_train * 16, (images.x_train * 16).round())
    assert (float(images.x_train.min()), float(images.x_train.max())) == (0, 1)


def test_too_few_images(tmp_path):
    """The message names both sizes."""
    with pytest.raises(DataError, match="data.train_size: 2000 is not allowed: digits has 1300"):
        load_images(tiny_study(tmp_path, {"data.train_size": 2000}).config.data)


@pytest.mark.real_data
def test_mnist_is_bytes_over_255(tmp_path):
    """As published: inputs in [0, 1], one grey image three times."""
    images = load_images(tiny_study(tmp_path, {"data.source": "mnist", "data.train_size": None}).config.data)
    assert images.shape == (3, 28, 28) and len(images.x_train) == 60_000
    some = images.x_test[:100]
    assert torch.equal((some * 255).round() / 255, some) and float(some.max()) == 1
