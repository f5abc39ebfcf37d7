"""python videos/boundary.py RUN [-o FILE]: the decision regions of a model of points in the plane as it is perturbed; options as of `minima-volume video`."""

import sys

from minima_volume.cli.app import script

sys.argv[1:1] = ["video", "boundary"]
script()
