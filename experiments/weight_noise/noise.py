"""The noise: applied and removed, the weights come back to the bit. Settings may follow as KEY=VALUE."""

from pathlib import Path

import torch

from minima_volume.cli.noise import phase
from minima_volume.robustness.architectures import build_architecture
from minima_volume.robustness.noise import noise_directions, scaled, steps, tensor_report
from minima_volume.robustness.study import Study
from minima_volume.training.weight_noise import noisy


def show(study: Study) -> None:
    for name, options in study.config.architectures.items():
        model = build_architecture(name, options, (3, 28, 28), 10, seed=0)
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        alpha = study.config.noise.alpha_train
        with noisy(model, scaled(steps(model, noise_directions(model), seed=1), alpha)):
            moved = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
        report = tensor_report(model)
        assert moved == {row["tensor"] for row in report if row["hit"]}
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
        print(f"{name}: alpha {alpha:g} moved {len(moved)} of {len(report)} tensors")
    print("noise.py: apply/remove ok")


if __name__ == "__main__":
    phase(show, Path(__file__).parent)
