"""Making run folders and conditions, and putting the notebooks' one source where users open them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path

from minima_volume.config.run import load_config
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files.atomic import write_text
from minima_volume.files.lock import locked
from minima_volume.files.yaml import read_yaml
from minima_volume.runs.notebooks import (
    BATCH_NOTEBOOKS,
    edited_in,
    has_outputs,
    is_edited,
    mark_of,
    notebook_for,
    notebook_source,
    template_of,
)
from minima_volume.runs.origin import ORIGINS, Origin, origins_of, remember
from minima_volume.stages.run import CONFIG_NAME, RUN_NOTEBOOKS, Run, find_runs, read_run, refuse_twins, seeds_of

FIRST_DATA_SEED = 10


def seed_pairs(count: int, condition: str | Path | None = None, *, cross: bool = False) -> list[tuple[int, int]]:
    """The study's pairs: model seed i with data seed 10 + i, or with the one data seed that a condition's config.yaml fixes.

    Args:
        count: of model seeds.
        condition: a condition folder; None: no data seed is fixed.
        cross: every model seed with every data seed, count x count pairs.

    >>> seed_pairs(2)
    [(0, 10), (1, 11)]
    >>> seed_pairs(2, cross=True)
    [(0, 10), (0, 11), (1, 10), (1, 11)]
    """
    fixed = None if condition is None else load_config(Path(condition) / CONFIG_NAME).seeds.data
    if fixed is not None:
        return [(i, fixed) for i in range(count)]
    data = range(FIRST_DATA_SEED, FIRST_DATA_SEED + count)
    return list(product(range(count), data)) if cross else list(zip(range(count), data, strict=True))


def new_runs(
    condition: str | Path, pairs: list[tuple[int, int]], *, overwrite: bool = False, force: bool = False
) -> list[Path]:
    """Make run folders model_<i>_data_<j> in a condition folder: its config.yaml and the five notebooks.

    The notebooks are those of the condition's template where a user has edited them there, else the package's. A folder that is
    there already is left as it is, so nothing a user did is overwritten unless they ask for it; what has been computed never is.

    Args:
        condition: a folder with a config.yaml.
        pairs: (model seed, data seed) of each run.
        overwrite: give folders that are there the condition's config.yaml and fresh notebooks.
        force: overwrite also a config.yaml and notebooks that were edited in the run folder.

    Returns:
        The folders, made or found.

    Raises:
        MissingStageError: the condition has no config.yaml.
        ConfigError: its config.yaml is not allowed, has a model seed, or fixes another data seed (many models on fixed data);
            or two folders are of the same seeds; or a folder to overwrite has computed something, is a link, or has edited files. Then
            nothing is changed.
    """
    condition = Path(condition)
    source = condition / CONFIG_NAME
    config = load_config(source)
    if config.seeds.model is not None:
        raise ConfigError(f"{source} sets seeds.model {config.seeds.model}; in a condition it must be null")
    fixed = config.seeds.data
    if other := [pair for pair in pairs if fixed is not None and pair[1] != fixed]:
        raise ConfigError(
            f"{source} fixes seeds.data at {fixed}, so model_{other[0][0]}_data_{other[0][1]} cannot be made; take data seed "
            f"{fixed}, or set seeds.data to null"
        )
    made = {seeds_of(run): run for run in find_runs(condition)}  # perhaps as model_00_data_010
    folders = [made.get(pair, condition / f"model_{pair[0]}_data_{pair[1]}") for pair in dict.fromkeys(pairs)]
    there = {folder for folder in folders if (folder / CONFIG_NAME).exists()}
    todo = [folder for folder in folders if overwrite or folder not in there]
    if links := [folder for folder in todo if folder.is_symlink()]:
        raise ConfigError(f"{links[0]} is a link and is not written through; nothing was changed")
    if overwrite:
        _refuse_to_overwrite(condition, sorted(there), force)
    notebooks = {name: notebook_for(condition, name) for name in RUN_NOTEBOOKS} if todo else {}
    for folder in todo:
        _fill(folder, source, notebooks, overwrite=overwrite)
    if todo:
        _remember(condition, todo, source, notebooks)
    return folders


def _refuse_to_overwrite(condition: Path, folders: Iterable[Path], force: bool) -> None:
    """A link, a run that has computed something (its config.yaml says what its files were made with), or one that was edited."""
    edited = []
    origins = origins_of(condition)
    for folder in folders:
        made = _computed(read_run(folder))
        if made:
            raise ConfigError(
                f"{folder} has computed something ({made[0].name}, ...) and is not overwritten; nothing was changed. Remove it with "
                f"`minima-volume clean {folder} --what models` first"
            )
        origin = origins.get(folder.name, Origin())
        notebooks = [folder / name for name in RUN_NOTEBOOKS if (folder / name).is_file()]
        edited += [path for path in notebooks if is_edited(path, origin.notebooks)]
        base = read_yaml(condition / CONFIG_NAME) if origin.config is None else origin.config
        if _without_seeds(read_yaml(folder / CONFIG_NAME)) != _without_seeds(base):
            edited.append(folder / CONFIG_NAME)
    if edited and not force:
        raise ConfigError(
            f"{_named(edited)}: edited since the run folder was made, and would be lost; nothing was changed. Overwrite "
            "the other runs only, or say --force (force=True) to replace these, too"
        )


def _computed(run: Run) -> list[Path]:
    """What a run has computed: models, files of its landscapes, executed notebooks."""
    landscapes = (path for path in run.output.glob(f"{run.config.data.variant}_*") if path.is_dir())
    executed = (run.folder / name for name in RUN_NOTEBOOKS if has_outputs(run.folder / name))
    return [*sorted(run.models.glob("*.pt")), *sorted(landscapes), *executed]


def _without_seeds(content: Mapping[str, object]) -> dict[str, object]:
    """The sections of a config.yaml but the seeds, which the first notebook writes into it."""
    return {key: value for key, value in content.items() if key != "seeds"}


def _named(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:5])) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def new_folder(folder: str | Path, template: str | Path) -> Path:
    """Make a run folder (named model_<i>_data_<j>) or a condition folder from a template.

    It gets the template's config.yaml, its notebooks as they were edited there, the package's where they were not, and every other
    file that lies in the template, such as a user's own .py files.

    Raises:
        ConfigError: the folder exists and is not empty, the template has no config.yaml, or another folder beside it is of the same seeds.
    """
    folder, template = Path(folder), Path(template)
    source = template / CONFIG_NAME
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not empty; choose another name, nothing was changed")
    if not source.is_file():
        raise MissingStageError(
            f"{source} does not exist; a template is a folder with a config.yaml, e.g. experiments/digits/template"
        )
    load_config(source)
    here = folder.resolve()
    seeds = seeds_of(here)
    is_run = seeds is not None
    if is_run and here.parent.is_dir():
        refuse_twins([*((run, seeds_of(run)) for run in find_runs(here.parent)), (here, seeds)])
    edited = {name: edited_in([template], name) for name in (*RUN_NOTEBOOKS, *BATCH_NOTEBOOKS)}
    names = RUN_NOTEBOOKS if is_run else BATCH_NOTEBOOKS
    notebooks = {name: edited[name] or notebook_source(name) for name in names}
    if not is_run and template_of(folder) != template.resolve():  # its runs will not look there
        notebooks |= {name: text for name in RUN_NOTEBOOKS if (text := edited[name])}
    folder.mkdir(parents=True, exist_ok=True)
    for file in template.iterdir():
        if file.is_file() and file.name not in (CONFIG_NAME, ORIGINS, *edited) and not file.name.startswith("."):
            shutil.copy(file, folder)
    _fill(folder, source, notebooks)
    if is_run:
        _remember(folder.resolve().parent, [folder], source, notebooks)
    return folder


def _fill(folder: Path, config: Path, notebooks: Mapping[str, str], *, overwrite: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        for name, text in notebooks.items():
            if overwrite or not (folder / name).exists():
                write_text(folder / name, text)
        write_text(folder / CONFIG_NAME, config.read_text(encoding="utf-8"))  # last: a folder with a config is whole


def _remember(condition: Path, folders: Iterable[Path], config: Path, notebooks: Mapping[str, str]) -> None:
    origin = Origin(read_yaml(config), {name: mark_of(text) for name, text in notebooks.items()})
    remember(condition, {folder.name: origin for folder in folders})


def sync_notebooks(experiments: str | Path, *, force: bool = False) -> list[Path]:
    """Write every notebook of templates and conditions from its one source; run folders keep theirs.

    Args:
        experiments: the folder that holds the experiments.
        force: replace also notebooks that are no version of the package's, because a user has edited them.

    Returns:
        The files that were changed.

    Raises:
        ConfigError: some were edited; they are kept, the others have been written.
    """
    changed, edited = [], []
    for config in sorted(Path(experiments).rglob(CONFIG_NAME)):
        folder = config.parent
        if seeds_of(folder) is not None:
            continue
        for name in RUN_NOTEBOOKS if folder.name == "template" else BATCH_NOTEBOOKS:
            path, text = folder / name, notebook_source(name)
            if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
                continue
            if path.is_file() and not force and is_edited(path):
                edited.append(path)
            else:
                changed.append(write_text(path, text))
    if edited:
        raise ConfigError(
            f"{_named(edited)}: edited, no version of the package's, so kept ({len(changed)} others were written). Leave them as they "
            "are: `minima-volume new` gives new runs a template's own. Or say --force (force=True) to replace them, which loses the edits"
        )
    return changed
