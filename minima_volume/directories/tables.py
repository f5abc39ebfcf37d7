"""CSV tables as numbers: categories become codes, and whatever does not fit is named with its row."""

from __future__ import annotations

import bz2
import csv
import difflib
import gzip
import lzma
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from minima_volume.config.directory import Columns
from minima_volume.errors import ConfigError, DataError, MissingStageError
from minima_volume.files.yaml import read_yaml

CHUNK = 50_000  # rows that are parsed at a time
OPEN: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
FIELD_SIZE = 2**31 - 1  # letters, as pandas; 131,072 by default
# ValueError: text that is no UTF-8, and all of pandas' own
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, csv.Error, ValueError)
Categories = Mapping[str, list[str]]


def read_table(path: Path, columns: Columns, categories: Categories | None) -> tuple[np.ndarray, dict[str, list[str]]]:
    """The named columns of a CSV file with a header.

    Args:
        path: the file; .csv.gz, too.
        columns: which ones.
        categories: of each categorical column, whose codes are their positions; None: those in the file, sorted.

    Returns:
        (rows, columns) float64 in the order of `columns.names`, and the categories.

    Raises:
        MissingStageError: no such file.
        DataError: a column is not there, or twice; a row has more values than the header has columns (empty ones do no harm); a number is
            missing or none; a category is missing or not among `categories`.
    """
    seen: dict[str, dict[str, int]] = {name: {} for name in columns.categorical}
    numbers = [*columns.numerical, *columns.embeddings]
    parts = []
    for first, chunk in _chunks(path, columns):
        made = [_numbers(chunk[name], path, first) for name in numbers]
        for name in columns.categorical:
            made.append(
                _found(chunk[name], seen[name], path, first)
                if categories is None
                else _known(chunk[name], categories[name], path, first)
            )
        parts.append(np.column_stack(made))
    if not any(map(len, parts)):
        raise DataError(f"{path} has no rows")
    values = np.concatenate(parts)
    if categories is not None:
        return values, {name: list(found) for name, found in categories.items()}
    result = {}
    for column, name in enumerate(columns.categorical, len(numbers)):
        result[name] = sorted(seen[name])
        position = {category: code for code, category in enumerate(result[name])}
        new = np.array([position[category] for category in seen[name]], dtype=np.float64)
        values[:, column] = new[values[:, column].astype(np.int64)]
    return values, result


def read_cardinalities(path: Path, columns: Columns) -> dict[str, list[str]]:
    """The categories of each categorical column from a file: column -> their number (codes 0, 1, ...) or their list.

    Raises:
        ConfigError: a column is missing in it, says something else, or has a category twice.
    """
    content, result = read_yaml(path), {}
    for name in columns.categorical:
        said = content.get(name)
        if isinstance(said, int) and not isinstance(said, bool) and said >= 1:
            result[name] = [str(code) for code in range(said)]
        elif isinstance(said, list) and said:
            result[name] = [str(category) for category in said]
            if twice := [category for category, times in Counter(result[name]).items() if times > 1]:
                raise ConfigError(
                    f"{path}: {name}: {', '.join(map(repr, twice))} is named twice; name every category once"
                )
        else:
            raise ConfigError(
                f"{path}: {name}: {said!r} is not allowed: give the number of its categories, or their list"
            )
    return result


def _chunks(path: Path, columns: Columns) -> Iterator[tuple[int, pd.DataFrame]]:
    """Number of the first row (from 1) and the rows."""
    try:
        header = _header(path)
        where = {name: _position(name, header, path) for name in columns.names}
        kinds, first = {where[name]: str for name in columns.categorical}, 1
        reader = pd.read_csv(
            path,
            header=0,
            names=range(len(header)),
            index_col=False,
            usecols=list(where.values()),
            dtype=kinds,
            keep_default_na=False,
            chunksize=CHUNK,
        )
        for chunk in reader:
            yield first, chunk[list(where.values())].set_axis(list(where), axis=1)
            first += len(chunk)
    except FileNotFoundError as error:
        raise MissingStageError(f"{path} does not exist; data paths are relative to {Path.cwd()}") from error
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read as a CSV table: {' '.join(str(error).split())}") from error


@contextmanager
def _long_fields() -> Iterator[None]:
    """The csv module's limit is one of the whole process."""
    before = csv.field_size_limit(FIELD_SIZE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _header(path: Path) -> list[str]:
    """The names of the columns, once every row is known to have no more values: pandas would shift or drop some without a word."""
    if path.suffix == ".zip" and path.is_file():
        raise DataError(f"{path} is a zip archive; unpack it, or pack the table as .csv.gz, .csv.bz2 or .csv.xz")
    with _long_fields(), OPEN.get(path.suffix, open)(path, "rt", encoding="utf-8-sig", newline="") as file:
        rows = (row for row in csv.reader(file) if len(row) > 1 or "".join(row).strip())
        header = [
            name or f"Unnamed: {i}" for i, name in enumerate(next(rows, []))
        ]  # as pandas calls an index that it wrote
        for number, row in enumerate(rows, 1):
            if len(row) > len(header) and any(row[len(header) :]):
                raise DataError(
                    f"{path}, row {number}: {len(row)} values, but the header has {len(header)} columns; name the others, or quote values "
                    "that hold a comma"
                )
    return header


def _position(name: str, header: Sequence[str], path: Path) -> int:
    """Of the one column of this name."""
    if header.count(name) > 1:
        raise DataError(f"{path} has {header.count(name)} columns {name!r}; rename all but one")
    if name not in header:
        near = difflib.get_close_matches(name, header, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(f"{path} has no column {name!r}{hint}; it has {', '.join(header) or 'none'}")
    return header.index(name)


def _numbers(column: pd.Series, path: Path, first: int) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        row = int(bad[0])
        raise DataError(
            f"{path}, row {first + row}: {column.name} is {column.iloc[row]!r}, which is no number ({len(bad)} such rows among the "
            f"{len(values)} read together); fill or remove them, or name the column categorical"
        )
    return values


def _found(column: pd.Series, seen: dict[str, int], path: Path, first: int) -> np.ndarray:
    _filled(column, path, first)
    codes, names = pd.factorize(column)
    return np.array([seen.setdefault(str(name), len(seen)) for name in names], dtype=np.float64)[codes]


def _known(column: pd.Series, categories: list[str], path: Path, first: int) -> np.ndarray:
    _filled(column, path, first)
    codes = pd.Index([str(category) for category in categories]).get_indexer(pd.Index(column))
    if len(bad := np.flatnonzero(codes < 0)):
        row = int(bad[0])
        value = str(column.iloc[row])
        near = difflib.get_close_matches(value, categories, 3) or categories[:3]
        raise DataError(
            f"{path}, row {first + row}: {column.name} is {value!r}, a category that training has not seen; it knows {len(categories)}, "
            f"such as {', '.join(map(repr, near))}"
        )
    return codes.astype(np.float64)


def _filled(column: pd.Series, path: Path, first: int) -> None:
    if len(bad := np.flatnonzero((column == "").to_numpy())):
        raise DataError(f"{path}, row {first + int(bad[0])}: {column.name} is empty; give missing values a name")
