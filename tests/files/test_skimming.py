"""The fast reader of .pt files against torch's, for what is written and for what is hostile; headers of arrays that are read once."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from minima_volume.errors import DamagedFileError
from minima_volume.files.archives import read_arrays
from minima_volume.files.atomic import read_pt, write_pt
from minima_volume.files.content import skimmed


class Calls:
    """What calls a function as it is unpickled."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> Any:
        return self.function, self.given


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_what_is_written_is_read_as_torch_reads_it(tmp_path: Path):
    model, numbers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), torch.arange(12.0)
    types = torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64
    content = {
        "state_dict": model.state_dict(),
        "types": {str(dtype): numbers.to(dtype) for dtype in types},
        "views": [numbers.view(3, 4).t(), numbers[2:5], torch.zeros(0, 3), torch.tensor(2.0)],
        "nested": OrderedDict(a=OrderedDict(b=[1, 2.5, "three", None, True, float("inf")]), c=(1, 2)),
        "history": [0.1 * i for i in range(3000)],
        "large": 2**70,
    }
    path = write_pt(tmp_path / "a.pt", content)
    slow = read_pt(path)
    with skimmed():
        assert same(slow, read_pt(path))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "found",
    [Calls(os.system, "true"), Calls(getattr, "a", "upper"), Calls(eval, "1"), Calls(torch.hub.load, "a", "b"), nn.Linear(1, 1), print],
    ids=["system", "getattr", "eval", "hub", "module", "function"],
)  # fmt: skip
def test_what_would_call_something_is_refused(found: Any, protocol: int, tmp_path: Path):
    path = tmp_path / "a.pt"
    torch.save({"a": found}, path, pickle_protocol=protocol)
    with skimmed(), pytest.raises(DamagedFileError, match="it needs "):
        read_pt(path)


@pytest.mark.parametrize("module", ["minima_volume.files.skimming", "torch", "collections", "builtins"])
def test_no_other_name_of_an_allowed_module_is_given(module: str, tmp_path: Path):
    path = tmp_path / "a.pt"
    torch.save({"a": 1}, path)
    repacked(path, {"data.pkl": b"\x80\x02c" + module.encode() + b"\nnamedtuple\n."})
    with skimmed(), pytest.raises(DamagedFileError, match="it needs "):
        read_pt(path)


def test_torch_script_is_not_run(tmp_path: Path):
    """torch.load without weights_only would hand such an archive to its compiler."""
    path = tmp_path / "a.pt"
    torch.save({"a": 1}, path)
    repacked(path, {"constants.pkl": b"\x80\x02)."})
    with pytest.raises(DamagedFileError, match="it is TorchScript"):
        read_pt(path)
    with skimmed(), pytest.raises(DamagedFileError, match="it is TorchScript"):
        read_pt(path)


def repacked(path: Path, changed: dict[str, bytes]) -> None:
    """Replace members of a .pt, or add them."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(members)).split("/")[0]
    members |= {f"{folder}/{name}": content for name, content in changed.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_pickle_alone_is_no_archive(tmp_path: Path):
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(Calls(os.system, "true")))
    with skimmed(), pytest.raises(DamagedFileError, match="cannot be read"):
        read_pt(path)


def test_headers_of_every_kind_and_of_any_length_are_read():
    wide = np.zeros(3, [(f"a field with a name of some length, number {i}", "f4") for i in range(400)])
    kept = {"c": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.arange(6).reshape(2, 3)), "n": np.array(2)}
    file = io.BytesIO()
    np.savez(file, **kept)
    for _ in range(2):
        found = read_arrays(file, None, [])
        assert all(np.array_equal(found[key], kept[key]) and found[key].dtype == kept[key].dtype for key in kept)
    content, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(content, kept["c"], (2, 0))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", content.getvalue())
    assert np.array_equal(read_arrays(file, ["a"], [])["a"], kept["c"])
    file = io.BytesIO()
    np.savez(file, wide=wide)
    with pytest.raises(ValueError, match="[Hh]eader|expected"):
        read_arrays(file, None, [])
