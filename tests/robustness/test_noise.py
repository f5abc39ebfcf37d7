"""The noise is the published one: which tensors, how large, and gone afterwards to the bit."""

from __future__ import annotations

import pytest
import torch
from robustness_cases import tiny_study
from torch import nn

from minima_volume.config.noise import parse_noise_config
from minima_volume.errors import ConfigError
from minima_volume.perturbation.names import perturbed_names
from minima_volume.robustness.architectures import build_architecture
from minima_volume.robustness.noise import WeightNoise, noise_directions, scaled, steps, tensor_report
from minima_volume.training.weight_noise import noisy

OPTIONS = {"mlp": {}, "cnn": {}, "resnet18": {}, "vit": {"num_layers": 1}}


def build(name: str, seed: int = 0) -> nn.Module:
    return build_architecture(name, OPTIONS[name], (3, 28, 28), 10, seed)


def training_noise(model: nn.Module, alpha: float) -> list[torch.Tensor | None]:
    return WeightNoise(alpha)(model, torch.Generator().manual_seed(3))


def test_noise(model: nn.Module, alpha: float) -> list[torch.Tensor | None]:
    return scaled(steps(model, noise_directions(model), 3), alpha)


test_noise.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("draw", [training_noise, test_noise])
@pytest.mark.parametrize("name", OPTIONS)
def test_mean_and_deviation_of_each_tensor(name: str, draw):
    """alpha * std(W) * z: for the n entries of a tensor mean 0 and deviation alpha * std(W), within six standard errors of each (a false
    alarm in 1 of 1e7 over all tensors); norms and biases get none."""
    model = build(name).requires_grad_(False)
    for (key, parameter), noise in zip(model.named_parameters(), draw(model, 0.3), strict=True):
        owner = model.get_submodule(key.rpartition(".")[0])
        hit = key.endswith(".weight") and not isinstance(owner, nn.BatchNorm2d | nn.LayerNorm)
        assert (noise is not None) == hit, key
        if noise is not None:
            sigma, n = 0.3 * max(float(parameter.std(correction=1)), 1e-8), noise.numel()
            assert abs(float(noise.mean())) < 6 * sigma / n**0.5
            assert abs(float(noise.std()) / sigma - 1) < 6 / (2 * n) ** 0.5


def test_convolutions_are_hit_and_gains_are_not():
    """By name: attention's in_proj_weight is no `*.weight`, which the report says."""
    hit = {name: perturbed_names(build(name), "weights") for name in OPTIONS}
    assert hit["mlp"] == ("layers.1.weight", "layers.3.weight", "layers.5.weight")
    assert len(hit["cnn"]) == 4
    assert len(hit["resnet18"]) == 21
    report = {row["tensor"]: row for row in tensor_report(build("vit"))}
    attention = next(name for name in report if name.endswith("in_proj_weight"))
    assert not report[attention]["hit"] and report[attention]["deviation"] is None


def test_report_says_by_how_much():
    """Deviation and relative norm of each tensor, against the noise itself: its norm over the tensor's, within 1 %."""
    model = build("mlp")
    rows = [row for row in tensor_report(model) if row["hit"]]
    noise = [step for step in steps(model, noise_directions(model), 1) if step is not None]
    for row, step in zip(rows, noise, strict=True):
        weight = model.get_parameter(row["tensor"])
        assert row["deviation"] == pytest.approx(float(weight.detach().std()), rel=1e-6)
        assert row["relative_norm"] == pytest.approx(float(step.norm() / weight.detach().norm()), rel=0.06)


def test_a_tensor_of_zero_variance():
    """Moves by alpha * 1e-8 * z, and a tensor of one entry, too."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1), nn.Linear(1, 1))
    nn.init.constant_(model[0].weight, 0.5)
    floor = steps(model, noise_directions(model), 2)
    expected = torch.randn(3, 4, generator=torch.Generator().manual_seed(2)) * 1e-8
    assert floor[0] is not None and torch.equal(floor[0], expected)
    assert floor[4] is not None and 0 < abs(float(floor[4])) < 1e-7
    assert tensor_report(model)[0]["deviation"] == pytest.approx(1e-8)


def test_draws_are_named_by_their_seed_and_shared():
    """The same seed gives the same z for every network of an architecture; another seed another."""
    first, second = build("mlp", 0), build("mlp", 1)
    z = [
        [
            step / factor
            for step, factor in zip(filter(lambda s: s is not None, steps(m, d, seed)), d.factors, strict=True)
        ]
        for m, seed in ((first, 7), (second, 7), (first, 8))
        for d in [noise_directions(m)]
    ]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(z[0], z[1], strict=True))
    assert not torch.allclose(z[0][0], z[2][0], atol=0.1)


def test_one_tensor_alone_has_the_same_draw():
    """`only` leaves the others out and changes nothing else."""
    model = build("cnn")
    directions = noise_directions(model)
    whole, alone = (steps(model, directions, 5, only) for only in (None, [directions.names[2]]))
    assert [step is not None for step in alone].count(True) == 1
    position = next(i for i, step in enumerate(alone) if step is not None)
    assert torch.equal(alone[position], whole[position])


def test_weights_come_back_to_the_bit_after_an_exception():
    """Whatever is raised inside."""
    model = build("cnn")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}

    def fail() -> None:
        with noisy(model, test_noise(model, 0.7)):
            assert not torch.equal(model.state_dict()["layers.0.weight"], before["layers.0.weight"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_negative_alphas_are_refused(tmp_path):
    """With the key and its value."""
    for key in ("noise.alpha_train", "volume.layers"):
        with pytest.raises(ConfigError, match=rf"{key}: -0.1 is not allowed"):
            tiny_study(tmp_path, {key: -0.1})
    with pytest.raises(ConfigError, match=r"noise.alpha_test.1: -0.1 is not allowed"):
        tiny_study(tmp_path, {"noise.alpha_test": [0, -0.1]})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"noise.alpha_test": [0, 0.2]}, "0 and 0.1 among them"),
        ({"noise.draws": 1}, "noise.draws: 1 is not allowed"),
        ({"training.loss": "mse"}, "trains classifiers"),
        ({"training.target_loss": 0.1}, "training.target_loss applies only to volume runs"),
        ({"volume.architectures": ["vit"]}, "volume.architectures: 'vit' is not among"),
        ({"architectures.rnn": {}}, "architectures.rnn"),
        ({"noise.alpha": 1}, "noise.alpha: unknown key"),
    ],
)
def test_wrong_settings(tmp_path, overrides, message):
    """One message that names the key."""
    with pytest.raises(ConfigError, match=message):
        tiny_study(tmp_path, overrides)


def test_a_section_is_missing():
    """As for every config.yaml."""
    with pytest.raises(ConfigError, match="training: is missing"):
        parse_noise_config({"experiment": {"name": "x"}, "architectures": {"mlp": {}}})
