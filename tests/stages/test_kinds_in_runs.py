"""Own models of four kinds (copies, passes, names, shapes) through the five stages: the numbers of the plain loop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import ALL_STAGES, make_run
from own_models import check_run
from run_models import ALL, NAMES, start_anew
from torch import Tensor, nn

SETTINGS = {
    "data.source": "swiss_roll",
    "data.options": {"test_per_arm": 40},
    "data.levels": [0, 20],
    "model.name": "mine:build",
    "training.loss": "bce_with_logits",
    "training.epochs": 30,
    "perturbation.names": "all",
    "perturbation.num_directions": 3,
    "volume.loss_thresholds": [0.75],
    "volume.accuracy_thresholds": None,
    "volume.top_k": 2,
}


def plain_loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """One pass over one batch, from a fresh state."""
    start_anew(model)
    with torch.no_grad():
        loss = F.binary_cross_entropy_with_logits(model(x.clone()).reshape(-1), y.float().reshape(-1)).item()
    start_anew(model)
    return loss


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ALL)
def test_the_five_stages(kind: str, tmp_path) -> None:
    """Training, radii, cut-offs and accuracies; models of the kind "names" with the default, which moves all they have."""
    folder = tmp_path / "model_0_data_10"
    folder.mkdir()
    (folder / "mine.py").write_text("from run_models import build\n", encoding="utf-8")
    names = {"perturbation.names": "weight_bias"} if kind in NAMES else {}
    run = make_run(folder, SETTINGS | names | {"model.options": {"kind": kind}}, ALL_STAGES)
    check_run(run, plain_loss, 0.75)
