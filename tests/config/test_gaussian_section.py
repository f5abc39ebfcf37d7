"""The section volume.gaussian of config.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import make_run

from minima_volume.errors import ConfigError

SIGMA = 0.2  # +40 is then rare enough for splitting


def test_config_of_gaussian_volumes(tmp_path: Path) -> None:
    """Errors name the key."""
    for gaussian, message in (
        ({"sigma": 0}, r"volume.gaussian.sigma: 0 is not allowed"),
        ({"profile": [0.1]}, r"profile \[0.1\] needs a headline sigma"),
        ({"sigma": 0.1, "profile": [0.1000000001]}, "must differ from each other in their first 6 digits"),
        ({"sigma": 0.1, "num_particles": 5}, "volume.gaussian.num_particles: 5 is not allowed"),
        ({"sigma": 0.1, "estimator": "importance"}, "volume.gaussian.estimator: 'importance' is not allowed"),
        ({"sigma": 0.1, "sigmas": [1.0]}, "volume.gaussian.sigmas: unknown key"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_run(tmp_path / "model_0_data_10", {"volume.gaussian": gaussian})
