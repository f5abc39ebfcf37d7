"""python videos/landscape.py RUN [-o FILE]: the plane through three minima of a run as samples are added; options as of `minima-volume video`."""

import sys

from minima_volume.cli.app import script

sys.argv[1:1] = ["video", "landscape"]
script()
