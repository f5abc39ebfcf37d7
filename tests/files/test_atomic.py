"""Files: whole or not there, free of pickles, strict JSON."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_run, tree

import minima_volume as mv
from minima_volume.errors import ConfigError, DamagedFileError, MissingStageError
from minima_volume.files.atomic import (
    hash_arrays,
    read_json,
    read_npz,
    read_pt,
    write_atomic,
    write_json,
    write_npz,
    write_pt,
    write_text,
)


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} in a .json file")


def test_everything_a_run_writes_opens_without_pickles(digits_run):
    """Every .pt with weights_only=True, every .npz with allow_pickle=False, every .json strictly."""
    seen = set()
    for path in digits_run.folder.rglob("*"):
        seen.add(path.suffix)
        if path.suffix == ".pt":
            assert torch.load(path, weights_only=True)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                assert all(not archive[key].dtype.hasobject for key in archive.files)
        elif path.suffix == ".json":
            assert json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
        elif path.is_file():
            assert path.suffix in (".png", ".yaml"), path
    assert seen >= {".pt", ".npz", ".json", ".png", ".yaml"}


def test_a_malicious_pt_is_refused_and_not_run(tmp_path, copied):
    """A pickle in place of a model: an error that names the file, and its code does not run."""
    target = tmp_path / "owned"
    path = copied.model_file(0)
    path.write_bytes(pickle.dumps({"state_dict": Evil(target)}))
    with pytest.raises(DamagedFileError, match=rf"{path.name} cannot be read with weights_only=True"):
        mv.load_models_and_data(copied)
    torch.save({"state_dict": Evil(target)}, path)
    with pytest.raises(DamagedFileError, match=path.name):
        mv.load_models_and_data(copied)
    assert not target.exists()
    pickle.loads(pickle.dumps(Evil(target)))  # the trap itself works
    assert target.exists()


def test_an_npz_of_objects_is_refused_and_not_run(tmp_path, copied):
    """An old pickled sweep: an error that names the file, and its code does not run."""
    target = tmp_path / "owned"
    path = copied.sweep_file(0, 0)
    np.savez(path, wiggle_results=np.array([Evil(target)], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedFileError, match=rf"{path.name} cannot be read as a plain \.npz"):
        mv.load_wiggle_results(path)
    assert not target.exists()


def test_objects_are_not_written(tmp_path):
    """A pickle cannot be made by accident; nothing is left behind."""
    with pytest.raises(TypeError, match=r"a\.npz: x holds Python objects"):
        write_npz(tmp_path / "a.npz", {"x": [{"not": "plain"}]})
    for content in ({"x": Path("p")}, {"x": [{"y": np.float64(1)}, object()]}, {"x": np.zeros(2)}):
        with pytest.raises(TypeError, match=r"a\.pt.*would need a pickle"):
            write_pt(tmp_path / "a.pt", content)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), np.float64("nan"), np.array([1.0, np.inf])]
)
def test_json_has_no_nan(value, tmp_path):
    """Written: refused, and the old file stays. Read: refused."""
    path = write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"deep": [{"x": value}]})
    assert read_json(path) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ['{"x": NaN}', '{"x": -Infinity}', '{"x": 1', "", '{"x": 01}'])
def test_json_that_is_not_strict_is_not_read(text, tmp_path):
    """The message names the file and the way out."""
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"a\.json is not valid JSON .* run its stage again"):
        read_json(path)


def test_json_numbers_come_back_exactly(tmp_path):
    """float64 and integers survive the text."""
    values = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)
    content = {"x": values, "n": np.int64(2**53 + 1), "t": (1, None, True, "a")}
    assert read_json(write_json(tmp_path / "a.json", content)) == {
        "x": values.tolist(),
        "n": 2**53 + 1,
        "t": [1, None, True, "a"],
    }


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    """An exception in the middle of writing: the old bytes, and no temporary file."""
    path = write_text(tmp_path / "a.txt", "old")

    def broken(file) -> None:
        file.write(b"half of the new")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_atomic(path, broken)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_kill_9_leaves_whole_files_only(tmp_path):
    """A process killed while it writes a big file again and again: what is there is one whole write."""
    path = tmp_path / "big.npz"
    script = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom minima_volume.files.atomic import write_npz\n"
        "for i in range(10**6):\n"
        "    write_npz(Path(sys.argv[1]), {'a': np.full(2_000_000, i), 'b': np.full(2_000_000, i)})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)])
    try:
        deadline = time.monotonic() + 120
        seen = 0
        while seen < 3:  # in the middle of the second or a later write
            assert process.poll() is None and time.monotonic() < deadline
            seen += any(tmp_path.glob("*.tmp")) and path.is_file()
            time.sleep(0.02)
        while not any(p.stat().st_size for p in tmp_path.glob("*.tmp")):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    whole = read_npz(path)
    assert len(set(whole["a"].tolist()) | set(whole["b"].tolist())) == 1
    assert len(whole["a"]) == len(whole["b"]) == 2_000_000


def test_a_place_that_cannot_be_written_is_one_message(tmp_path):
    """The parent of the folder is a regular file."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(
        MissingStageError, match=r"deep/a\.json cannot be written: .*folder is writable.*nothing was changed"
    ):
        write_json(tmp_path / "file" / "deep" / "a.json", {})


def test_names_as_long_as_a_file_can_have(tmp_path):
    """One more character is one message, and what is left is nothing."""
    for name in ("a" * 255, "\u00fc" * 127):
        assert read_json(write_json(tmp_path / name, {"a": 1})) == {"a": 1}
    before = tree(tmp_path)
    with pytest.raises(MissingStageError, match=r"a cannot be written: .*Give it a shorter name; nothing was changed"):
        write_json(tmp_path / ("a" * 256), {})
    assert tree(tmp_path) == before


