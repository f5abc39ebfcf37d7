"""How volumes order the minima: against brute force and scipy."""

from __future__ import annotations

import itertools
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from minima_volume.volume.ordering import (
    discordant_pairs,
    native_is_largest,
    order_holds,
    ordering_violations,
    ranks,
    spearman,
    spearman_interval,
)

VALUES = st.lists(st.one_of(st.none(), st.integers(-4, 4).map(float)), max_size=9)
PAIRS = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(-3, 3).map(float)), st.one_of(st.none(), st.integers(0, 5).map(float))),
    max_size=9,
)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_ranks_by_counting(values: list[float | None]):
    """1 + how many are larger, plus half of the other ties; None stays None."""
    known = [v for v in values if v is not None]
    for value, rank in zip(values, ranks(values), strict=True):
        if value is None:
            assert rank is None
        else:
            assert rank == 1 + sum(v > value for v in known) + (known.count(value) - 1) / 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([None], [None]),
        ([2.0], [1.0]),
        ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]),
        ([-1e6, 5.0, None, 5.0], [3.0, 1.5, None, 1.5]),
    ],
)
def test_ranks_of_edge_cases(values: list[float | None], expected: list[float | None]):
    """Nothing, nothing known, one, all tied."""
    assert ranks(values) == expected


@given(st.permutations(range(6)), st.lists(st.one_of(st.none(), st.integers(0, 4).map(float)), min_size=6, max_size=6))
@settings(max_examples=200, deadline=None)
def test_order_holds_for_every_pair(levels: list[int], volumes: list[float | None]):
    """Every pair with less data has the strictly larger volume, in whatever order the minima are listed."""
    known = [(level, volume) for level, volume in zip(levels, volumes, strict=True) if volume is not None]
    expected = all(v > w for (a, v), (b, w) in itertools.permutations(known, 2) if a < b) if len(known) > 1 else None
    assert order_holds(levels, volumes) == expected


def test_order_holds_only_strictly():
    """A tie is not an order; levels are compared as numbers."""
    assert order_holds([0, 10], [3.0, 3.0]) is False
    assert order_holds([90, 810, 0], [2.0, 1.0, 3.0]) is True
    assert order_holds([0, 10, 20], [None, None, 3.0]) is None


@pytest.mark.parametrize(
    ("landscape", "volumes", "expected"),
    [
        (0, [3.0, 2.0, 1.0], True),
        (10, [3.0, 2.0, 1.0], False),
        (10, [None, 2.0, 1.0], True),
        (0, [None, 2.0, 1.0], None),
        (0, [2.0, 2.0, 1.0], True),
        (0, [2.0, None, None], None),
        (5, [3.0, 2.0, 1.0], None),
    ],
)
def test_native_is_largest(landscape: int, volumes: list[float | None], expected: bool | None):
    """Among the known volumes of levels 0, 10, 20; None if the native's is unknown or stands alone."""
    assert native_is_largest(landscape, [0, 10, 20], volumes) is expected


@given(PAIRS)
@settings(max_examples=200, deadline=None)
def test_discordant_pairs_by_brute_force(pairs: list[tuple[float | None, float | None]]):
    """Pairs where the strictly larger volume has the strictly smaller test loss; ties and what is unknown do not count."""
    volumes, losses = [v for v, _ in pairs], [t for _, t in pairs]
    expected = sum(None not in (v, a, w, b) and v > w and a < b for (v, a), (w, b) in itertools.permutations(pairs, 2))
    assert discordant_pairs(volumes, losses) == expected


@given(PAIRS, st.randoms())
@settings(max_examples=200, deadline=None)
def test_violations_by_brute_force(pairs: list[tuple[float | None, float | None]], random: Random):
    """From one volume to the next smaller one, whether some test loss is larger: all of a tie's minima are its neighbours.

    In whatever order the minima are listed; there is one exactly where there is a discordant pair.
    """
    volumes, losses = [v for v, _ in pairs], [t for _, t in pairs]
    of = {v: [t for w, t in pairs if w == v and t is not None] for v in volumes if v is not None}
    groups = [of[v] for v in sorted(of, reverse=True) if of[v]]
    found = ordering_violations(volumes, losses)
    assert found == sum(max(smaller) > min(larger) for larger, smaller in itertools.pairwise(groups))
    assert (found > 0) == (discordant_pairs(volumes, losses) > 0)
    shuffled = random.sample(pairs, len(pairs))
    assert found == ordering_violations([v for v, _ in shuffled], [t for _, t in shuffled])


