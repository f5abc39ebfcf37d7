"""Numbers, lengths of time and lists as text."""

from __future__ import annotations

from collections.abc import Sequence


def fixed(value: float, digits: int = 2, sign: str = "") -> str:
    """A number with this many decimals; what rounds to zero has no minus.

    Args:
        value: the number.
        digits: decimals.
        sign: "+" writes the sign of positive numbers, and of zero, too.

    >>> fixed(-0.004), fixed(-1.234), fixed(-0.00001, 4, "+")
    ('0.00', '-1.23', '+0.0000')
    """
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def duration(seconds: float) -> str:
    """A length of time in words.

    >>> duration(42), duration(200), duration(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def listed(names: Sequence[object], most: int = 4) -> str:
    """The first few of some names.

    >>> listed(["a", "b"]), listed(["a", "b", "c"], 1)
    ('a, b', 'a and 2 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
