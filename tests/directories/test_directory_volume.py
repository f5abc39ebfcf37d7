"""The volume of a directory's minimum against a plain loop over perturbed copies."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from directory_cases import samples, trained
from helpers import limits

from minima_volume.config.directory import CheckpointOf
from minima_volume.directories.load import find, load_file
from minima_volume.directories.volume import Landscape, measure_directory
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.losses.generative import kl_per_dimension
from minima_volume.seeding import generator, normals
from minima_volume.volume.gaussian.settings import Gaussian

SAE = {
    "model": {"class": "SAE", "params": {"hidden_dim": 6, "activation": "topk", "k": 2}},
    "train.loss": {"class": "SAELoss"},
    "train.epochs": 20,
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())


def losses_of(model, x: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
    """The training losses, written out again."""
    if noise is None:
        return (model(x)["reconstruction"] - x).square().sum(-1)
    outputs = model(x, noise)
    constant = 0.5 * math.log(2 * math.pi) * x.shape[1]
    error = 0.5 * (outputs["parameters"] - x).square().sum(-1) + constant
    return error + kl_per_dimension(outputs["mean"], outputs["log_variance"]).sum(-1)


@pytest.mark.parametrize(("overrides", "sigma"), [({"train.epochs": 20}, 0.05), (SAE, 0.05)], ids=["vae", "sae"])
def test_the_log_mass_is_that_of_a_plain_loop(overrides, sigma):
    """Unscaled Gaussian steps of all weights; two shares of 2,000 draws agree but for a chance of 1e-6."""
    directory = trained(overrides)
    how = Gaussian(sigma=sigma, scaling="none", estimator="monte_carlo")
    found = measure_directory(directory.folder, how, Landscape(samples=20, rise=1.0), progress=False)
    checkpoint = load_file(find(CheckpointOf(), directory.folder))
    x = torch.from_numpy(samples()[:20])
    model = checkpoint.model((4,), "cpu", [])
    noise = normals(generator(0, "volume"), 20, 2) if hasattr(model, "latent_dim") else None
    random, hits, draws = torch.Generator().manual_seed(1), 0, 2000
    with torch.no_grad():
        assert float(losses_of(model, x, noise).mean()) == pytest.approx(found.loss, rel=1e-5)
        for _ in range(draws):
            moved = copy.deepcopy(model)
            for p in moved.parameters():
                p.add_(sigma * torch.randn(p.shape, generator=random))
            hits += float(losses_of(moved, x, noise).mean()) <= found.threshold
    assert 0 < hits < draws
    low, high = limits(found.volume, 5e-7)
    half = 6 * math.sqrt(hits * (draws - hits) / draws) / draws + 6 / draws
    assert math.exp(low) <= hits / draws + half and hits / draws - half <= math.exp(high)


@pytest.mark.parametrize("wanted", ["../x", "epoch_", "epoch_²", "epoch_9999999999", "Best"])
def test_a_checkpoint_that_cannot_be(wanted, cli):
    """One line with what is allowed."""
    trained({"train.epochs": 1})
    code, _, err = cli("volume", "runs/a", "--sigma", "0.1", "--load", wanted)
    assert code == 1 and f"load_strategy: {wanted!r} is not allowed: best, last or epoch_<N>" in err
    assert err.count("\n") == 1


def test_a_checkpoint_file_that_is_not_there():
    """In the working directory, too."""
    for path in ("x.pt", "a/x.pt", "runs/a/checkpoints/x.pt"):
        with pytest.raises(MissingStageError, match=f"{path} does not exist"):
            find(CheckpointOf(path=path), Path("runs/a"))


def test_thresholds(cli):
    """One of two ways, above the loss at the minimum."""
    trained({"train.epochs": 1})
    code, out, _ = cli("volume", "runs/a", "--sigma", "1e-6", "--rise", "0.5", "--samples", "10", "--quiet")
    assert code == 0 and out.startswith("loss at the minimum") and "sigma 1e-06: log mass measured: 0.00" in out
    assert "both given" in cli("volume", "runs/a", "--sigma", "0.1", "--rise", "1", "--threshold", "1")[2]
    with pytest.raises(ConfigError, match="threshold -1e\\+09 is not above the loss at the minimum"):
        measure_directory(Path("runs/a"), Gaussian(sigma=0.1), Landscape(threshold=-1e9), progress=False)


def test_a_loss_that_is_negative_at_the_minimum():
    """The default threshold is a tenth above it; a loss 50 larger has the same mass at a threshold 50 higher."""
    Path("moved.py").write_text(
        "def less(outputs, x):\n    return (outputs['reconstruction'] - x).square().sum(-1) - 50\n\n\n"
        "def plain(outputs, x):\n    return (outputs['reconstruction'] - x).square().sum(-1)\n"
    )
    how = Gaussian(sigma=0.3, scaling="none", estimator="monte_carlo", precision=2.0)
    folders = [
        trained({**SAE, "train.epochs": 2, "train.loss": {"class": f"moved:{name}"}, "experiment.name": name}).folder
        for name in ("less", "plain")
    ]
    less = measure_directory(folders[0], how, Landscape(5), places=[Path()], progress=False)
    rise = less.threshold - less.loss
    assert less.loss < less.threshold < 0 and rise == pytest.approx(-less.loss / 10)
    plain = measure_directory(folders[1], how, Landscape(5, rise=rise), places=[Path()], progress=False)
    assert plain.loss == pytest.approx(less.loss + 50, abs=1e-3) and plain.volume.log_mass < 0
    assert less.volume.log_mass == pytest.approx(plain.volume.log_mass, abs=0.05)


def test_a_minimum_of_loss_0_takes_a_rise_and_says_so(cli):
    """A tenth of 0 is no threshold: the message names the option that helps, which is then followed."""
    Path("zero.py").write_text(
        "def none(outputs, x):\n    return 0 * (outputs['reconstruction'] - x).square().sum(-1)\n"
    )
    trained({**SAE, "train.loss": {"class": "zero:none"}, "train.epochs": 1})
    code, _, err = cli("volume", "runs/a", "--sigma", "0.1", "--quiet")
    assert code == 1 and "threshold 0 is not above the loss at the minimum, 0; say how far above it" in err
    assert "(--rise; `minima-volume volume` also takes a --threshold)" in err
    for way in (("--rise", "0.5"), ("--threshold", "0.5")):
        code, out, _ = cli("volume", "runs/a", "--sigma", "0.1", "--quiet", *way)
        assert code == 0 and "threshold 0.5" in out
