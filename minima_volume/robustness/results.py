"""The files that a study writes: summary.csv, sweep.csv and results.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from minima_volume.config.noise import HEADLINE
from minima_volume.errors import StaleError
from minima_volume.files.atomic import read_json, write_json, write_text
from minima_volume.files.yaml import dotted
from minima_volume.robustness.evaluate import Sweep, averaged_over_batches, read_sweep
from minima_volume.robustness.images import load_images
from minima_volume.robustness.noise import NAMES, SCALING, tensor_report
from minima_volume.robustness.study import REGIMES, Network, Study, refuse_others
from minima_volume.robustness.tables import (
    SUMMARY_KEY,
    SWEEP_KEY,
    Row,
    architecture_place,
    csv_text,
    merged,
    summary_row,
    sweep_rows,
)
from minima_volume.robustness.train import trained_model
from minima_volume.robustness.verdict import Sweeps, compare, judge_together, mean_drop
from minima_volume.robustness.volumes import ALL, subset
from minima_volume.stages.provenance import provenance

WAY_OUT = "Set them back, write to another folder with --output, or give --fresh to overwrite the tables"


def earlier(study: Study, fresh: bool) -> dict[str, Any]:
    """What results.json says from earlier runs; nothing if the tables are overwritten."""
    path = study.results_file
    return {} if fresh or not path.is_file() else read_json(path)


def check_mergeable(study: Study, networks: Sequence[Network], fresh: bool) -> None:
    """Refuse to put rows of different training settings into one table, before anything is trained.

    Raises:
        StaleError: names keys and values.
    """
    old = earlier(study, fresh)
    if not old:
        return
    mine = study.shared_settings()
    stored = {key: value for key, value in old["settings"].items() if not key.startswith("architectures.")}
    refuse_others(stored, mine, str(study.results_file), WAY_OUT)
    for name in {network.architecture for network in networks}:
        prefix = f"architectures.{name}."
        before = {key: value for key, value in old["settings"].items() if key.startswith(prefix)}
        if any(row["architecture"] == name for row in old["summary"]):
            refuse_others(before, _options(study, [name]), str(study.results_file), WAY_OUT)


def _options(study: Study, names: Sequence[str]) -> dict[str, Any]:
    have = study.config.architectures
    return dotted({"architectures": {name: dict(have[name]) for name in names}})  # type: ignore[index]


def write_results(
    study: Study, networks: Sequence[Network], *, fresh: bool, say: Callable[[str], object]
) -> dict[str, Any]:
    """Write the tables of measured networks, merged with those of earlier runs, and the verdicts on their architectures."""
    old = earlier(study, fresh)
    sweeps = {network: _known(study, network) for network in networks}
    new_summary = [summary_row(study, network, sweep) for network, sweep in sweeps.items()]
    new_sweep = [row for network, sweep in sweeps.items() for row in sweep_rows(study, network, sweep)]
    where = str(study.results_file)
    summary = merged(old.get("summary", []), new_summary, SUMMARY_KEY, where)
    sweep = merged(old.get("sweep", []), new_sweep, SWEEP_KEY, where)
    if kept := len(summary) - len(new_summary):
        say(f"merged with {kept} networks of earlier runs in {where}; --fresh overwrites them")
    if old_way := _averaged_over_batches(study, summary, sweeps):
        say(
            f"recalibrated columns of {', '.join(network.name for network in old_way)} are of averages over batches, not over images, "
            "and are left out of mean drops: run these networks again"
        )
    names = list(dict.fromkeys(network.architecture for network in networks))
    groups = {name: _comparable(study, name, summary, sweeps, old_way) for name in names}
    content = {
        "summary": summary,
        "sweep": sweep,
        "mean_drops": _joined(old, "mean_drops", [row for name in names for row in _mean_drops(name, groups[name])]),
        "verdicts": judge_together(
            _joined(old, "verdicts", [row for name in names for row in _verdicts(name, groups[name])])
        ),
        "tensors": {**old.get("tensors", {}), **_tensors(study, networks)},
        "settings": {**old.get("settings", {}), **study.shared_settings(), **_options(study, names)},
        "noise": {"scaling": SCALING, "names": NAMES, "seed": study.config.seeds.noise},
        "volumes": old.get("volumes", []),
        "layers": old.get("layers", []),
        "volume_subset": old.get("volume_subset", []),
        "provenance": provenance(study.config),
    }
    write_all(study, content)
    return content


def add_volumes(study: Study, content: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The same results with the volumes and layer profiles of some architectures, written."""
    volumes = [row for row in rows if row["part"] == ALL]
    layers = [row for row in rows if row["part"] != ALL]
    positions = subset(load_images(study.config.data), study.config.volume.subset).tolist()
    joined = {
        **content,
        "volumes": _joined(content, "volumes", volumes),
        "layers": _joined(content, "layers", layers),
        "volume_subset": positions,
    }
    write_all(study, joined)
    return joined


