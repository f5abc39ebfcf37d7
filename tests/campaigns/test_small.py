"""A seeded part of each campaign; `make campaign` runs the whole."""

from __future__ import annotations

import pytest

from campaigns import configs, failing_writes, full_disk, hostile, kills, kinds, malformed, memory


def test_malformed_files():
    tally = malformed.campaign(10, seed=1)
    assert tally.tried == 10 and not tally.wrong, tally


def test_kinds_of_values():
    tally = kinds.campaign(10, seed=1)
    assert tally.tried == 10 and not tally.wrong, tally


def test_configs():
    tally = configs.campaign(60, seed=1)
    assert tally.tried == 60 and not tally.wrong, tally


def test_hostile_folders():
    tally = hostile.campaign(3, seed=1)
    assert tally.tried == 3 and not tally.wrong, tally


def test_failing_writes():
    tally = failing_writes.campaign(2, seed=1)
    assert tally.tried == 2 and not tally.wrong, tally


def test_full_disk():
    if not full_disk.possible():
        pytest.skip("mounting a small file system takes root")
    tally = full_disk.campaign(3, seed=20)
    assert tally.tried == 3 and not tally.wrong, tally


def test_kills():
    tally = kills.campaign(1, seed=1)
    assert tally.tried == 1 and not tally.wrong, tally


def test_memory():
    tally = memory.campaign(1, seed=1, stages=("train", "perturb"))
    assert tally.tried == 2 and not tally.wrong, tally
