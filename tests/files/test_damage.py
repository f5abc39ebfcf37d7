"""Damaged files are not read as good, and what is readable but wrong is one line that names the file."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tree

import minima_volume as mv
from minima_volume.errors import DamagedFileError, MinimaVolumeError, MissingStageError
from minima_volume.files.archives import FREE_BYTES
from minima_volume.files.atomic import read_json, read_npz, read_pt, write_json, write_npz, write_pt
from minima_volume.files.content import HASH_KEY
from minima_volume.files.verify import check_figure, verify
from minima_volume.runs.status import status


def states(folder: Path) -> dict[str, str]:
    return {row.stage: row.state for row in status(folder, verify=True)}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_one_flipped_bit_in_a_model_is_noticed(copied):
    """In its numbers, where torch itself does not look: the history that test_loss is read from."""
    path = copied.model_file(20)
    content = path.read_bytes()
    place = content.index(np.float64(read_pt(path)["test_loss"][-1]).byteswap().tobytes())  # pickled, big-endian
    flip(path, place + 2)
    assert torch.load(path, weights_only=True)["test_loss"][-1] != read_pt_of(content)["test_loss"][-1]
    with pytest.raises(DamagedFileError, match=r"model_additional_20\.pt cannot be read .*CRC-32"):
        mv.load_models_and_data(copied)
    assert states(copied.folder)["train"] == "damaged"


def test_a_look_at_states_computes_no_hash(copied, monkeypatch):
    """It sees files that end too early and values of another kind; flipped bits are for `verify` and for everything that uses a file."""

    def refuse(*arguments: object) -> str:
        raise AssertionError("a hash is computed")

    with monkeypatch.context() as patched:
        for module in ("files.content._text_hash", "stages.trained.hash_arrays", "files.verify.zlib"):
            patched.setattr(f"minima_volume.{module}", refuse)
        assert {row.state for row in status(copied.folder)} == {"complete"}
    path = copied.results_file(0, 0.5)
    path.write_text(
        path.read_text(encoding="utf-8").replace('"loss_threshold": 0.5', '"loss_threshold": 0.25'), "utf-8"
    )
    assert {row.state for row in status(copied.folder)} == {"complete"} and states(copied.folder)["volume"] == "damaged"
    with pytest.raises(DamagedFileError, match="was changed since it was written"):
        mv.load_results(path)
    path.write_text(
        path.read_text(encoding="utf-8").replace('"content_hash": "', '"content_hash": null, "old": "'), "utf-8"
    )
    with pytest.raises(DamagedFileError, match="was changed since it was written"):
        mv.load_results(path)
    for place, stage in ((path, "volume"), (copied.model_file(20), "train"), (copied.loss_curves_figure, "cutoff")):
        place.write_bytes(place.read_bytes()[:-20])
        assert {row.stage: row.state for row in status(copied.folder)}[stage] == "damaged", place


def read_pt_of(content: bytes) -> dict:
    return torch.load(io.BytesIO(content), weights_only=True)


@pytest.mark.parametrize("name", ["dataset", "model", "sweep", "radii", "accuracies", "results", "cutoffs"])
def test_flipped_bits_never_give_other_numbers(name, copied):
    """Two hundred places, spread over the file: an error, or what was there before."""
    path = {
        "dataset": copied.dataset_file,
        "model": copied.model_file(20),
        "sweep": copied.sweep_file(0, 20),
        "radii": copied.radii_file(0, 0.5),
        "accuracies": copied.accuracies_file,
        "results": copied.results_file(0, 0.5),
        "cutoffs": copied.cutoffs_file,
    }[name]
    read = {".pt": read_pt, ".npz": read_npz, ".json": read_json}[path.suffix]
    content, true, refused = path.read_bytes(), read(path), 0
    for place in np.linspace(0, len(content) - 1, 200).astype(int):
        flip(path, place)
        try:
            found = read(path)
            assert same({key: found[key] for key in true}, true), place
        except DamagedFileError:
            refused += 1
        path.write_bytes(content)
    assert refused > 100  # the other bits are of fields that nothing is read from


def same(first, second) -> bool:
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.tobytes() == second.tobytes()
    return first == second


def test_a_hash_is_of_values_not_of_layout(tmp_path):
    """Reformatted by another program: no damage. A changed value: damage. From before: readable, and unverified."""
    content = {"x": [1.0, 0.1, None], "y": {"b": True, "a": "ü"}}
    path = write_json(tmp_path / "a.json", content)
    assert HASH_KEY in json.loads(path.read_text(encoding="utf-8")) and read_json(path) == content and verify(path)
    text = path.read_text(encoding="utf-8")
    again = json.dumps(dict(reversed(json.loads(text).items())), indent=None).replace("1.0", "1")
    path.write_text(again, encoding="utf-8")
    assert read_json(path) == content and verify(path)
    path.write_text(text.replace("0.1", "0.2"), encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"a\.json was changed since it was written: .*Delete it and run"):
        read_json(path)
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_json(path) == content and verify(path) is False


def bomb(path: Path, size: int) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (size // 8,)})
        for _ in range(size // 2**24):
            member.write(bytes(2**24))


def lying(path: Path) -> None:
    """A header that promises a terabyte, over eight bytes."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (2**37,)})
        member.write(bytes(8))


