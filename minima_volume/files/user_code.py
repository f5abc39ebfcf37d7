"""A user's own code by import path: `<module>:<name>` of a .py file beside config.yaml or in the folder above it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from minima_volume.errors import ConfigError, MinimaVolumeError
from minima_volume.files.trust import tell

SEARCHED_FOLDERS = 2  # the run folder and its condition folder
MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
NAME = re.compile(r"[^\W\d]\w*")
_ALLOWED: ContextVar[bool] = ContextVar("code_allowed", default=True)


class CodeNotRunError(MinimaVolumeError):
    """What was asked for needs code of the folder, and this command runs none."""


@contextmanager
def without_code() -> Iterator[None]:
    """Run no code of a folder: what needs it raises `CodeNotRunError`."""
    before = _ALLOWED.set(False)
    try:
        yield
    finally:
        _ALLOWED.reset(before)


def code_allowed() -> bool:
    """Whether code of a folder may run here."""
    return _ALLOWED.get()


def load_object(path: str, folder: Path | None, what: str) -> Any:
    """Import `<module>:<name>`: from a .py file in the run or condition folder, else from what is installed.

    Code that the user has not said to trust is announced on standard error before it runs.

    Args:
        path: e.g. "my_data:make_spirals".
        folder: the run folder; None looks at installed modules only.
        what: what is being loaded, for the error ("data.source", "model.name").

    Raises:
        ConfigError: no such module or name, a module that is a path, or one that fails to import.
        CodeNotRunError: within `without_code`.
    """
    module_name, _, name = path.partition(":")
    if not (MODULE.fullmatch(module_name) and NAME.fullmatch(name)):
        raise ConfigError(
            f"{what}: {path!r} is not allowed: write <module>:<name>, the name of a .py file beside config.yaml (or of an "
            "installed module) and of what it holds, without slashes"
        )
    if not code_allowed():
        raise CodeNotRunError(f"{what} is {path!r}, code of the folder, which this command does not run")
    files = files_of(module_name, folder)
    try:
        module = next((_load_file(file) for file in files if file.is_file()), None) or importlib.import_module(
            module_name
        )
    except ModuleNotFoundError as error:
        looked = ", ".join(str(file) for file in files) or "installed modules"
        raise ConfigError(f"{what}: {path!r}: {error}; looked at {looked}") from error
    except (Exception, SystemExit) as error:  # a script's last line would end this program without a word
        raise ConfigError(f"{what}: {path!r} fails to import: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ConfigError(f"{what}: {path!r}: module {module_name} ({module.__file__}) has no {name!r}")
    return getattr(module, name)


def files_of(module_name: str, folder: Path | None) -> list[Path]:
    """The .py files that a module may be, the first that is there is taken."""
    folders = [] if folder is None else [folder.resolve(), *folder.resolve().parents][:SEARCHED_FOLDERS]
    return [place / f"{module_name}.py" for place in folders]


def _load_file(file: Path) -> ModuleType:
    # a name of its own for each file, so that two runs may each have a my_data.py in one process
    name = f"_minima_volume_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    content = file.read_bytes()
    tell(file, content)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(compile(content, str(file), "exec"), module.__dict__)  # what was announced, not a __pycache__ beside it
    except BaseException:
        del sys.modules[name]
        raise
    return module
