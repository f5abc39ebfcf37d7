"""Which values the keys of results.json hold: a file of another making is refused before anything is read from it.

`experiments/README.md` says what the keys mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from minima_volume.errors import DamagedFileError, StaleError
from minima_volume.files.content import ADVICE

Number = float | None
Interval = Annotated[list[Number], Field(min_length=2, max_length=2)] | None
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
Fields = dict[str, Any]  # of `create_model`: key -> (type, ...) where readers need the key, else (type, None)


class _Kinds(BaseModel):
    """Strict types: no text or true/false where a number belongs. Keys that are not known here are ignored."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class _Settings(_Kinds):
    """What titles and axes are made of; the whole is compared with the run's."""

    data: dict[str, Any] = {}
    training: dict[str, Any] = {}
    model: dict[str, Any] = {}


class _Provenance(_Kinds):
    versions: dict[str, str]
    device: str
    threads: int
    git_revision: str | None


class _Growth(_Kinds):
    num_directions: list[int]
    values: list[list[Number] | None]
    effective_sample_sizes: list[list[Number] | None]
    largest_minus_log_directions: list[list[Number] | None]


class _Comparison(_Kinds):
    levels: Pair
    verdict: str
    told_apart: bool = False


class _Volumes(_Comparison):
    """Of two star regions."""

    log_volume_difference: Number
    log_volume_interval: Interval
    log_volume_probability: Number
    log_volume_p_value: Number = None
    log_volume_p_adjusted: Number = None


class _Masses(_Comparison):
    """Of two Gaussian local volumes."""

    difference: Number
    interval: Interval
    probability: Number
    p_value: Number = None
    p_adjusted: Number = None


class _Landscape(_Kinds):
    """What is there at every threshold."""

    format: int = 0
    fingerprint: str | None = None
    model_data_levels: list[int]
    variation: str = ""
    loss_landscape_data_param: int
    loss_threshold: float
    accuracy_threshold: Number = None
    dataset_type: str = ""
    base_dataset_size: int
    num_params: int | list[int] = 0
    num_zero_params: list[int] = []
    left_out_params: list[str] = []
    num_left_out_params: int = 0
    test_loss_values: list[float]
    test_accuracy_values: list[Number]
    train_loss_values: list[Number]
    start_loss_values: list[Number]
    trivial_loss: Number = None
    threshold_verdict: str | None = None
    settings: _Settings
    provenance: _Provenance | None = None
    weights_hashes: list[str]
    radius_tolerance: float = 0.0


def _star(suffix: str) -> Fields:
    """Star regions at a threshold of one kind."""
    return {
        f"log_exp_r_n{suffix}_values": (list[Number], ...),
        f"log_exp_r_n{suffix}_intervals": (list[Interval], ...),
        f"log_exp_r_n{suffix}_growth": (_Growth, ...),
        f"log_volume{suffix}_values": (list[Number], ...),
        f"log_volume{suffix}_intervals": (list[Interval], ...),
        f"effective_sample_size{suffix}": (list[Number], ...),
        f"largest_share{suffix}": (list[Number], ...),
        f"num_directions{suffix}": (list[int], ...),
        f"num_censored{suffix}": (list[int], ...),
        f"verdicts{suffix}": (list[str], ...),
        f"comparisons{suffix}": (list[_Volumes], ...),
        f"overall_verdict{suffix}": (str, ...),
        f"{'accuracy' if suffix else 'loss'}_ordering_violations": (int | None, None),
    }


def _masses(suffix: str) -> Fields:
    """Gaussian local volumes by one kind of threshold."""
    return {
        f"log_mass{suffix}_values": (list[list[Number]], ...),
        f"log_mass{suffix}_intervals": (list[list[Interval]], ...),
        f"log_mass{suffix}_methods": (list[list[str | None]], ...),
        f"log_mass{suffix}_num_stages": (list[list[Number]], ...),
        f"log_mass{suffix}_num_forward": (list[list[int | None]], ...),
        f"log_mass{suffix}_notes": (list[list[str | None]], ...),
        f"log_mass{suffix}_verdicts": (list[list[str | None]], ...),
        f"log_mass{suffix}_comparisons": (list[_Masses], ...),
        f"log_mass{suffix}_ordering_violations": (int | None, None),
    }


SIGMAS: Fields = {"sigmas": (Annotated[list[float], Field(min_length=1)], ...), "sigma": (float, ...)}
LEFT_OUT: Fields = {
    "num_params": (int | list[int], ...),
    "num_zero_params": (list[int], ...),
    "left_out_params": (list[str], ...),
}
# keys that come together: where one of the first is there, all of the second are
TOGETHER: tuple[tuple[Fields, Fields], ...] = (
    (_star("_acc"), _star("_acc")),
    (_masses(""), _masses("") | SIGMAS),
    (_masses("_acc"), _masses("_acc") | SIGMAS),
    (SIGMAS, SIGMAS),
    ({"num_left_out_params": ...}, LEFT_OUT),
)


