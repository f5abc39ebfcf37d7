"""Devices by name, and work that is too large for the memory."""

from __future__ import annotations

import pytest
import torch

from minima_volume.errors import ConfigError
from minima_volume.execution.device import checked_device, in_memory


def test_a_gpu_that_is_not_there_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert checked_device("cuda") == torch.device("cuda") and checked_device("cuda:1").index == 1
    with pytest.raises(ConfigError, match="'cuda:2': this machine has 2, cuda:0 to cuda:1"):
        checked_device("cuda:2")


def test_an_allocation_that_fails_is_one_message():
    with pytest.raises(ConfigError, match="the matrix needs more memory than there is"), in_memory("the matrix"):
        torch.empty(2**50)
    with pytest.raises(RuntimeError, match="size of tensor a"), in_memory("the sum"):
        torch.zeros(2) + torch.zeros(3)
