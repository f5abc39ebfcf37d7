"""Two minima side by side: one rule says which are told apart, and the words follow it."""

from __future__ import annotations

import itertools
import math

import pytest

from minima_volume.volume.comparison import CANNOT_TELL, Difference, Family, mass_verdict, star_verdict

NAMES = "+0", "+540"


@pytest.mark.parametrize("verdict", [mass_verdict, star_verdict])
def test_words_follow_the_rule(verdict) -> None:
    """For every sign, p-value and family, also if the interval and the p-value of a bootstrap disagree by one resample."""
    apart = 0
    for value, half, p_value, adjusted in itertools.product(
        (-2.0, 2.0), (0.5, 1.99, 2.01, 9.0), (0.001, 0.049, 0.051), (None, 0.05, 0.2, 1.0)
    ):
        found = Difference(value, value - half, value + half, 0.5, p_value)
        kinds = {"adjusted": adjusted, "count": 3}
        text = verdict(NAMES, found, **kinds)
        assert ("is larger" in text) == found.told_apart(adjusted) == ((adjusted or p_value) <= 0.05)
        assert found.told_apart(adjusted) or "cannot be told apart" in text
        if found.told_apart(adjusted):
            assert text.startswith("+0 is" if value > 0 else "+540 is")
            apart += 1
        assert ("after Holm over 3 comparisons" in text) == (adjusted is not None)
    assert apart == 2 * 4 * (2 + 3)


def test_what_cannot_be_tested_is_not_told_apart() -> None:
    """Two limits, or a pair that is undefined, alone or in a family."""
    for adjusted in (None, math.nan):
        assert not Difference(3.0).told_apart(adjusted)
        assert (
            mass_verdict(NAMES, Difference(None), adjusted)
            == "+0 and +540 cannot be compared: one of them is no estimate"
        )
        assert star_verdict(NAMES, Difference(3.0), NAMES, adjusted) == f"{CANNOT_TELL}: neither is an estimate"
    family = Family.of([0.01, None, 0.04])
    assert family.count == 2 and family.told_apart == [True, False, True]
    assert Family.of([0.04, 0.04]).told_apart == [False, False]


def test_a_limit_on_one_side() -> None:
    """The lead is at least what the nearer limit says."""
    assert star_verdict(NAMES, Difference(5.0, 1.25, None, None, 0.01), ["+0"]).startswith(
        "+0 is larger, by at least 1.25 nats"
    )
    assert star_verdict(NAMES, Difference(-5.0, None, -1.25, None, 0.01)).startswith(
        "+540 is larger, by at least 1.25 nats"
    )
