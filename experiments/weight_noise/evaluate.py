"""The MLP's checkpoints under noise: acc@0, acc@0.1, drop. Settings may follow as KEY=VALUE."""

from pathlib import Path

from minima_volume.cli.noise import phase
from minima_volume.config.noise import NEEDED
from minima_volume.robustness.evaluate import read_sweep
from minima_volume.robustness.images import load_images
from minima_volume.robustness.run import measure
from minima_volume.robustness.sanity import sanity_study
from minima_volume.robustness.study import Study


def show(study: Study) -> None:
    found = [(one, network) for one in (study, sanity_study(study)) for network in one.networks(["mlp"])]
    there = [(one, network) for one, network in found if one.checkpoint(network).is_file()]
    for one, network in there:
        measure(one, network, load_images(one.config.data))
        sweep = read_sweep(one.sweep(network))
        assert sweep is not None
        first, last = (sweep.at(alpha).mean() for alpha in NEEDED)
        path = one.checkpoint(network).relative_to(study.checkpoints.parent)
        print(f"{path}: acc@0 {first:.4f}, acc@0.1 {last:.4f}, drop {first - last:+.4f}")
    if not there:
        print("no MLP checkpoints yet: run `python train.py` or `python run_experiments.py mlp`")


if __name__ == "__main__":
    phase(show, Path(__file__).parent)
