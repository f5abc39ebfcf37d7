"""`python -m minima_volume.cli`."""

from minima_volume.cli.app import script

script()
