"""The level of every interval and of every claim of the package."""

CONFIDENCE = 0.95  # of an interval
CLEAR = 0.05  # largest p-value of what is claimed: 1 - CONFIDENCE without its rounding