@cache
def _kinds(*there: bool) -> type[BaseModel]:
    """What a file holds that has these of the keys that come together."""
    fields = _star("")
    for has, (_, more) in zip(there, TOGETHER, strict=True):
        fields |= more if has else {}
    return create_model("ResultsJson", __base__=_Landscape, **fields)


def check(content: Mapping[str, Any], path: Path) -> None:
    """Refuse what is no content of a results.json.

    Raises:
        StaleError: keys that are read are not there, as in a file of an earlier version.
        DamagedFileError: a value is of another kind, or a list has other entries than there are minima or sigmas.
    """
    there = (not first.keys().isdisjoint(content) for first, _ in TOGETHER)
    try:
        _kinds(*there).model_validate(dict(content))
    except ValidationError as error:
        wrong = [one for one in error.errors() if one["type"] != "missing" or len(one["loc"]) > 1]
        if not wrong:
            missing = ", ".join(str(one["loc"][0]) for one in error.errors())
            raise StaleError(
                f"{path} lacks {missing}: it is of an earlier version, or not a results.json; run "
                "'Volume Estimation Pipeline.ipynb' (`minima-volume run --stage volume`), which makes it again"
            ) from None
        key = wrong[0]["loc"][0]
        deepest = max((one for one in wrong if one["loc"][0] == key), key=lambda one: len(one["loc"]))
        raise _damaged(path, f"{_place(content, deepest['loc'])}: {deepest['msg'].lower()}") from None
    for reason in _misfits(content):
        raise _damaged(path, reason)


def _damaged(path: Path, reason: str) -> DamagedFileError:
    return DamagedFileError(f"{path} does not hold what this package writes into it ({reason[:160]}). {ADVICE}.")


def _place(content: Any, location: tuple[int | str, ...]) -> str:
    """Where in the file, and what is there; parts of a location that are names of alternatives are no places.

    >>> _place({"num_params": [1, "x"]}, ("num_params", "list[int]", 1))
    "num_params[1] is 'x'"
    """
    text, value = str(location[0]), content[location[0]]
    for step in location[1:]:
        inside = isinstance(value, list) if isinstance(step, int) else isinstance(value, dict) and step in value
        if inside:
            value, text = value[step], f"{text}[{step}]" if isinstance(step, int) else f"{text}.{step}"
    return f"{text} is {value!r:.40}"


PER_MINIMUM = (
    *("num_zero_params", "test_loss_values", "test_accuracy_values", "train_loss_values", "start_loss_values"),
    *("weights_hashes", "log_exp_r_n{}_values", "log_exp_r_n{}_intervals", "log_volume{}_values", "verdicts{}"),
    *("log_volume{}_intervals", "effective_sample_size{}", "largest_share{}", "num_directions{}", "num_censored{}"),
)
PER_SIGMA = ("values", "intervals", "methods", "num_stages", "num_forward", "notes", "verdicts")


def _misfits(content: Mapping[str, Any]) -> Iterator[str]:
    """Lists with another number of entries than the minima, sigmas or subsets that they are of."""
    lists = {key: content.get(key) for name in PER_MINIMUM for key in {name.format(""), name.format("_acc")}}
    if isinstance(content.get("num_params"), list):
        lists["num_params"] = content["num_params"]
    for suffix in ("", "_acc"):
        lists |= {f"log_mass{suffix}_{name}": content.get(f"log_mass{suffix}_{name}") for name in PER_SIGMA}
        growth = content.get(f"log_exp_r_n{suffix}_growth", {})
        sizes = len(growth.get("num_directions", ()))
        for name in _Growth.model_fields.keys() & growth.keys() - {"num_directions"}:
            key = f"log_exp_r_n{suffix}_growth.{name}"
            lists[key] = growth[name]
            yield from _unequal(key, growth[name], sizes, "numbers of directions")
    for key, entries in lists.items():
        count = len(content["model_data_levels"])
        if entries is not None and len(entries) != count:
            yield f"{key} has {len(entries)} entries for {count} minima"
        if entries is not None and key.startswith("log_mass"):
            yield from _unequal(key, entries, len(content["sigmas"]), "sigmas")
    if "sigma" in content and content["sigma"] not in content["sigmas"]:
        yield f"sigma {content['sigma']} is none of sigmas"


def _unequal(key: str, rows: list[Any], count: int, of: str) -> Iterator[str]:
    for i, row in enumerate(rows):
        if row is not None and len(row) != count:
            yield f"{key}[{i}] has {len(row)} entries for {count} {of}"