@given(st.permutations(range(7)), st.permutations(range(7)))
@settings(max_examples=100, deadline=None)
def test_violations_are_disagreements_of_the_rank_lists(volumes: list[int], losses: list[int]):
    """By the ranks of results.json alone: neighbours in volume whose test losses have the other order; all pairs for the other key."""
    place = dict(zip(ranks(volumes), ranks(losses), strict=True))
    neighbours = [(place[r], place[r + 1]) for r in range(1, 7)]
    everyone = [(place[r], place[q]) for r, q in itertools.combinations(range(1, 8), 2)]
    assert ordering_violations(volumes, losses) == sum(a > b for a, b in neighbours)
    assert discordant_pairs(volumes, losses) == sum(a > b for a, b in everyone)


@pytest.mark.parametrize(
    ("volumes", "losses", "violations", "discordant"),
    [
        ([4.0, 3.0, 2.0, 1.0], [4, 3, 2, 1], 0, 0),  # the rank lists agree
        ([1.0, 2.0, 3.0, 4.0], [1, 2, 3, 4], 0, 0),
        ([4.0, 3.0, 2.0, 1.0], [1, 2, 3, 4], 3, 6),  # reversed
        ([4.0, 3.0, 2.0, 1.0], [1, 4, 3, 2], 1, 3),  # one small step up, and one large one
        ([4.0, 3.0, 2.0, 1.0], [3, 4, 1, 2], 2, 2),
        ([3.0, 3.0, 1.0], [1, 2, 0], 0, 0),  # equal volumes have no order
        ([3.0, 3.0, 1.0], [2, 1, 1.5], 1, 1),
        ([3.0, 2.0, 1.0], [1, 1, 1], 0, 0),  # equal test losses neither
        ([3.0, None, 1.0], [1, 9, 2], 1, 1),
        ([3.0, 2.0, 1.0], [1, None, 2], 1, 1),
        ([None, 1.0], [1, 2], 0, 0),
        ([], [], 0, 0),
    ],
)
def test_violations_and_discordant_pairs(volumes: list, losses: list, violations: int, discordant: int):
    """The seeds' words: how often the order of volume disagrees with that of test loss, both descending."""
    assert (ordering_violations(volumes, losses), discordant_pairs(volumes, losses)) == (violations, discordant)


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_spearman(pairs: list[tuple[float | None, float | None]]):
    """scipy's on the known pairs; None if either side is constant."""
    known = [(v, t) for v, t in pairs if v is not None and t is not None]
    got = spearman([v for v, _ in pairs], [t for _, t in pairs])
    if len({v for v, _ in known}) < 2 or len({t for _, t in known}) < 2:
        assert got is None
    else:
        assert got == pytest.approx(spearmanr(*zip(*known, strict=True)).statistic)


def test_spearman_of_perfect_orders():
    """1 when larger volumes have larger losses, -1 in the reverse."""
    assert spearman([1.0, 2.0, 4.0], [0.1, 0.2, 0.9]) == pytest.approx(1)
    assert spearman([1.0, 2.0, 4.0], [0.9, 0.2, 0.1]) == pytest.approx(-1)


@pytest.mark.parametrize(("count", "latent"), [(5, 0.0), (6, 0.9), (7, 0.5)])
def test_spearman_intervals_cover_the_correlation_of_normal_pairs(count: int, latent: float):
    """300 samples of few minima: the rank correlation of the population, 6 / pi asin(r / 2), is covered in 92 % at least."""
    random = np.random.default_rng(count)
    truth, covered = 6 / math.pi * math.asin(latent / 2), 0
    for _ in range(300):
        x, noise = random.standard_normal((2, count))
        interval, note = spearman_interval(x.tolist(), (latent * x + math.sqrt(1 - latent**2) * noise).tolist())
        assert note is None
        covered += interval[0] <= truth <= interval[1]
    assert 0.92 <= covered / 300 < 1


def test_spearman_intervals_of_perfect_orders():
    """Not a point: six minima in perfect order allow a correlation of 0.7, five one of 0.4; more minima, a narrower interval."""
    lows = {}
    for count in (5, 6, 12):
        order = [float(i) for i in range(count)]
        (low, high), _ = spearman_interval(order, order)
        (mirrored, _), _ = spearman_interval(order, order[::-1])
        assert high == 1 and mirrored == -1
        lows[count] = low
    assert 0.2 < lows[5] < 0.5 < lows[6] < 0.8 < lows[12] < 1


def test_spearman_intervals_that_do_not_exist():
    """Below five minima, or without an order: none, with the reason."""
    interval, note = spearman_interval([4.0, 3.0, 2.0, 1.0, None], [4, 3, 2, 1, 0])
    assert interval is None and note.startswith("4 minima: below 5")
    interval, note = spearman_interval([1.0] * 6, [1, 2, 3, 4, 5, 6])
    assert interval is None and note.startswith("undefined")
