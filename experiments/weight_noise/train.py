"""A short training: one epoch of the MLP, clean and noisy, into checkpoints/sanity/. Settings may follow as KEY=VALUE."""

from pathlib import Path

from minima_volume.cli.noise import phase
from minima_volume.robustness.images import load_images
from minima_volume.robustness.sanity import sanity_study
from minima_volume.robustness.study import Study
from minima_volume.robustness.train import train_network


def show(study: Study) -> None:
    small = sanity_study(study)
    for network in small.networks(["mlp"]):
        trained = train_network(small, network, load_images(small.config.data), print)
        print(f"{small.checkpoint(network)}: {'saved' if trained else 'was there'}")


if __name__ == "__main__":
    phase(show, Path(__file__).parent)
