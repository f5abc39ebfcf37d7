"""Making run folders and conditions, and putting the notebooks' one source where users open them."""

from __future__ import annotations

from importlib import resources
from itertools import product
from pathlib import Path

from minima_volume.config import load_config
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files import write_text
from minima_volume.layout import CONFIG_NAME, RUN_NOTEBOOKS, find_runs, read_run, refuse_twins, seeds_of

BATCH_NOTEBOOKS = (
    "make_dataset_notebooks.ipynb",
    "full_pipeline.ipynb",
    "Run Random Perturbs Parallel.ipynb",
    "Run Volume Parallel.ipynb",
    "propagate_file.ipynb",
    "cleanup_files.ipynb",
    "analyze_experiments_data.ipynb",
)
FIRST_DATA_SEED = 10


def notebook_source(name: str) -> str:
    """The canonical text of a notebook."""
    return (resources.files("minima_volume") / "notebooks" / name).read_text(encoding="utf-8")


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


def new_runs(condition: str | Path, pairs: list[tuple[int, int]], *, overwrite: bool = False) -> list[Path]:
    """Make run folders model_<i>_data_<j> in a condition folder: its config.yaml and the five notebooks.

    A folder that is there already is left as it is, so nothing a user did is overwritten unless they ask for it; what has been
    computed never is.

    Args:
        condition: a folder with a config.yaml.
        pairs: (model seed, data seed) of each run.
        overwrite: give folders that are there the condition's config.yaml and fresh notebooks.

    Returns:
        The folders, made or found.

    Raises:
        MissingStageError: the condition has no config.yaml.
        ConfigError: its config.yaml is not allowed, has a model seed, or fixes another data seed (many models on fixed data);
            or two folders are of the same seeds; or a folder to overwrite has computed something, or is a link. Then nothing is changed.
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
    for folder in there if overwrite else ():
        _refuse_to_overwrite(folder)
    for folder in folders:
        if overwrite or folder not in there:
            _fill(folder, source, RUN_NOTEBOOKS, overwrite=overwrite)
    return folders


def _refuse_to_overwrite(folder: Path) -> None:
    """A link, or a run that has computed something: its config.yaml says what its files were made with."""
    if folder.is_symlink():
        raise ConfigError(f"{folder} is a link and is not written through; nothing was changed")
    made = sorted(read_run(folder).models.glob("*.pt"))
    if made:
        raise ConfigError(
            f"{folder} has computed something ({made[0].name}, ...) and is not overwritten; nothing was changed. Remove it with "
            f"`minima-volume clean {folder} --what models` first"
        )


def new_folder(folder: str | Path, template: str | Path) -> Path:
    """Make a run folder (named model_<i>_data_<j>) or a condition folder from a template.

    Raises:
        ConfigError: the folder exists and is not empty, the template has no config.yaml, or another folder beside it is of the same seeds.
    """
    folder, source = Path(folder), Path(template) / CONFIG_NAME
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} exists and is not empty; choose another name, nothing was changed")
    if not source.is_file():
        raise MissingStageError(
            f"{source} does not exist; a template is a folder with a config.yaml, e.g. experiments/digits/template"
        )
    load_config(source)
    here = folder.resolve()
    seeds = seeds_of(here)
    if seeds is not None and here.parent.is_dir():
        refuse_twins([*((run, seeds_of(run)) for run in find_runs(here.parent)), (here, seeds)])
    _fill(folder, source, BATCH_NOTEBOOKS if seeds is None else RUN_NOTEBOOKS)
    return folder


def _fill(folder: Path, config: Path, notebooks: tuple[str, ...], *, overwrite: bool = False) -> None:
    for name in notebooks:
        if overwrite or not (folder / name).exists():
            write_text(folder / name, notebook_source(name))
    write_text(folder / CONFIG_NAME, config.read_text(encoding="utf-8"))  # last: a folder with a config is whole


def sync_notebooks(experiments: str | Path) -> list[Path]:
    """Write every notebook of templates and conditions from its one source; run folders keep theirs.

    Args:
        experiments: the folder that holds the experiments.

    Returns:
        The files that were changed.
    """
    changed = []
    for config in sorted(Path(experiments).rglob(CONFIG_NAME)):
        folder = config.parent
        if seeds_of(folder) is not None:
            continue
        for name in RUN_NOTEBOOKS if folder.name == "template" else BATCH_NOTEBOOKS:
            path, text = folder / name, notebook_source(name)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                changed.append(write_text(path, text))
    return changed
