"""The trained models of a run and its samples, and the check that they are what config.yaml describes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from minima_volume.data import Dataset, load_dataset
from minima_volume.errors import DamagedFileError, MissingStageError, StaleError
from minima_volume.files.atomic import hash_arrays, read_pt
from minima_volume.files.content import interpreted, settings_of, skims
from minima_volume.files.user_code import code_allowed
from minima_volume.hosts.doors import evaluation_host
from minima_volume.hosts.host import untouched
from minima_volume.isolation import own_defaults
from minima_volume.models import build_model
from minima_volume.models.stand_in import stand_in
from minima_volume.stages.freshness import TRAIN_AGAIN, data_level, require_same, weights_settings
from minima_volume.stages.minimum import num_outputs
from minima_volume.stages.run import MODEL_PREFIXES, WHICH_MINIMA, Run, read_run
from minima_volume.training.evaluation import evaluate

AS_TRAINED = 1e-3  # relative difference of test losses that another device or number of threads may make


class Trained(NamedTuple):
    """What `load_models_and_data` gives back.

    Attributes:
        models: minimum -> model in evaluation mode, on the CPU; a minimum is named by its value of the run's variation: its
            level usually, its epoch or batch size in a series on one data set.
        dataset: the samples.
        records: minimum -> everything else the model's file holds (histories, settings, hashes).
    """

    models: dict[int, nn.Module]
    dataset: Dataset
    records: dict[int, dict[str, Any]]


def check_trained_settings(run: Run) -> dict[int, dict[str, Any]]:
    """Refuse settings that differ from those the run's existing models were made with.

    Returns:
        What the files of these models hold.

    Raises:
        StaleError: names the setting, its two values and the way out.
    """
    records = {}
    for minimum in run.config.minima:
        path = run.model_file(minimum)
        if path.is_file():
            records[minimum] = _read_record(run, minimum)
            require_same(records[minimum]["settings"], weights_settings(run.config), path, TRAIN_AGAIN)
    known = {run.model_file(minimum) for minimum in run.config.minima}
    for variation, prefix in MODEL_PREFIXES.items():
        for path in run.models.glob(f"{prefix}*.pt"):
            if path.stem.removeprefix(prefix).isdigit() and path not in known:
                listed = WHICH_MINIMA[variation][0]
                section, key = listed.split(".")
                values = getattr(getattr(run.config, section), key)
                way_out = (
                    TRAIN_AGAIN
                    if variation != run.config.variation
                    else "Set it back, or delete this file; the others stay."
                )
                raise StaleError(f"{path}: {listed} {values} does not have this one. {way_out}")
    return records


@own_defaults()
def load_models_and_data(run: Run | str | Path) -> Trained:
    """Load the samples and rebuild every model of a run from its weights.

    Args:
        run: the run folder, or the run that `minima_volume.open_run(folder)` gave.

    Raises:
        MissingStageError: notebook 1 has not been run, or a model is missing.
        StaleError: the models were made with other settings or other samples.
    """
    run = run if isinstance(run, Run) else read_run(run)
    found = check_trained_settings(run)
    dataset = load_dataset(run.dataset_file, run.config, run.folder)
    models, records = {}, {}
    for minimum in run.config.minima:
        record = found.pop(minimum, None) or _read_record(run, minimum)
        level = data_level(record)
        if level > len(dataset.x_additional) or record["data_hash"] != dataset.hash(level):
            raise StaleError(
                f"{run.model_file(minimum)} was trained on other samples than {run.dataset_file.name} holds. {TRAIN_AGAIN}"
            )
        if code_allowed() or ":" not in run.config.model.name:
            model = build_model(run.config, dataset.x_base_train.shape[1:], num_outputs(dataset), run.folder)
        else:
            with interpreted(run.model_file(minimum)):
                model = stand_in(record["state_dict"])
        try:
            with interpreted(run.model_file(minimum)):
                model.load_state_dict(record.pop("state_dict"))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise StaleError(
                f"{run.model_file(minimum)} does not fit model {run.config.model.name!r}: {reason}. {TRAIN_AGAIN}"
            ) from error
        if code_allowed() and not skims():
            _require_as_trained(run, minimum, model, record, dataset)
        models[minimum] = model.eval()
        records[minimum] = record
    return Trained(models, dataset, records)


def _require_as_trained(run: Run, minimum: int, model: nn.Module, record: dict[str, Any], dataset: Dataset) -> None:
    """Refuse a user's code that computes something else than when the model was trained; other spelling of the same is welcome."""
    code = [name for name in (run.config.model.name, run.config.training.loss) if ":" in name]
    if not code:
        return
    then = record["test_loss"][record["epoch"] - 1]
    with untouched(model):
        evaluation_host(model, dataset.x_train)  # what is said of it is of these
        now = evaluate(model, (dataset.x_test, dataset.y_test), run.loss)[0]
    if not math.isclose(now, then, rel_tol=AS_TRAINED, abs_tol=AS_TRAINED / 100):
        raise StaleError(
            f"{run.model_file(minimum)} has a test loss of {now:.6g}, and had {then:.6g} when it was trained: the code of "
            f"{' or '.join(code)} was changed since. {TRAIN_AGAIN}"
        )


def _read_record(run: Run, minimum: int) -> dict[str, Any]:
    path = run.model_file(minimum)
    if not path.is_file():
        raise MissingStageError(
            f"{path} does not exist: run 'Train Low Test Models.ipynb' (`minima-volume run --stage train`) first"
        )
    record = read_pt(path)
    if "settings" not in record or "state_dict" not in record:
        raise DamagedFileError(f"{path} lacks 'settings' or 'state_dict': it was not written by this package")
    with interpreted(path):
        settings_of(record)
        if not isinstance(level := data_level(record), int):
            raise TypeError(f"the level is {level!r:.40}, not a whole number")
        same = skims() or hash_arrays(record["state_dict"]) == record["weights_hash"]
        record["data_hash"], record["train_loss"][-1], record["test_loss"][record["epoch"] - 1]
        record["test_accs"][record["epoch"] - 1], record["settings"]["training"].keys()
    if not same:
        raise DamagedFileError(f"{path}: the weights do not match their hash; delete it and train again")
    return record
