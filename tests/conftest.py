"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ALL_STAGES, PIXEL, make_run

from minima_volume.plots import style
from minima_volume.stages.run import Run, read_run

TESTS, RENDER = Path(__file__).parent, style.figure_bytes


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--training-seed N`: what training ends with is not the same on every machine; with N > 0 it ends elsewhere on this one."""
    text = "start trainings from other weights: added to every seed of torch's global generator in this process"
    parser.addoption("--training-seed", type=int, default=0, metavar="N", help=text)


class ShiftedGenerator:
    """torch's global generator with other seeds; generators of their own (samples, directions, particles) keep theirs."""

    def __init__(self, generator: torch.Generator, shift: int) -> None:
        self._generator, self._shift = generator, shift

    def manual_seed(self, seed: int) -> torch.Generator:
        return self._generator.manual_seed(seed + self._shift)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)


@pytest.fixture(autouse=True, scope="session")
def training_seed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Initial weights are drawn from the global generator: by the package's models, and by the tests' own."""
    shift = 1000 * request.config.getoption("--training-seed")
    with pytest.MonkeyPatch.context() as patch:
        if shift:
            shifted = ShiftedGenerator(torch.default_generator, shift)
            patch.setattr(torch, "default_generator", shifted)
            patch.setattr(torch.random, "default_generator", shifted)
        yield


@pytest.fixture(autouse=True)
def one_thread():
    """Numbers are compared bit for bit, and the machine is shared."""
    torch.set_num_threads(1)


# folders whose tests are about pictures; elsewhere figures are built, and not rendered: that takes five of a tiny run's seven seconds
PICTURES = {"plots", "reports", "repository", "robustness", "directories", "campaigns", "cli", "analysis"}


@contextlib.contextmanager
def _pictures(rendered: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "figure_bytes", RENDER if rendered else lambda figure, *_, **__: PIXEL)
        yield


@pytest.fixture(autouse=True, scope="module")
def pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures become one pixel, except in `PICTURES`, in doctests and in every process that a test starts."""
    path = Path(str(request.path))
    with _pictures(not path.is_relative_to(TESTS) or path.relative_to(TESTS).parts[0] in PICTURES):
        yield


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny digits run through all stages; never written to: take `copied` for that."""
    torch.set_num_threads(1)
    with _pictures(rendered=True):
        return make_run(tmp_path_factory.mktemp("condition") / "model_0_data_10", stages=ALL_STAGES)


@pytest.fixture
def copied(digits_run: Run, tmp_path: Path) -> Run:
    """A copy of the finished tiny run that a test may damage."""
    folder = tmp_path / "condition" / digits_run.folder.name
    shutil.copytree(digits_run.folder, folder)
    return read_run(folder)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call the command line in this process: (exit code, standard output, standard error)."""
    from minima_volume.cli.app import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["minima-volume", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
