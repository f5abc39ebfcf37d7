"""Malformed files of every kind that is read: nothing is executed, no traceback, no other numbers, and not for long."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from campaigns.common import MAX_SECONDS, Tally, analyzed, call, restore, small_run
from campaigns.same import same
from minima_volume.errors import MinimaVolumeError
from minima_volume.files.atomic import read_json, read_npz, read_pt, write_json, write_npz, write_pt

READ: dict[str, Callable[[Path], dict]] = {".json": read_json, ".npz": read_npz, ".pt": read_pt}
ODD = [None, [], {}, "", "x", -1, 0, 1e308, True, [[]], [None], {"a": []}, "9" * 5000, [1, "x"], 2**70]
MAX_GIB = 1.0
ANALYZED = 0.05  # share of cases in which all figures are drawn, too


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def damaged(path: Path, chance: random.Random) -> str:
    """Damage the bytes of a file; returns how."""
    content = bytearray(path.read_bytes())
    size, place = len(content), chance.randrange(len(content))
    kind = chance.choice(["bit", "bits", "cut", "zeros", "copy", "more", "empty", "noise"])
    if kind == "bit":
        content[place] ^= 1 << chance.randrange(8)
    elif kind == "bits":
        for _ in range(20):
            content[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "zeros":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    elif kind == "copy":
        content[place : place + 100] = content[: len(content[place : place + 100])]
    elif kind == "more":
        content += chance.randbytes(50)
    elif kind == "empty":
        content.clear()
    else:
        content[:] = chance.randbytes(size)
    path.write_bytes(content)
    return f"damage: {kind} at {place}"


def wrong(path: Path, chance: random.Random, trap: Path) -> str:
    """Put readable but wrong content in a file's place; returns what."""
    if path.suffix == ".json":
        return _wrong_json(path, chance)
    if path.suffix == ".npz":
        return _wrong_npz(path, chance, trap)
    if path.suffix == ".pt":
        return _wrong_pt(path, chance, trap)
    return _replaced(path, chance)


def _replaced(path: Path, chance: random.Random) -> str:
    kind = chance.choice(["pipe", "folder", "list", "deep", "null"])
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text({"list": "[1, 2]", "deep": "[" * 100_000, "null": "null"}[kind], encoding="utf-8")
    return f"replaced: {kind}"


def _wrong_json(path: Path, chance: random.Random) -> str:
    kind = chance.choice(["key", "value", "value", "value", "deep value", "replaced", "nan"])
    if kind == "replaced":
        return _replaced(path, chance)
    content = read_json(path)
    key = chance.choice(list(content))
    if kind == "nan":
        path.write_text('{"x": NaN}', encoding="utf-8")
    elif kind == "key":
        del content[key]
    elif kind == "value":
        content[key] = chance.choice(ODD)
    elif isinstance(content[key], list) and content[key]:
        content[key][chance.randrange(len(content[key]))] = chance.choice(ODD)
    elif isinstance(content[key], dict) and content[key]:
        content[key][chance.choice(list(content[key]))] = chance.choice(ODD)
    if kind != "nan":
        if chance.random() < 0.5:
            write_json(path, content)
        else:
            path.write_text(json.dumps(content), encoding="utf-8")
    return f"wrong: {kind} {key}"


