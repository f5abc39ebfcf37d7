"""The architectures: two images in, two rows of ten logits out. Settings may follow as KEY=VALUE."""

from pathlib import Path

import torch

from minima_volume.cli.noise import phase
from minima_volume.robustness.architectures import build_architecture
from minima_volume.robustness.study import Study

SHAPE, CLASSES = (3, 28, 28), 10


def show(study: Study) -> None:
    x = torch.rand(2, *SHAPE)
    for name, options in study.config.architectures.items():
        model = build_architecture(name, options, SHAPE, CLASSES, seed=0).eval()
        with torch.no_grad():
            shape = tuple(model(x).shape)
        print(f"{name}: ok, {tuple(x.shape)} -> {shape}, {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    phase(show, Path(__file__).parent)
