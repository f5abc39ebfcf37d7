"""The images: prints the shapes of a training and a test batch. Settings may follow as KEY=VALUE."""

from pathlib import Path

from minima_volume.cli.noise import phase
from minima_volume.robustness.images import load_images
from minima_volume.robustness.study import Study


def show(study: Study) -> None:
    images, size = load_images(study.config.data), study.config.training.batch_size
    for name, x, y in (("Train", images.x_train, images.y_train), ("Test", images.x_test, images.y_test)):
        print(f"{name} batch: x.shape={x[:size].shape}, y.shape={y[:size].shape}, of {len(x):,} images")


if __name__ == "__main__":
    phase(show, Path(__file__).parent)
