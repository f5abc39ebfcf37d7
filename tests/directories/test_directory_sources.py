"""Tables, embeddings and images as samples: values, splits, and what cannot be used."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zipfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from directory_cases import config, trained

from minima_volume.config.directory import Columns, Data, LoaderParams, Source
from minima_volume.data.dataset import SOURCES
from minima_volume.directories.sources import batches, open_samples
from minima_volume.directories.tables import CHUNK, OPEN
from minima_volume.directories.train import prepare
from minima_volume.errors import ConfigError, DamagedFileError, DataError, MissingStageError

COLUMNS = Columns(numerical=["miles", "hour"], categorical=["to", "by"])
TABLE = Source(data_path="t.csv", loader_class="TabularDataLoader")
ROWS = ["by,hour,to,miles", "AA,5,BOS,100", "UA,7,ORD,300", "AA,9,BOS,200", "B6,7,SFO,400"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(ROWS)


def write(rows: list[str], name: str = "t.csv") -> None:
    Path(name).write_text("\n".join(rows) + "\n")


def all_of(samples) -> torch.Tensor:
    return torch.cat(list(samples.chunks()))


def test_a_table_is_standardised_numbers_and_codes():
    """In the order of the config, not of the file; categories sorted; other tables with the training's scales and categories."""
    samples, data = open_samples(TABLE, "train", Data(columns=COLUMNS))
    assert data.categories == {"to": ["BOS", "ORD", "SFO"], "by": ["AA", "B6", "UA"]}
    assert data.scales is not None and data.scales["miles"] == pytest.approx([250, 12500**0.5])
    values = all_of(samples)
    torch.testing.assert_close(values[:, :2].mean(0), torch.zeros(2))
    torch.testing.assert_close(values[:, :2].std(0, correction=0), torch.ones(2))
    assert values[:, 2:].tolist() == [[0, 0], [1, 2], [0, 0], [2, 1]]
    write(["by,hour,to,miles", "UA,7,SFO,250"], "new.csv")
    new = open_samples(Source(data_path="new.csv", loader_class="TabularDataLoader"), "test", data)[0]
    assert all_of(new).tolist() == [[0, 0, 2, 2]]


def test_categories_that_look_missing_and_codes():
    """NA may be a country; a file of cardinalities names categories, or counts codes from 0."""
    write(["by,hour,to,miles", "NA,1,0,2", "None,2,1,3"])
    assert open_samples(TABLE, "train", Data(columns=COLUMNS))[1].categories == {"to": ["0", "1"], "by": ["NA", "None"]}
    Path("c.json").write_text(json.dumps({"to": 5, "by": ["None", "NA", "XX"]}))
    data = open_samples(TABLE, "train", Data(columns=COLUMNS, cardinalities_path="c.json"))[1]
    assert data.categories == {"to": ["0", "1", "2", "3", "4"], "by": ["None", "NA", "XX"]}
    Path("c.json").write_text(json.dumps({"to": 5}))
    with pytest.raises(ConfigError, match=r"c.json: by: None is not allowed"):
        open_samples(TABLE, "train", Data(columns=COLUMNS, cardinalities_path="c.json"))


@pytest.mark.parametrize(("said", "twice"), [(["AA", "UA", "AA"], "'AA'"), (["1", "UA", 1], "'1'")])
def test_a_category_that_is_named_twice(said, twice):
    """It would have two codes."""
    Path("c.json").write_text(json.dumps({"to": 5, "by": said}))
    with pytest.raises(ConfigError, match=rf"c\.json: by: {twice} is named twice; name every category once"):
        open_samples(TABLE, "train", Data(columns=COLUMNS, cardinalities_path="c.json"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*ROWS, "ZZ,7,SFO,400"], ["t.csv, row 5: by is 'ZZ', a category that training has not seen; it knows 3"]),
        ([*ROWS, ",7,SFO,400"], ["row 5: by is empty"]),
        ([*ROWS, "AA,,SFO,400"], ["row 5: hour is '', which is no number (1 such rows"]),
        ([*ROWS, "AA,seven,SFO,400"], ["row 5: hour is 'seven'"]),
        (
            ["by,hours,to,miles", "AA,5,BOS,100"],
            ["no column 'hour' (did you mean 'hours'?); it has by, hours, to, miles"],
        ),
        ([ROWS[0]], ["has no rows"]),
        (["by,hour,to,miles,to", "AA,5,BOS,100,ORD"], ["t.csv has 2 columns 'to'; rename all but one"]),
        ([ROWS[0], "AA,5,BOS,100,9"], ["t.csv, row 1: 5 values, but the header has 4 columns"]),
        ([ROWS[0], "AA,5,BOS,100,,9"], ["row 1: 6 values, but the header has 4 columns"]),
        ([ROWS[0], "", "AA,5,BOS,100,", "AA,5,BOS,100,9"], ["row 2: 5 values, but the header has 4 columns"]),
        ([*ROWS, 'AA,5,"BO,S",1,00'], ["row 5: 5 values", "quote values that hold a comma"]),
        ([""], ["t.csv has no column 'miles'; it has none"]),
        ([*ROWS, "AA,5,BOS"], ["row 5: miles is ''"]),
        (["hour,miles,to,by", "5,100,BOS"], ["row 1: by is empty"]),
    ],
)
def test_what_does_not_fit_is_named_with_its_row(rows, words):
    """And with the column, the value, and what is known."""
    data = open_samples(TABLE, "train", Data(columns=COLUMNS))[1]
    write(rows)
    with pytest.raises(DataError) as failure:
        open_samples(TABLE, "val", data)
    assert all(word in str(failure.value) for word in words), failure.value


