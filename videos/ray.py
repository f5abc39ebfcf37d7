"""python videos/ray.py RUN [-o FILE]: the loss along one random direction, and that of every sample; options as of `minima-volume video`."""

import sys

from minima_volume.cli.app import script

sys.argv[1:1] = ["video", "ray"]
script()
