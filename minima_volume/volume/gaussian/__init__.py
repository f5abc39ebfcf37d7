"""The Gaussian local volume: the probability that a random perturbation stays in the minimum."""