def test_a_delimiter_at_the_end_of_every_row_shifts_nothing():
    """Of the rows alone, or of the header, too; columns that nobody asked for may have equal names."""
    expected = all_of(open_samples(TABLE, "train", Data(columns=COLUMNS))[0])
    ends = [[","], [",,"], ["", ",", "", ",,"]]
    tables = [[ROWS[0], *(row + end for row, end in zip(ROWS[1:], end * 4, strict=False))] for end in ends]
    for rows in (*tables, [f"{row}," for row in ROWS], [f"{row},x,x" for row in ROWS]):
        write(rows)
        assert torch.equal(all_of(open_samples(TABLE, "train", Data(columns=COLUMNS))[0]), expected)


@pytest.mark.parametrize("end", ["", ","])
@pytest.mark.parametrize("place", [CHUNK - 1, CHUNK, CHUNK + 1])
def test_values_without_a_column_far_down(place, end):
    """Also in the first of the rows that are parsed together."""
    write([ROWS[0], *[ROWS[1] + end] * place, f"{ROWS[1]},9", *ROWS[1:]])
    with pytest.raises(DataError, match=f"row {place + 1}: 5 values"):
        open_samples(TABLE, "train", Data(columns=COLUMNS))


@pytest.mark.parametrize("number", [0.1, 1 / 3, -7.3e5, 1e-300, 0.0])
@pytest.mark.parametrize("rows", [3, 1000])
def test_a_constant_column_has_no_deviation(number, rows):
    """Whatever rounding says: another value is so far from the mean as it is, not times 1e17."""
    write(["a", *[repr(number)] * rows])
    columns = Data(columns=Columns(numerical=["a"]))
    data = open_samples(TABLE, "train", columns)[1]
    assert data.scales == {"a": [pytest.approx(number), 1.0]}
    write(["a", "0.5"])
    assert all_of(open_samples(TABLE, "test", data)[0]).item() == pytest.approx(0.5 - number)
    write(["a", "1700000000.001", "1700000000.003"])
    scales = open_samples(TABLE, "train", columns)[1].scales
    assert scales is not None and scales["a"][1] == pytest.approx(0.001, rel=1e-3)
    write(["a", "1e200", "3e200"])
    with pytest.raises(DataError, match=r"t.csv: a holds numbers up to 3e\+200, too large"):
        open_samples(TABLE, "train", columns)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_a_packed_table(suffix):
    """The numbers of the plain one; what is not packed in this way is refused."""
    path, expected = Path(f"t.csv.{suffix}"), open_samples(TABLE, "train", Data(columns=COLUMNS))[0]
    source = Source(data_path=str(path), loader_class="TabularDataLoader")
    with OPEN[path.suffix](path, "wt") as file:
        file.write(Path("t.csv").read_text())
    assert torch.equal(all_of(open_samples(source, "train", Data(columns=COLUMNS))[0]), all_of(expected))
    path.write_bytes(Path("t.csv").read_bytes())
    with pytest.raises(DataError, match=f"t.csv.{suffix} cannot be read as a CSV table"):
        open_samples(source, "train", Data(columns=COLUMNS))


def test_a_table_in_a_zip_archive():
    """The message says how to pack it instead; one that is not there is missing."""
    source = Source(data_path="t.csv.zip", loader_class="TabularDataLoader")
    with pytest.raises(MissingStageError, match=r"t\.csv\.zip does not exist"):
        open_samples(source, "train", Data(columns=COLUMNS))
    with zipfile.ZipFile("t.csv.zip", "w") as archive:
        archive.write("t.csv")
    with pytest.raises(DataError, match=r"t\.csv\.zip is a zip archive; unpack it, or pack the table as \.csv\.gz"):
        open_samples(source, "train", Data(columns=COLUMNS))


