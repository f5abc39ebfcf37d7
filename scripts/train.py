"""python scripts/train.py CONFIG: an autoencoder into an experiment directory, as `minima-volume train` does."""

import sys

from minima_volume.cli.app import script

sys.argv.insert(1, "train")
script()