def write_all(study: Study, content: Mapping[str, Any]) -> None:
    """results.json last, so that it is never newer than the tables beside it."""
    write_text(study.results / "summary.csv", csv_text(content["summary"]))
    write_text(study.results / "sweep.csv", csv_text(content["sweep"]))
    write_json(study.results_file, content)


def _known(study: Study, network: Network) -> Sweep:
    sweep = read_sweep(study.sweep(network))
    if sweep is None:
        raise StaleError(f"{study.sweep(network)} is gone: run again")
    return sweep


def _averaged_over_batches(study: Study, summary: Sequence[Row], sweeps: Mapping[Network, Sweep]) -> list[Network]:
    """The networks of earlier runs whose recalibrated columns were measured with averages over batches of unequal sizes."""
    networks = [Network(row["architecture"], row["regime"], row["seed"]) for row in summary if row.get("recalibrated")]
    earlier_ones = [network for network in networks if network not in sweeps and study.sweep(network).is_file()]
    count = len(load_images(study.config.data).x_train)
    return [network for network in earlier_ones if averaged_over_batches(study.sweep(network), count)]


def _comparable(
    study: Study, name: str, summary: Sequence[Row], sweeps: Mapping[Network, Sweep], old_way: Sequence[Network]
) -> dict[str, dict[int, Sweep]]:
    """The networks of an architecture by regime and seed: this run's, and those of earlier runs under the same noise.

    Those recalibrated the `old_way` come without their recalibrated part.
    """
    first = next(sweep for network, sweep in sweeps.items() if network.architecture == name)
    groups: dict[str, dict[int, Sweep]] = {regime: {} for regime in REGIMES}
    for row in summary:
        if row["architecture"] == name and row["regime"] in groups:
            network = Network(name, row["regime"], row["seed"])
            found = sweeps.get(network) or read_sweep(study.sweep(network))
            if found is not None and _same_noise(found, first):
                if network in old_way:
                    found = replace(found, recalibrated=None, recalibrated_loss=None)
                groups[network.regime][network.seed] = found
    return groups


def _same_noise(a: Sweep, b: Sweep) -> bool:
    same = a.seeds.tolist() == b.seeds.tolist() and a.correct.shape[2] == b.correct.shape[2]
    return same and a.alphas.tolist() == b.alphas.tolist()


def _mean_drops(name: str, groups: Mapping[str, Sweeps]) -> list[Row]:
    rows = []
    for regime, sweeps in groups.items():
        if sweeps:
            row: Row = {"architecture": name, "regime": regime, "seeds": sorted(sweeps)}
            row |= {"drop": asdict(mean_drop(sweeps)), "drop_recalibrated": None}
            if all(sweep.recalibrated is not None for sweep in sweeps.values()):
                row["drop_recalibrated"] = asdict(mean_drop(sweeps, recalibrated=True))
            rows.append(row)
    return rows


def _verdicts(name: str, groups: Mapping[str, Sweeps]) -> list[Row]:
    """What an architecture's networks say, for `judge_together`; nothing where no seed has both."""
    clean, noisy = (groups[regime] for regime in REGIMES)
    if not set(clean) & set(noisy):
        return []
    alphas = [float(alpha) for alpha in next(iter(clean.values())).alphas if alpha > 0]
    found = {alpha: compare(name, clean, noisy, alpha) for alpha in alphas}
    rows: list[Row] = [
        {"alpha": alpha, "drop": asdict(v.drop), "accuracy": asdict(v.accuracy)} for alpha, v in found.items()
    ]
    return [{"architecture": name, "counts": list(found[HEADLINE].counts), "alphas": rows}]


def _joined(old: Mapping[str, Any], part: str, new: Sequence[Row]) -> list[Row]:
    """New rows, and the old ones of architectures that have none."""
    mine = {row["architecture"] for row in new}
    rows = [*(row for row in old.get(part, []) if row["architecture"] not in mine), *new]
    return sorted(rows, key=lambda row: architecture_place(row["architecture"]))


def _tensors(study: Study, networks: Sequence[Network]) -> dict[str, list[Row]]:
    """Per network: which tensors the noise hits, which not, and by how much."""
    images = load_images(study.config.data)
    return {network.name: tensor_report(trained_model(study, network, images)) for network in networks}
