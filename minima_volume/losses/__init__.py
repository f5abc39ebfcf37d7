"""Losses: what the package asks of one, the built-in ones, and the way to a loss of your own."""
