"""Experiment directories `{output_dir}/{name}`: autoencoders trained from a config file, their embeddings and predictions."""
