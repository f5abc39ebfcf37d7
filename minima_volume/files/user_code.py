"""A user's own code by import path: `<module>:<name>` of a .py file beside config.yaml or in a folder above it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from minima_volume.errors import ConfigError

SEARCHED_FOLDERS = 2  # the run folder and its condition folder


def load_object(path: str, folder: Path | None, what: str) -> Any:
    """Import `<module>:<name>`: from a .py file in the run or condition folder, else from what is installed.

    Args:
        path: e.g. "my_data:make_spirals".
        folder: the run folder; None looks at installed modules only.
        what: what is being loaded, for the error ("data.source", "model.name").

    Raises:
        ConfigError: no such module or name, or the module fails to import.
    """
    module_name, _, name = path.partition(":")
    folders = [] if folder is None else [folder.resolve(), *folder.resolve().parents][:SEARCHED_FOLDERS]
    files = [place / f"{module_name}.py" for place in folders]
    try:
        module = next((_load_file(file) for file in files if file.is_file()), None) or importlib.import_module(
            module_name
        )
    except ModuleNotFoundError as error:
        looked = ", ".join(str(file) for file in files) or "installed modules"
        raise ConfigError(f"{what}: {path!r}: {error}; looked at {looked}") from error
    except Exception as error:
        raise ConfigError(f"{what}: {path!r} fails to import: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ConfigError(f"{what}: {path!r}: module {module_name} ({module.__file__}) has no {name!r}")
    return getattr(module, name)


def _load_file(file: Path) -> ModuleType:
    # a name of its own for each file, so that two runs may each have a my_data.py in one process
    name = f"_minima_volume_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