@pytest.mark.parametrize("kind", ["folder", "cut"])
def test_what_is_no_table(kind):
    """A folder, a .gz that is cut off: one message."""
    if kind == "folder":
        Path("t.csv.gz").mkdir()
    else:
        Path("t.csv.gz").write_bytes(gzip.compress(Path("t.csv").read_bytes())[:-9])
    source = Source(data_path="t.csv.gz", loader_class="TabularDataLoader")
    with pytest.raises(DataError, match=r"t.csv.gz cannot be read as a CSV table"):
        open_samples(source, "train", Data(columns=COLUMNS))


def test_an_unseen_category_far_down_has_its_row():
    """Past the rows that are parsed together."""
    data = open_samples(TABLE, "train", Data(columns=COLUMNS))[1]
    write([ROWS[0], *ROWS[1:2] * (CHUNK + 10), "AA,5,LAX,1"])
    with pytest.raises(DataError, match=f"row {CHUNK + 11}: to is 'LAX'"):
        open_samples(TABLE, "val", data)


def test_splits_are_disjoint_whole_and_always_the_same():
    """In the order of the file."""
    np.save("e.npy", np.arange(103, dtype="f4").reshape(-1, 1))
    parts = {}
    for split in ("train", "val", "test"):
        source = Source(data_path=f"e.npy:{split}", loader_class="EmbeddingDataLoader")
        parts[split] = all_of(open_samples(source, "train", Data())[0]).flatten().tolist()
        assert parts[split] == sorted(parts[split])
    assert [len(part) for part in parts.values()] == [83, 10, 10]
    assert sorted(chain(*parts.values())) == list(range(103))
    whole = Source(data_path="e.npy", loader_class="EmbeddingDataLoader")
    assert len(open_samples(whole, "val", Data())[0]) == 103


def test_images_are_pixels_between_0_and_1():
    """Built-in sets are split: the test set is the source's, `all` is train and val; `binarize` leaves 0 and 1."""
    counts = {}
    for split in ("train", "val", "test", "all"):
        source = Source(data_path=f"digits:{split}", loader_class="ImageDataLoader")
        samples = open_samples(source, "train", Data())[0]
        counts[split], values = len(samples), all_of(samples)
        assert samples.shape == (1, 8, 8) and values.min() == 0 and values.max() == 1
        torch.testing.assert_close(values * 16, (values * 16).round(), rtol=0, atol=0)
    assert counts["train"] + counts["val"] == counts["all"] and counts["all"] + counts["test"] == 1797
    own = open_samples(Source(data_path="digits", loader_class="ImageDataLoader"), "test", Data())[0]
    pool = SOURCES["digits"](0, 0)
    torch.testing.assert_close((all_of(own) - 0.3053) / 0.3760, pool.x_test)
    black = Source(data_path="digits", loader_class="ImageDataLoader", loader_params=LoaderParams(binarize=True))
    assert all_of(open_samples(black, "val", Data())[0]).unique().tolist() == [0, 1]


def test_files_of_images():
    """Bytes or numbers from 0 to 1, with or without channels."""
    np.save("i.npy", np.full((3, 4, 5), 255, dtype=np.uint8))
    source = Source(data_path="i.npy", loader_class="ImageDataLoader")
    samples = open_samples(source, "train", Data())[0]
    assert samples.shape == (1, 4, 5) and all_of(samples).unique().tolist() == [1]
    np.save("i.npy", np.full((3, 2, 4, 5), 1.5))
    with pytest.raises(DataError, match="pixels must be bytes, or numbers from 0 to 1"):
        open_samples(source, "train", Data())


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.zeros((3, 2, 2)), DataError, r"shape \(3, 2, 2\); embeddings are \(n_samples, embedding_dim\)"),
        (np.array([[0.0], [np.nan]]), DataError, r"sample 1 \(counted from 0\) holds NaN"),
        (np.zeros((0, 2)), DataError, "holds no samples"),
        (np.zeros((3, 0)), DataError, r"holds no samples: its shape is \(3, 0\)"),
        *(
            (np.zeros((3, 2), dtype=kind), DataError, "array of type .*; samples are real numbers")
            for kind in ("c16", "M8[s]", "m8[s]", "V4", "S3", "U3", [("a", "f4")])
        ),
        (np.array([[None]]), DamagedFileError, "cannot be read as a plain .npy"),
    ],
)
def test_embeddings_that_cannot_be_used(array, error, words):
    """One message; a pickle is not opened."""
    np.save("e.npy", array, allow_pickle=True)
    with pytest.raises(error, match=words):
        open_samples(Source(data_path="e.npy", loader_class="EmbeddingDataLoader"), "train", Data())


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_is_no_array(packed):
    """A .npz, whatever it is called, is refused by the names of what it holds; so is one that is cut off."""
    np.savez("all.npz", train=np.ones((5, 2), dtype="f4"), test=np.ones((3, 2), dtype="f4"))
    name, content = ("e.npy.gz" if packed else "all.npz"), Path("all.npz").read_bytes()
    for part, words in (
        (content, "archive of the arrays train, test; save one with np.save"),
        (content[:90], "cannot be read"),
    ):
        Path(name).write_bytes(gzip.compress(part) if packed else part)
        with pytest.raises(DamagedFileError, match=words):
            open_samples(Source(data_path=name, loader_class="EmbeddingDataLoader"), "train", Data())


