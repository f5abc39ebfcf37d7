"""A text of the user's, character by character, cut into windows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from minima_volume.data.pool import Pool
from minima_volume.data.root import data_root
from minima_volume.errors import ConfigError, DataError


def text(
    seed: int,
    needed: int,
    *,
    path: str,
    block_size: int = 256,
    stride: int | None = None,
    test_fraction: float = 0.1,
    folder: Path | None = None,
) -> Pool:
    """Windows of `block_size` characters, each to be told the next character at every place.

    The text is cut once: its last part is the test set, and no window reaches over the cut. Windows do not overlap by default,
    so that no character is predicted twice. The loss of a window is the mean over its characters.

    Args:
        seed: unused: the samples are fixed, the drawing of base and additional windows uses the seed.
        needed: unused.
        path: a UTF-8 file: absolute, or in the run folder, its condition folder, the data root or the working folder.
        block_size: characters of a window.
        stride: characters from the start of a window to the start of the next; None: block_size.
        test_fraction: share of the text that is held out at its end.
        folder: the run folder.

    Returns:
        Integer inputs (N, block_size) and targets (N, block_size), the same one character later; a class for each character
        that occurs in the text, in the order of their code points.

    Raises:
        ConfigError: an option is out of range.
        DataError: the file is absent, is not UTF-8, or is too short for a window in either part.
    """
    stride = block_size if stride is None else stride
    for name, value in (("block_size", block_size), ("stride", stride)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"data.options.{name}: {value!r} is not allowed: it should be a whole number, at least 1")
    if not 0 < test_fraction < 1:
        raise ConfigError(f"data.options.test_fraction: {test_fraction} is not allowed: it should be between 0 and 1")
    file = find_file(path, folder)
    try:
        content = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error}); convert it, for example with iconv") from error
    characters = sorted(set(content))
    number = {character: i for i, character in enumerate(characters)}
    codes = torch.tensor([number[character] for character in content], dtype=torch.int64)
    cut = len(codes) - round(test_fraction * len(codes))
    train, test = codes[:cut], codes[cut:]
    for part, name in ((train, "training"), (test, "test")):
        if len(part) < block_size + 1:
            raise DataError(
                f"{file} has {len(codes):,} characters, its {name} part {len(part):,}: a window needs block_size + 1 = "
                f"{block_size + 1:,}. Take a longer text or a smaller data.options.block_size"
            )
    return Pool(
        *windows(train, block_size, stride), *windows(test, block_size, stride), len(characters), tuple(characters)
    )


def windows(codes: Tensor, block_size: int, stride: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets (N, block_size) of all whole windows.

    >>> x, y = windows(torch.arange(8), block_size=3, stride=3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    cut = codes.unfold(0, block_size + 1, stride)
    return cut[:, :-1].clone(), cut[:, 1:].clone()


def find_file(path: str, folder: Path | None) -> Path:
    """The file, looked for beside config.yaml, in the condition folder, the data root and the working folder."""
    beside = [] if folder is None else [folder, folder.parent]
    places = [Path(path)] if Path(path).is_absolute() else [place / path for place in (*beside, data_root(), Path())]
    for place in places:
        if place.is_file():
            return place
    raise DataError(
        f"data.options.path: there is no text file {path!r}; looked at {', '.join(str(place) for place in places)}. "
        "Place any UTF-8 text there, or name another file"
    )
