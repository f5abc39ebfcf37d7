"""python scripts/predict.py CONFIG: write the predictions of a trained model, as `minima-volume predict` does."""

import sys

from minima_volume.cli.app import script

sys.argv.insert(1, "predict")
script()
