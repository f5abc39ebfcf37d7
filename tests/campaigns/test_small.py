"""A seeded part of each campaign; `make campaign` runs the whole."""

from __future__ import annotations

from campaigns import configs, failing_writes, hostile, kills, malformed


def test_malformed_files():
    tally = malformed.campaign(25, seed=1)
    assert tally.tried == 25 and not tally.wrong, tally


def test_configs():
    tally = configs.campaign(60, seed=1)
    assert tally.tried == 60 and not tally.wrong, tally


def test_hostile_folders():
    tally = hostile.campaign(8, seed=1)
    assert tally.tried == 8 and not tally.wrong, tally


def test_failing_writes():
    tally = failing_writes.campaign(6, seed=1)
    assert tally.tried == 6 and not tally.wrong, tally


def test_kills():
    tally = kills.campaign(2, seed=1)
    assert tally.tried == 2 and not tally.wrong, tally
