"""Numbers as text."""


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
