"""Settings of the views check their own values."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from minima_volume import ViewSettings
from minima_volume.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scaling": "filters"}, "scaling 'filters' is not known; allowed: filter, none"),
        ({"names": 5}, "names 5 is not allowed"),
        ({"num_eigenvalues": 1.5}, "num_eigenvalues 1.5 is not allowed: it must be a whole number of at least 1"),
        ({"num_products": "60"}, "num_products '60' is not allowed: it must be a whole number of at least 6"),
        ({"density_vectors": -1}, "density_vectors -1 is not allowed: it must be a whole number of at least 0"),
        ({"density_steps": 0}, "density_steps 0 is not allowed: it must be a whole number of at least 1"),
        ({"ascent_steps": None}, "ascent_steps None is not allowed: it must be a whole number of at least 1"),
        ({"num_chains": True}, "num_chains True is not allowed: it must be a whole number of at least 0"),
        ({"num_chains": 1}, "num_chains 1 is not allowed: chains are compared with each other, so take 0 or at least 2"),
        ({"num_draws": 7}, "num_draws 7 is not allowed: it must be a whole number of at least 8"),
        ({"num_burn_in": 1.0}, "num_burn_in 1.0 is not allowed: it must be a whole number of at least 0"),
        ({"sam_rho": "a"}, "sam_rho 'a' is not allowed: it must be a positive number"),
        ({"asam_rho": -1}, "asam_rho -1 is not allowed: it must be a positive number"),
        ({"localisation": float("nan")}, "localisation nan is not allowed: it must be a positive number"),
        ({"step_size": 0.0}, "step_size 0.0 is not allowed: it must be a positive number"),
        ({"seed": True}, "seed True is not allowed: it must be a whole number of at least 0"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        ViewSettings(**options)


def test_numbers_of_numpy_are_numbers() -> None:
    given = ViewSettings(num_eigenvalues=np.int64(2), sam_rho=np.float64(0.1), seed=np.uint8(3), names=np.array(["a"]))
    same = ViewSettings(num_eigenvalues=2, sam_rho=0.1, seed=3, names=["a"])
    assert given == same and repr(given) == repr(same) and hash(given) == hash(same)