def test_what_would_unpack_to_too_much_is_refused_beforehand(tmp_path):
    """Zip bombs, headers that lie, compressed or expanded tensors."""
    path = tmp_path / "a.npz"
    bomb(path, 2 * FREE_BYTES)
    with pytest.raises(DamagedFileError, match="would unpack to 0.5 GiB from"):
        read_npz(path)
    lying(path)
    with pytest.raises(DamagedFileError, match=r"says that its shape is \(137438953472,\)"):
        read_npz(path)
    torch.save({"x": torch.zeros(1).expand(2**40)}, tmp_path / "a.pt")
    with pytest.raises(DamagedFileError, match="a tensor says that its shape is"):
        read_pt(tmp_path / "a.pt")
    write_pt(tmp_path / "b.pt", {"x": torch.zeros(10)})
    with (
        zipfile.ZipFile(tmp_path / "b.pt") as whole,
        zipfile.ZipFile(tmp_path / "c.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in whole.infolist():
            new.writestr(member.filename, whole.read(member))
    with pytest.raises(DamagedFileError, match="is compressed"):
        read_pt(tmp_path / "c.pt")


@pytest.mark.parametrize("content", ["[1, 2]", '"x"', "3", "null", "[" * 100_000, '{"x": ' * 5000 + "1", "9" * 5000])
def test_json_that_is_no_object_is_one_line(content, tmp_path):
    """A list, a number, nesting without end, a number of 5,000 digits."""
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"a\.json") as failure:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(failure.value) and len(str(failure.value)) < 400


@pytest.mark.parametrize("content", [[1], 3, "x", torch.zeros(2)])
def test_a_pt_that_is_no_dictionary_is_one_line(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DamagedFileError, match=r"a\.pt cannot be read .*not a dictionary"):
        read_pt(tmp_path / "a.pt")


@pytest.mark.parametrize("read", [read_json, read_npz, read_pt])
def test_pipes_and_folders_are_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(DamagedFileError, match=f"{name} is not a plain file"):
            read(tmp_path / name)


def test_damaged_figures_radii_and_missing_notebooks_are_not_complete(copied, cli):
    """Each has a message; `run` measures the radii again."""
    for name in ("log_volume.png", "growth.png"):
        figure = copied.results_file(0, 0.5).with_name(name)
        whole = figure.read_bytes()
        figure.write_bytes(whole[:-3])
        assert states(copied.folder)["volume"] == "damaged"
        figure.write_bytes(whole)
        flip(figure, len(whole) // 2)
        with pytest.raises(DamagedFileError, match=name):
            check_figure(figure)
        figure.write_bytes(whole)
    assert states(copied.folder)["volume"] == "complete"
    radii = copied.radii_file(0, 0.5)
    before = read_npz(radii)
    radii.write_bytes(radii.read_bytes()[:-30])
    assert states(copied.folder)["volume"] == "damaged"
    mv.estimate_volumes(copied, progress=False)
    assert same(read_npz(radii), before) and states(copied.folder)["volume"] == "complete"
    source = mv.runs.notebooks.SOURCES
    for name in ("Random Perturbs.ipynb", "Volume Cutoff.ipynb", "Test Accuracy.ipynb"):
        shutil.copy(source / name, copied.folder)
    (copied.folder / "Volume Cutoff.ipynb").write_text("{", encoding="utf-8")
    found = states(copied.folder)
    assert found["train"] == found["volume"] == found["cutoff"] == "partial" and found["accuracy"] == "complete"


def test_status_verify_reads_everything(copied, cli):
    """Plain `status` says that it has not; what no stage needs is read, too; files from before are unverified, not damaged."""
    code, out, _ = cli("status", copied.folder)
    assert code == 0 and "not every file was read through; --verify does" in out
    code, out, _ = cli("status", copied.folder, "--verify")
    assert code == 0 and "files are what was written" in out and "unverified" not in out
    old = read_json(copied.cutoffs_file)
    copied.cutoffs_file.write_text(json.dumps(old), encoding="utf-8")
    code, out, _ = cli("status", copied.folder, "--verify")
    assert code == 0 and "1 of an earlier version have no hash, so they are complete, unverified (cutoffs.json)" in out
    assert states(copied.folder)["cutoff"] == "complete"
    flip(write_json(copied.views_file(0), {"x": 1}), 10)
    code, out, _ = cli("status", copied.folder.parent, "--verify")
    assert code == 1 and "views.json" in out and states(copied.folder)["volume"] == "complete"


def changed_json(path: Path, change) -> None:
    content = read_json(path)
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")  # by hand: without a hash


WRONG = {
    "results without a key": lambda run: changed_json(run.results_file(0, 0.5), lambda c: c.pop("model_data_levels")),
    "results with text for lists": lambda run: changed_json(
        run.results_file(0, 0.5), lambda c: c.update(log_exp_r_n_values="x", log_volume_intervals=3)
    ),
    "results with short lists": lambda run: changed_json(run.results_file(0, 0.5), lambda c: c["weights_hashes"].pop()),
    "results with odd comparisons": lambda run: changed_json(run.results_file(0, 0.5), lambda c: c.update(comparisons=[[]])),
    "cutoffs of lists": lambda run: changed_json(
        run.cutoffs_file, lambda c: c.update({key: [1] for key in c})
    ),
    "sweep without an array": lambda run: rewritten(run.sweep_file(0, 20), lambda c: c.pop("perturbation_norm")),
    "sweep with an extra array": lambda run: rewritten(run.sweep_file(0, 20), lambda c: c.update(more=np.zeros(3))),
    "sweep of another shape": lambda run: rewritten(run.sweep_file(0, 20), lambda c: c.update(loss=np.zeros(3))),
    "sweep of integers": lambda run: rewritten(run.sweep_file(0, 20), lambda c: c.update(loss=c["loss"] > 0)),
    "accuracies without a key": lambda run: rewritten(run.accuracies_file, lambda c: c.pop("weights_hash")),
    "model without a history": lambda run: retrained(run.model_file(20), lambda c: c.pop("test_loss")),
    "model with odd settings": lambda run: retrained(run.model_file(20), lambda c: c.update(settings=[1])),
    "model with odd weights": lambda run: retrained(run.model_file(20), lambda c: c.update(state_dict={"a": 1})),
    "dataset with odd samples": lambda run: retrained(run.dataset_file, lambda c: c.update(x_test=3)),
    "dataset without settings": lambda run: retrained(run.dataset_file, lambda c: c.pop("settings")),
    "dataset that is a list": lambda run: torch.save([1], run.dataset_file),
    "model that is a pickle": lambda run: run.model_file(20).write_bytes(pickle.dumps({"a": 1})),
}  # fmt: skip


def rewritten(path: Path, change) -> None:
    content = read_npz(path)
    change(content)
    write_npz(path, content)


def retrained(path: Path, change) -> None:
    content = read_pt(path)
    change(content)
    write_pt(path, content)


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_but_readable_content_is_one_line_and_hides_no_other_run(kind, copied, cli):
    """`status` and `analyze` of the condition, and each stage: no traceback, and the other run is what it was."""
    other = copied.folder.parent / "model_1_data_11"
    shutil.copytree(copied.folder, other)
    text = (other / "config.yaml").read_text(encoding="utf-8")
    (other / "config.yaml").write_text(
        text.replace("model: 0", "model: 1").replace("data: 10", "data: 11"), encoding="utf-8"
    )
    WRONG[kind](copied)
    rows = status(copied.folder.parent)
    assert {row.run for row in rows} == {"model_0_data_10", "model_1_data_11"}
    before = tree(copied.folder)
    for command in ("status", "analyze"):
        code, out, err = cli(command, copied.folder.parent)
        assert code in (0, 1) and "Traceback" not in out + err and err.count("\n") <= 1, (command, err)
    for stage in ("train", "perturb", "volume", "cutoff", "accuracy"):
        code, _, err = cli("run", copied.folder, "--stage", stage, "--quiet")
        assert code in (0, 1) and "Traceback" not in err and err.count("\n") == code, (stage, err)
    assert tree(copied.folder).keys() >= before.keys()


def test_a_full_disk_while_a_pt_is_written_is_one_line(tmp_path, monkeypatch, copied, cli):
    """At any byte: the old file stays whole, and nothing is left behind."""
    path = write_pt(tmp_path / "a.pt", {"x": torch.zeros(3)})
    before = tree(tmp_path)
    opened = Path.open

    class Full(io.BytesIO):
        room = 0

        def write(self, content) -> int:
            if self.tell() + len(content) > self.room:
                raise OSError(28, "No space left on device")
            return super().write(content)

    def full(self, mode="r", *arguments, **options):
        if "x" in mode:
            opened(self, mode).close()
            return Full()
        return opened(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    for room in (0, 1, 100, 1000, 5000, 9000):
        Full.room = room
        with pytest.raises(
            MissingStageError, match=r"a\.pt cannot be written: No space left on device.*nothing was changed"
        ):
            write_pt(path, {"x": torch.randn(3000), "y": [1.0] * 10})
        assert tree(tmp_path) == before
    copied.model_file(20).unlink()
    code, _, err = cli("run", copied.folder, "--stage", "train", "--quiet")
    assert code == 1 and "model_additional_20.pt cannot be written: No space left" in err and err.count("\n") == 1


def test_errors_keep_their_kind():
    """What these tests lean on."""
    assert issubclass(DamagedFileError, MinimaVolumeError)
