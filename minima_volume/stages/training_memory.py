"""Which trainings of a run fit the memory budget, found out on a few samples before the first begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minima_volume.data import Dataset
from minima_volume.errors import ConfigError
from minima_volume.execution.device import usable_device
from minima_volume.hosts.footprint import Footprint
from minima_volume.seeding import own_randomness
from minima_volume.stages.minimum import TrainTask, on_device
from minima_volume.training.evaluation import EVALUATION_BATCH, EVALUATION_BYTES, evaluation_footprint, ready
from minima_volume.training.supervised import train_model

TORCH = 64 * 2**20  # what its libraries take on first use


def trainings_at_once(tasks: Sequence[TrainTask], dataset: Dataset) -> int:
    """How many of the trainings fit `execution.memory_gib` side by side, whichever they are.

    Args:
        tasks: the trainings, at least one.
        dataset: the run's samples, which do not count; the model's weights do not either.

    Raises:
        ConfigError: the largest step does not fit alone; the message says which batch size does.
    """
    largest = max(tasks, key=_batch)
    room = largest.config.execution.memory_gib * 2**30
    step, evaluation = footprints(largest, dataset)
    taken = np.sort([max(step.bytes(_batch(task)), evaluation) for task in tasks])[::-1].cumsum()
    if taken[0] <= max(room, TORCH):
        return max(1, int((taken <= room).sum()))
    if evaluation > room:
        raise ConfigError(
            f"training {largest.name}: an evaluation takes about {evaluation / 2**30:.2f} GiB, more than execution.memory_gib "
            f"{room / 2**30:g}; raise it, or take a smaller model"
        )
    fits = step.samples(room)
    how = f"set training.batch_size to at most {fits:,}" if fits > 1 else "take a smaller model"
    raise ConfigError(
        f"training {largest.name}: a step on {_batch(largest):,} samples at once takes about {taken[0] / 2**30:.2f} GiB, more than "
        f"execution.memory_gib {room / 2**30:g}; {how}, or raise execution.memory_gib"
    )


def footprints(task: TrainTask, dataset: Dataset) -> tuple[Footprint, float]:
    """Memory of one optimisation step (activations, gradients, the optimiser's state, SAM's second pass), and of an evaluation."""
    settings = task.settings.model_copy(update={"epochs": 1, "checkpoints": None, "batch_size": None})
    device, seed = usable_device(task.config), task.config.model_seed
    model, (x, y), test = on_device(task, dataset, device)
    ready(model, (x, y), task.run.loss)  # what does not fit is said of all samples, not of a few

    def step(samples: int) -> None:
        with own_randomness(seed, device):
            train_model(model, (x[:samples], y[:samples]), (x[:2], y[:2]), settings, seed, loss=task.run.loss)
        model.zero_grad(set_to_none=True)

    evaluation = evaluation_footprint(model, test[0])
    together = min(evaluation.samples(EVALUATION_BYTES), EVALUATION_BATCH, max(len(x), len(test[0])))
    return Footprint.of(step, [*model.parameters(), *model.buffers(), x, y]), evaluation.bytes(together)


def _batch(task: TrainTask) -> int:
    return min(task.settings.batch_size or task.size, task.size)