def test_packed_embeddings_are_read_where_the_plain_ones_were():
    """After `gzip embeddings/*.npy`."""
    np.save("e.npy", np.ones((5, 2), dtype="f4"))
    packed = gzip.compress(Path("e.npy").read_bytes())
    Path("e.npy").unlink()
    source = Source(data_path="e.npy", loader_class="EmbeddingDataLoader")
    with pytest.raises(MissingStageError, match=r"e.npy does not exist, nor does e.npy.gz"):
        open_samples(source, "train", Data())
    Path("e.npy.gz").write_bytes(packed)
    assert len(open_samples(source, "train", Data())[0]) == 5
    Path("e.npy.gz").write_bytes(packed[:20])
    with pytest.raises(DamagedFileError):
        open_samples(source, "train", Data())


@pytest.mark.parametrize(("wanted", "sizes"), [(None, [4, 4, 2]), (2, [4, 4]), (5, [4, 4, 2, 4, 4])])
def test_batches_of_an_epoch(wanted, sizes):
    """Every sample once, or as many batches as asked for; shuffled anew each time it begins again."""
    np.save("e.npy", np.arange(10, dtype="f4").reshape(-1, 1))
    samples = open_samples(Source(data_path="e.npy", loader_class="EmbeddingDataLoader"), "train", Data())[0]
    params = LoaderParams(batch_size=4, num_batches_per_epoch=wanted)
    order = torch.Generator().manual_seed(0)
    first, second = ([batch.flatten().tolist() for batch in batches(samples, params, order)] for _ in range(2))
    assert [len(batch) for batch in first] == sizes and first != second
    assert sorted(chain(*first[:3]))[:10] == list(range(10)) or wanted == 2
    ordered = LoaderParams(batch_size=4, shuffle=False)
    assert torch.cat(list(batches(samples, ordered, order))).flatten().tolist() == list(range(10))


def table_config(rows: int) -> dict:
    random = np.random.default_rng(0)
    lines = [
        f"{'AA' if a else 'UA'},{h},{'BOS' if a else 'ORD'},{100 * h + 5}"
        for a, h in zip(random.integers(0, 2, rows), random.integers(0, 24, rows), strict=True)
    ]
    write([ROWS[0], *lines])
    return {
        "data": {"columns": {"numerical": ["miles", "hour"], "categorical": ["to", "by"]}},
        "train": {
            "data_path": "t.csv:train",
            "loader_class": "TabularDataLoader",
            "epochs": 8,
            "loader_params": {"batch_size": 64},
            "optimizer_config": {"learning_rate": 0.01},
            "loss": {"class": "VAELoss"},
        },
        "val": {"data_path": "t.csv:val", "loader_class": "TabularDataLoader"},
        "checkpoint": {"save_strategy": "best"},
    }


def test_a_table_trains_and_its_structure_is_learned():
    """The carrier decides the destination: the reconstruction term falls well below that of independent columns."""
    directory = trained(table_config(2000))
    values = directory.history()["val_reconstruction"]
    assert values[8] < values[1] - 0.5
    found = directory.config().data
    assert found.categories == {"to": ["BOS", "ORD"], "by": ["AA", "UA"]} and found.scales is not None
    with pytest.raises(ConfigError, match="'gaussian' cannot describe categorical columns"):
        trained({**table_config(50), "model.params.likelihood": "gaussian"})
    with pytest.raises(ConfigError, match="model SAE takes numbers"):
        trained(
            {
                **table_config(50),
                "model": {"class": "SAE", "params": {"hidden_dim": 3}},
                "train.loss": {"class": "SAELoss"},
            }
        )


def test_embeddings_stay_on_the_disk():
    """Opening 120 MB for training holds less than a tenth of it in memory."""
    np.lib.format.open_memmap("big.npy", "w+", "f4", (60_000, 500)).flush()
    tracemalloc.start()
    task = prepare(config({"train.data_path": "big.npy", "val": None}), [])
    for batch, _ in zip(task.parts.batches(), range(3), strict=False):
        assert batch.shape == (8, 500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6
