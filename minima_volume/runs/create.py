"""Making run folders and conditions, and putting the notebooks' one source where users open them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path

from minima_volume.arguments import as_path
from minima_volume.config.errors import parse
from minima_volume.config.run import load_config
from minima_volume.config.sections import Seeds
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files.atomic import write_text
from minima_volume.files.lock import locked
from minima_volume.files.yaml import read_yaml
from minima_volume.numerals import listed
from minima_volume.runs.conditions import TEMPLATE, batch_folder, is_condition, template_of
from minima_volume.runs.notebooks import (
    BATCH_NOTEBOOKS,
    edited_in,
    has_outputs,
    is_edited,
    mark_of,
    notebook_for,
    notebook_source,
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
    fixed = None if condition is None else load_config(as_path(condition, "condition folder") / CONFIG_NAME).seeds.data
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
            or a seed is not allowed; or two folders are of the same seeds; or a folder to overwrite has computed something, is a link,
            or has edited files. Then nothing is changed.
    """
    condition = as_path(condition, "condition folder")
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
    for pair in pairs:
        _check_seeds(pair)
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


def _check_seeds(pair: tuple[int, int]) -> None:
    """Raise ConfigError for seeds that the config.yaml of a run may not have."""
    parse(Seeds, {"model": int(pair[0]), "data": int(pair[1])}, f"model_{pair[0]}_data_{pair[1]}")


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
            f"{listed(edited, 5)}: edited since the run folder was made, and would be lost; nothing was changed. Overwrite "
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


def new_folder(folder: str | Path, template: str | Path) -> Path:
    """Make a run folder (named model_<i>_data_<j>), a condition folder, or a template (named template), from a template.

    It gets the template's config.yaml and every other file that lies there, such as your own .py files; a run or a template also the
    five notebooks, as they were edited in the template, the package's if they were not. Batch notebooks that are missing in
    the experiment folder are put there: the folder that holds template/, or the condition itself if no template is above it.

    Raises:
        ConfigError: the folder exists and is not empty, its seeds are not allowed, or another folder beside it is of the same seeds.
        MissingStageError: the template has no config.yaml.
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
    if seeds is not None:
        _check_seeds(seeds)
    if seeds is not None and here.parent.is_dir():
        refuse_twins([*((run, seeds_of(run)) for run in find_runs(here.parent)), (here, seeds)])
    notebooks = _notebooks_from(template, here)
    folder.mkdir(parents=True, exist_ok=True)
    for file in template.iterdir():
        known = (CONFIG_NAME, ORIGINS, *RUN_NOTEBOOKS, *BATCH_NOTEBOOKS)
        if file.is_file() and file.name not in known and not file.name.startswith("."):
            shutil.copy(file, folder)
    if seeds is None:
        places = [template, batch_folder(template)]
        texts = {name: edited_in(places, name) or notebook_source(name) for name in BATCH_NOTEBOOKS}
        _write_missing(batch_folder(here), texts)
    _fill(folder, source, notebooks)
    if seeds is not None:
        _remember(here.parent, [folder], source, notebooks)
    return folder


def _notebooks_from(template: Path, folder: Path) -> dict[str, str]:
    """The notebooks that a new folder has itself: five in a run or a template; in a condition those edited ones that no run of it would get."""
    edited = {name: text for name in (*RUN_NOTEBOOKS, *BATCH_NOTEBOOKS) if (text := edited_in([template], name))}
    if seeds_of(folder) is not None or folder.name == TEMPLATE:
        return {name: edited.get(name) or notebook_source(name) for name in RUN_NOTEBOOKS}
    found_there = RUN_NOTEBOOKS if template_of(folder) == template.resolve() else ()
    return {name: text for name, text in edited.items() if name not in found_there}


def _fill(folder: Path, config: Path, notebooks: Mapping[str, str], *, overwrite: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _write_missing(folder, notebooks, overwrite=overwrite)
        write_text(folder / CONFIG_NAME, config.read_text(encoding="utf-8"))  # last: a folder with a config is whole


def _write_missing(folder: Path, notebooks: Mapping[str, str], *, overwrite: bool = False) -> None:
    for name, text in notebooks.items():
        if overwrite or not (folder / name).exists():
            write_text(folder / name, text)


def _remember(condition: Path, folders: Iterable[Path], config: Path, notebooks: Mapping[str, str]) -> None:
    origin = Origin(read_yaml(config), {name: mark_of(text) for name, text in notebooks.items()})
    remember(condition, {folder.name: origin for folder in folders})


def sync_notebooks(experiments: str | Path, *, force: bool = False) -> list[Path]:
    """Write every notebook of templates and experiment folders from its one source; run folders keep theirs.

    Batch notebooks that lie in a condition folder are brought up to date, too; a condition without a template above it gets all of them.

    Args:
        experiments: the folder that holds the experiments.
        force: replace also notebooks that are no version of the package's, because a user has edited them.

    Returns:
        The files that were changed.

    Raises:
        ConfigError: some were edited; they are kept, the others have been written.
    """
    changed, edited = [], []
    for path in _copies(Path(experiments)):
        text = notebook_source(path.name)
        if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
            continue
        if path.is_file() and not force and is_edited(path):
            edited.append(path)
        else:
            changed.append(write_text(path, text))
    if edited:
        raise ConfigError(
            f"{listed(edited, 5)}: edited, no version of the package's, so kept ({len(changed)} others were written). Leave them as they "
            "are: `minima-volume new` gives new runs a template's own. Or say --force (force=True) to replace them, which loses the edits"
        )
    return changed


def _copies(experiments: Path) -> list[Path]:
    """The notebooks at or below a folder that are copies of the package's, whether they are there or not."""
    copies = []
    for folder in (config.parent for config in sorted(experiments.rglob(CONFIG_NAME))):
        if folder.resolve().name == TEMPLATE:
            copies += [folder / name for name in RUN_NOTEBOOKS]
            copies += [folder.parent / name for name in BATCH_NOTEBOOKS if folder != experiments]
        elif is_condition(folder):
            alone = template_of(folder) is None
            copies += [folder / name for name in BATCH_NOTEBOOKS if alone or (folder / name).is_file()]
    return list(dict.fromkeys(copies))
