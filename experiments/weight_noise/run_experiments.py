"""Train every network of the study, measure it under weight noise, write the tables; see --help."""

import sys
from pathlib import Path

from minima_volume.cli.app import script

if __name__ == "__main__":
    sys.argv[1:1] = ["noise", "run", "--folder", str(Path(__file__).parent)]
    script()
