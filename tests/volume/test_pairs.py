"""Volumes of your own models in pairs and several at once: closed forms, refusals, shared draws, Holm."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import ncx2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import minima_volume as mv
from minima_volume.errors import ConfigError, UnboundedError
from minima_volume.volume.claims import holm

K = 4
X = torch.eye(K, dtype=torch.float64)
Y = torch.zeros(K, 1, dtype=torch.float64)
QUICK = {"scaling": "none", "progress": False, "estimator": "monte_carlo"}
BALL = {"scaling": "none", "names": ["0"], "progress": False, "measure": "ball", "num_directions": 24}


def off(distance: float) -> nn.Module:
    """Output w x with weights `distance` away from what fits: |w|^2 / K is the loss, a ball of which they are not the centre."""
    model = nn.Linear(K, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, distance / math.sqrt(K))
    return model


def steep(steepness: float) -> nn.Module:
    """Output a w x, a the weight of the second layer, which stays: the region has 1 / a of the width in every direction."""
    model = nn.Sequential(nn.Linear(K, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    nn.init.zeros_(model[0].weight), nn.init.constant_(model[1].weight, steepness)
    return model


def exact(distance: float, sigma: float, threshold: float = 0.1) -> float:
    """log P[|w + sigma z|^2 / K <= threshold]."""
    return math.log(ncx2.cdf(K * threshold / sigma**2, K, (distance / sigma) ** 2))


def mass(distance: float = 0.0, **keywords) -> mv.LocalVolume:
    settings = {"threshold": 0.1, "sigma": 0.3, **QUICK, **keywords}
    x, y = settings.pop("x", X), settings.pop("y", Y)
    return mv.measure_volume(off(distance), x, y, settings.pop("loss", "mse"), **settings)


def star(steepness: float = 1.0, **keywords) -> mv.VolumeEstimate:
    return mv.measure_volume(steep(steepness), X, Y, "mse", **{"threshold": 0.1, **BALL, **keywords})


def test_a_difference_of_log_masses_is_the_exact_one():
    """Within six standard errors; told apart, and the larger one is named."""
    wide, narrow = mass(0.05), mass(0.5)
    found = mv.compare(wide, narrow, ("wide", "narrow"))
    error = math.hypot(wide.standard_error, narrow.standard_error)
    assert found.difference == pytest.approx(exact(0.05, 0.3) - exact(0.5, 0.3), abs=6 * error)
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.told_apart and found.probability > 0.99 and found.p_value < 0.01
    assert str(found).startswith("wide is larger than narrow") and "this comparison alone" in str(found)
    back = mv.compare(narrow, wide)
    assert (back.difference, back.probability) == (-found.difference, pytest.approx(1 - found.probability))


def test_equal_minima_are_not_told_apart():
    """The same model twice: the difference is 0, the interval holds it."""
    found = mv.compare(mass(), mass())
    assert found.difference == 0 and not found.told_apart and "cannot be told apart" in found.verdict


def test_a_difference_of_star_regions_is_the_exact_one():
    """Along shared directions the ratio of all radii is 2: K log 2, with no scatter at all."""
    found = mv.compare(star(1.0), star(2.0), ("wide", "narrow"))
    assert found.difference == pytest.approx(K * math.log(2), abs=0.003)
    assert found.interval == pytest.approx((found.difference,) * 2, abs=0.003)
    assert found.told_apart and found.verdict.startswith("wide is larger")


OTHERS = {
    "sigma": ({"sigma": 0.2}, "0.3 and 0.2"),
    "scaling": ({"scaling": "layer"}, "none and layer"),
    "threshold": ({"threshold": 0.2}, "loss threshold 0.1 and loss threshold 0.2"),
    "loss": ({"loss": "bce_with_logits", "threshold": 0.7}, "mse and bce_with_logits"),
    "samples": ({"x": 2 * X}, "4 samples"),
    "names": ({"names": "all"}, "weight_bias and all"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_was_measured_differently_is_refused(what: str):
    """Both values are named, on one line."""
    changed, text = OTHERS[what]
    with pytest.raises(ConfigError, match="measure both alike") as error:
        mv.compare(mass(), mass(**changed), ("a", "b"))
    message = str(error.value)
    assert f"{what}: " in message and text in message and "\n" not in message and message.startswith("a and b")


def test_other_samples_of_the_same_number_are_other_samples():
    """By their hash; the same samples in another tensor are the same."""
    with pytest.raises(ConfigError, match="samples: 4 samples"):
        mv.compare(mass(), mass(y=Y + 0.01))
    assert mass(x=X.clone(), y=Y.clone()).samples_hash == mass().samples_hash
    assert mass(x=X[[1, 0, 2, 3]]).samples_hash != mass().samples_hash


def test_kinds_do_not_mix():
    """A mass and a star region, two measures, two balls; profiles have a way out."""
    profile = mass(sigma=[0.2, 0.3])
    with pytest.raises(ConfigError, match="measure: gaussian and ball"):
        mv.compare(mass(), star())
    with pytest.raises(ConfigError, match="measure: ball and lebesgue"):
        mv.compare(star(), star(measure="lebesgue"))
    with pytest.raises(ConfigError, match="max_coefficient: 16 and 20"):
        mv.compare(star(), star(max_coefficient=20.0))
    with pytest.raises(ConfigError, match=r"profile.at\(sigma\), of 0.2, 0.3"):
        mv.compare(profile, mass())
    with pytest.raises(ConfigError, match="sigma 0.5 was not measured; the profile has 0.2, 0.3"):
        profile.at(0.5)
    with pytest.raises(ConfigError, match="is a float"):
        mv.compare(mass(), 3.0)  # type: ignore[arg-type]
    assert mv.compare(profile.at(0.3), mass(0.5), ("a", "b")).sigma == 0.3


def test_an_estimate_knows_what_it_was_measured_on():
    """Threshold, sigma, scaling, loss, samples, settings: also by accuracy."""
    one = mass(seed=7)
    assert (one.threshold, one.sigma, one.scaling, one.loss) == (0.1, 0.3, "none", "mse")
    assert one.context.kind == "loss" and one.context.num_samples == K and len(one.samples_hash) == 16
    assert one.settings["seed"] == 7 and one.settings["estimator"] == "monte_carlo"
    labels = torch.arange(20) % 2
    model = nn.Linear(1, 2, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-5.0], [5.0]]))
        model.bias.copy_(torch.tensor([2.5, -2.5]))
    by_accuracy = mv.measure_volume(
        model, labels[:, None].double(), labels, accuracy_threshold=0.9, sigma=0.1, progress=False
    )
    assert by_accuracy.context.where == "accuracy threshold 0.9"


def test_several_models_are_measured_as_each_alone():
    """Shared draws: the same numbers as one by one, and Holm over all pairs."""
    models = {"a": off(0.05), "b": off(0.5), "c": off(0.505)}
    several = mv.measure_volumes(models, X, Y, "mse", threshold=0.1, sigma=0.3, **QUICK)
    for name, distance in (("a", 0.05), ("b", 0.5), ("c", 0.505)):
        assert several[name].log_mass == mass(distance).log_mass
    pairs = list(itertools.combinations("abc", 2))
    assert [pair.names for pair in several.comparisons] == pairs
    raw = [mv.compare(several[a], several[b]).p_value for a, b in pairs]
    assert [pair.p_adjusted for pair in several.comparisons] == holm(raw).tolist()
    assert [pair.told_apart for pair in several.comparisons] == (holm(raw) <= 0.05).tolist()
    assert several.comparisons[0].told_apart and not several.comparisons[2].told_apart
    assert several.verdict.count("after Holm over 3 comparisons") == 3
    assert list(several.table().index) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="name -> model"):
        mv.measure_volumes([off(0.0)], X, Y, "mse", threshold=0.1, sigma=0.3)  # type: ignore[arg-type]


def test_several_profiles_and_star_regions():
    """Every pair at every sigma is one family; of star regions the exact difference."""
    models = {"a": off(0.0), "b": off(0.5)}
    profiles = mv.measure_volumes(models, X, Y, "mse", threshold=0.1, sigma=[0.2, 0.3], **QUICK)
    assert [pair.sigma for pair in profiles.comparisons] == [0.2, 0.3]
    assert {pair.num_compared for pair in profiles.comparisons} == {2}
    assert profiles.table().shape[0] == 4 and "sigma 0.3: a is larger than b" in profiles.verdict
    models = {"a": steep(1.0), "b": steep(2.0)}
    stars = mv.measure_volumes(models, X, Y, "mse", threshold=0.1, **BALL)
    assert stars.comparisons[0].difference == pytest.approx(K * math.log(2), abs=0.003)
    assert stars.verdict.startswith("a is larger, by 2.77") and "of this pair alone" in stars.verdict


def test_a_loader_is_read_once():
    """Random transforms would give each model other samples."""

    class Noisy(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x + torch.rand(1, dtype=torch.float64) * 1e-3, y

    found = mv.measure_volumes(
        {"a": off(0.0), "b": off(0.5)}, DataLoader(Noisy(X, Y)), loss="mse", threshold=0.1, sigma=0.3, **QUICK
    )
    assert found["a"].samples_hash == found["b"].samples_hash


def test_an_error_names_the_model():
    """Of the second one, whose region is unbounded."""
    flat = nn.Sequential(nn.Linear(K, 1, dtype=torch.float64), nn.ReLU())
    nn.init.zeros_(flat[0].weight), nn.init.constant_(flat[0].bias, -1.0)
    models = {"good": steep(1.0), "flat": flat}
    with pytest.raises(UnboundedError, match="^model 'flat': .* never cross the threshold"):
        mv.measure_volumes(models, X, Y, "mse", threshold=0.1, **{**BALL, "measure": "lebesgue"})


def test_what_is_outside_is_compared_with_nothing():
    """It has no volume: no difference, no claim, a dash in tables."""
    outside = mass(y=Y + 9)
    assert outside.log_mass is None
    found = mv.compare(mass(y=Y + 9, threshold=0.1), outside)
    assert found.difference is None and found.interval == (None, None) and not found.told_apart
    assert "cannot be compared" in found.verdict
    assert np.isnan(mv.table({"outside": outside}).loc["outside", "log_mass"])


def test_a_table_says_what_the_estimates_say():
    """A row each, of a profile one per sigma, kinds mixed; what is undefined is NaN."""
    profile, region = mass(sigma=[0.2, 0.3]), star()
    table = mv.table({"one": mass(), "profile": profile, "region": region})
    assert list(table.index) == ["one", "profile", "profile", "region"]
    assert table.loc["one", "log_mass"] == mass().log_mass and table.loc["one", "threshold"] == 0.1
    assert table.loc["profile", "sigma"].tolist() == [0.2, 0.3]
    assert table.loc["profile", "lower"].tolist() == profile.interval[:, 0].tolist()
    assert table.loc["region", "log_volume"] == region.log_volume and np.isnan(table.loc["region", "sigma"])
    with pytest.raises(ConfigError, match="name -> result"):
        mv.table({})
    with pytest.raises(ConfigError, match="x is a int"):
        mv.table({"x": 3})


def test_texts_are_short():
    """Six significant digits and the verdict; as HTML a small table, escaped."""
    one = mass()
    assert str(one) == f"log mass {one.log_mass:.6g} at sigma 0.3, loss threshold 0.1; {one.verdict}"
    assert str(star()).startswith(f"log volume {star().log_volume:.6g} (ball)")
    assert len(str(one)) < 200 and "Repeat" not in str(one)
    several = mv.measure_volumes({"<a>": off(0.0), "b": off(0.5)}, X, Y, "mse", threshold=0.1, sigma=0.3, **QUICK)
    html = several._repr_html_()
    assert "&lt;a&gt;" in html and "<a>" not in html and html.count("<tr>") == 3


def wide(units: int) -> nn.Module:
    """A linear network with a hidden layer: 5 `units` weights, in whatever width the same function of its product."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(K, units, bias=False), nn.Linear(units, 1, bias=False)).double()


def test_networks_of_different_sizes():
    """Probabilities are compared, with a note; volumes in spaces of different dimension have no common unit."""
    threshold = 1.0
    first, second = (
        mv.measure_volume(wide(units), X, Y, "mse", threshold=threshold, sigma=0.3, **QUICK) for units in (2, 3)
    )
    assert "they have 10 and 15 parameters: sigma does not mean the same" in mv.compare(first, second).verdict
    assert "parameters" not in mv.compare(first, first).verdict
    names = BALL | {"names": "all"}
    stars = [mv.measure_volume(wide(units), X, Y, "mse", threshold=threshold, **names) for units in (2, 3)]
    with pytest.raises(ConfigError, match=r"parameters: 10 and 15\)"):
        mv.compare(*stars)


def test_a_name_that_was_not_measured():
    """The error lists those that were."""
    volumes = mv.measure_volumes({"a": off(0.0), "b": off(0.1)}, X, Y, "mse", threshold=0.1, sigma=0.3, **QUICK)
    with pytest.raises(ConfigError, match="no volume of 'c'; measured were 'a', 'b'"):
        volumes["c"]