def _wrong_npz(path: Path, chance: random.Random, trap: Path) -> str:
    kind = chance.choice(["missing", "extra", "shape", "kind", "text", "objects", "bomb", "lie", "replaced"])
    if kind == "replaced":
        return _replaced(path, chance)
    content = read_npz(path)
    key = chance.choice(list(content))
    if kind == "missing":
        del content[key]
    elif kind == "extra":
        content["more"] = np.zeros((3, 3))
    elif kind == "shape":
        content[key] = np.zeros(chance.choice([(0,), (2,), (3, 1, 4), ()]))
    elif kind == "kind":
        content[key] = content[key].astype("U8") if content[key].dtype.kind != "U" else np.zeros(content[key].shape)
    elif kind == "text":
        content[key] = np.array('{"a": [')
    if kind in ("bomb", "lie"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{key}.npy", "w") as member:
            shape = (2**26,) if kind == "bomb" else (2**40,)
            np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": shape})
            for _ in range(32 if kind == "bomb" else 0):
                member.write(bytes(2**24))
    elif kind == "objects":
        np.savez(path, **{key: np.array([Trap(trap)], dtype=object)}, allow_pickle=True)
    else:
        write_npz(path, content)
    return f"wrong: {kind} {key}"


def _wrong_pt(path: Path, chance: random.Random, trap: Path) -> str:
    kind = chance.choice(["missing", "value", "value", "weights", "pickle", "trap", "list", "expanded", "replaced"])
    if kind == "replaced":
        return _replaced(path, chance)
    content = read_pt(path)
    key = chance.choice(list(content))
    if kind == "missing":
        del content[key]
    elif kind == "value":
        content[key] = chance.choice([*ODD[:9], torch.zeros(3), torch.zeros(0), {"a": torch.zeros(1)}])
    elif kind == "weights":
        content[key] = {"a.b": torch.zeros(2), "": torch.zeros(1)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Trap(trap)}))
    elif kind == "trap":
        torch.save({"state_dict": Trap(trap)}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "expanded":
        torch.save({**content, key: torch.zeros(1).expand(2**45)}, path)
    else:
        write_pt(path, content)
    return f"wrong: {kind} {key}"


def campaign(count: int, seed: int = 0) -> Tally:
    """Attack a run `count` times; each file that is read, each way, is as likely."""
    tally, chance, start = Tally("malformed files"), random.Random(seed), _peak_gib()
    with tempfile.TemporaryDirectory() as folder:
        pristine = small_run(Path(folder) / "pristine")
        call("views", pristine.folder, "--chains", 0, "--quiet")
        base, trap = Path(folder) / "attacked" / "base", Path(folder) / "trap"
        suffixes = (".json", ".npz", ".pt", ".png", ".ipynb", ".yaml")
        files = [p.relative_to(pristine.folder) for p in sorted(pristine.folder.rglob("*")) if p.suffix in suffixes]
        for number in range(count):
            restore(base, pristine.folder.parent)
            path = base / pristine.folder.name / chance.choice(files)
            by_damage = chance.random() < 0.5
            how = damaged(path, chance) if by_damage else wrong(path, chance, trap)
            case = f"{number} {path.name}, {how}"
            problems, seconds = _problems(path, base, pristine.folder, by_damage, chance)
            if trap.exists():
                problems.append("code was executed")
                shutil.rmtree(trap)
            if _peak_gib() > MAX_GIB + start:
                problems.append(f"{_peak_gib():.1f} GiB")
                start = _peak_gib()
            tally.add(case, problems, seconds)
    return tally


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _problems(
    path: Path, base: Path, pristine: Path, by_damage: bool, chance: random.Random
) -> tuple[list[str], float]:
    run = base / pristine.name
    problems = []
    if by_damage and path.suffix in READ:
        try:
            found, true = READ[path.suffix](path), READ[path.suffix](pristine / path.relative_to(run))
            if not same({key: found.get(key) for key in true}, true):
                problems.append("accepted with other numbers")
        except MinimaVolumeError:
            pass
    stage = chance.choice(["train", "perturb", "volume", "cutoff", "accuracy"])
    said = {
        "status": call("status", base, "--verify"),
        f"run --stage {stage}": call("run", run, "--stage", stage, "--quiet"),
    }
    if chance.random() < ANALYZED:
        said["analyze"] = call("analyze", base)
    for name, one in said.items():  # analyze draws all figures of a condition
        problems += [f"{name}: {problem}" for problem in one.problems(limit=60 if name == "analyze" else MAX_SECONDS)]
    problems += analyzed(base)
    return problems, max(one.seconds for name, one in said.items() if name != "analyze")
