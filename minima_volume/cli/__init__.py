"""`minima-volume ...`: the notebooks' functions from a shell."""
