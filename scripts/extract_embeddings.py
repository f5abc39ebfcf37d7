"""python scripts/extract_embeddings.py CONFIG: write the embeddings of a trained model, as `minima-volume embed` does."""

import sys

from minima_volume.cli.app import script

sys.argv.insert(1, "embed")
script()