def test_a_read_only_folder_is_one_message_and_exit_code_1(tmp_path, cli, monkeypatch):
    """EROFS on opening for writing: the file, the reason and what to check; nothing half-written."""
    run = make_run(tmp_path / "model_0_data_10")
    before = tree(run.folder)
    opened = Path.open

    def read_only(self, mode="r", *args, **kwargs):
        if set("wx") & set(mode):
            raise OSError(30, "Read-only file system")
        return opened(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", read_only)
    code, _, err = cli("run", run.folder, "--quiet")
    monkeypatch.undo()
    assert code == 1
    assert "config.yaml cannot be written: Read-only file system" in err and "nothing was changed" in err
    assert tree(run.folder) == before


def test_a_full_disk_leaves_the_old_results(copied, cli, monkeypatch):
    """ENOSPC when the file is put in its place: one message, and the old files stay whole."""
    before = tree(copied.folder)

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    code, _, err = cli("run", copied.folder, "--stage", "cutoff", "--quiet")
    monkeypatch.undo()
    assert code == 1 and "cutoffs.json cannot be written: No space left on device" in err
    assert tree(copied.folder) == before


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
@pytest.mark.parametrize("kind", ["dataset", "model", "sweep", "radii", "results", "accuracies"])
def test_a_truncated_file_is_named(kind, share, copied):
    """Cut off anywhere, a file is an error that names it and says what to do."""
    path, read = {
        "dataset": (copied.dataset_file, read_pt),
        "model": (copied.model_file(20), read_pt),
        "sweep": (copied.sweep_file(0, 20), mv.read_sweep),
        "radii": (copied.radii_file(0, 0.5), read_npz),
        "results": (copied.results_file(0, 0.5), mv.load_results),
        "accuracies": (copied.accuracies_file, read_npz),
    }[kind]
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DamagedFileError) as failure:
        read(path)
    message = str(failure.value)
    assert str(path) in message and "\n" not in message
    assert "elete it and run" in message


@pytest.mark.parametrize(
    ("damage", "stage", "name"),
    [
        ("model_additional_20.pt", "perturb", "model_additional_20.pt"),
        ("dataset.pt", "accuracy", "dataset.pt"),
        ("data_20.npz", "volume", "data_20.npz"),
    ],
)
def test_a_stage_that_meets_a_truncated_file_stops_with_its_name(damage, stage, name, copied, cli):
    """Exit code 1, one line, and nothing is written."""
    path = next(copied.folder.rglob(damage))
    path.write_bytes(path.read_bytes()[:300])
    before = tree(copied.folder)
    code, _, err = cli("run", copied.folder, "--stage", stage, "--quiet")
    assert code == 1 and err.startswith("error: ") and name in err and err.count("\n") == 1
    assert tree(copied.folder) == before


def test_a_truncated_results_json_is_made_again(copied):
    """results.json can be recomputed from the sweep, so a damaged one is not an obstacle."""
    path = copied.results_file(20, 0.5)
    whole = read_json(path)
    path.write_text(path.read_text(encoding="utf-8")[:500], encoding="utf-8")
    mv.estimate_volumes(copied, progress=False)
    assert read_json(path) == whole


@pytest.mark.parametrize("read", [read_json, read_npz, read_pt, mv.read_sweep, mv.load_results])
def test_a_missing_file_is_named(read, tmp_path):
    """Not a FileNotFoundError traceback."""
    with pytest.raises(MissingStageError, match=r"nothing\.here does not exist"):
        read(tmp_path / "nothing.here")


def test_weights_that_were_exchanged_are_noticed(copied):
    """A model file whose weights are not those it was saved with."""
    content = read_pt(copied.model_file(0))
    content["state_dict"]["layers.1.bias"][0] += 1
    write_pt(copied.model_file(0), content)
    with pytest.raises(DamagedFileError, match=r"model_additional_0\.pt: the weights do not match their hash"):
        mv.load_models_and_data(copied)


def test_hashes_tell_names_shapes_types_and_values_apart():
    """Any change of the content changes the hash; a copy does not."""
    base = {"a": torch.arange(4.0), "b": torch.zeros(2, dtype=torch.int64)}
    others = [
        {"a": torch.arange(4.0)},
        {"c": torch.arange(4.0), "b": base["b"]},
        {"a": torch.arange(4.0).reshape(2, 2), "b": base["b"]},
        {"a": torch.arange(4.0).double(), "b": base["b"]},
        {"a": torch.arange(4.0) + 1e-7, "b": base["b"]},
    ]
    assert hash_arrays({key: value.clone() for key, value in base.items()}) == hash_arrays(base)
    assert len({hash_arrays(content) for content in [base, *others]}) == len(others) + 1


@pytest.mark.parametrize(("path", "shown"), [(None, "None"), (3, "3"), ([], "a list")])
@pytest.mark.parametrize("read", [read_json, read_npz, read_pt, mv.read_sweep])
def test_what_is_no_path(read, path, shown):
    """One message, not the system's."""
    with pytest.raises(ConfigError, match=rf"path {shown} is not allowed: it must be the name of a file"):
        read(path)


def test_a_path_may_be_text(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    write_npz(tmp_path / "a.npz", {"a": 1})
    assert read_json(str(tmp_path / "a.json")) == {"a": 1} and read_npz(str(tmp_path / "a.npz"))["a"] == 1
    with pytest.raises(MissingStageError, match=r"b\.npz does not exist"):
        mv.read_sweep(str(tmp_path / "b.npz"))
