"""One MLP per regime, one epoch: does the noisy-trained one drop less at alpha 0.1? See --help."""

import sys
from pathlib import Path

from minima_volume.cli.app import script

if __name__ == "__main__":
    sys.argv[1:1] = ["noise", "sanity", "--folder", str(Path(__file__).parent)]
    script()
