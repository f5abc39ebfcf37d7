"""Diagnostics of Markov chains: have they forgotten their start, and how many independent draws are they worth?"""

from __future__ import annotations

import numpy as np


def split_r_hat(draws: np.ndarray) -> float:
    """R-hat of chains cut in halves: near 1 when all halves agree in mean and spread, larger while they drift or differ.

    Args:
        draws: (C, S) one row a chain, S >= 4.

    Returns:
        sqrt(((s - 1) / s W + B / s) / W) over the halves of s draws; infinite for constant, different halves, 1 for equal ones.

    Source: Gelman et al. 2013, "Bayesian Data Analysis", 3rd edition, section 11.4.

    >>> round(split_r_hat(np.random.default_rng(0).normal(size=(4, 1000))), 2)
    1.0
    """
    halves = _halves(draws)
    size = halves.shape[1]
    within = halves.var(axis=1, ddof=1).mean()
    between = halves.mean(axis=1).var(ddof=1)
    if within == 0:
        return 1.0 if between == 0 else float("inf")
    return float(np.sqrt((size - 1) / size + between / within))


def effective_sample_size(draws: np.ndarray) -> float:
    """Independent draws that have the same error of the mean as these correlated ones.

    C S / (1 + 2 sum_t rho_t), with autocorrelations from all chains together (differences between chains count as correlation),
    summed in pairs while these are positive and made to decrease.

    Args:
        draws: (C, S) one row a chain, S >= 4.

    Source: Geyer 1992, "Practical Markov Chain Monte Carlo" (initial monotone sequence); Vehtari et al. 2021, equations 10-13.

    >>> ess = effective_sample_size(np.random.default_rng(0).normal(size=(4, 1000)))
    >>> 3000 < ess < 5000
    True
    """
    halves = _halves(draws)
    chains, size = halves.shape
    covariance = np.stack([_autocovariance(row) for row in halves])
    within = covariance[:, 0].mean() * size / (size - 1)
    total = within * (size - 1) / size + halves.mean(axis=1).var(ddof=1)
    if total == 0:
        return float(chains * size)
    rho = 1 - (within - covariance.mean(axis=0) * size / (size - 1)) / total
    rho[0] = 1.0
    pairs = rho[: size // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: negative[0]] if len(negative) else pairs)
    time = max(2 * pairs.sum() - 1, 1 / np.log10(chains * size))
    return float(chains * size / time)


def _halves(draws: np.ndarray) -> np.ndarray:
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]]).astype(np.float64)


def _autocovariance(row: np.ndarray) -> np.ndarray:
    """(S,) biased autocovariances by FFT."""
    size = len(row)
    spectrum = np.fft.rfft(row - row.mean(), 2 * size)
    return np.fft.irfft(np.abs(spectrum) ** 2)[:size] / size
