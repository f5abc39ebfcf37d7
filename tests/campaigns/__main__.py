"""All campaigns in full: `make campaign`, or `python -m campaigns NAME ...` with tests/ on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from campaigns import configs, failing_writes, full_disk, hostile, kills, kinds, malformed, memory
from campaigns.common import Tally

CAMPAIGNS: dict[str, Callable[[], Tally]] = {
    "configs": lambda: configs.campaign(500),
    "malformed": lambda: malformed.campaign(1000),
    "kinds": lambda: kinds.campaign(),
    "hostile": lambda: hostile.campaign(60),
    "failing_writes": lambda: failing_writes.campaign(),
    "full_disk": lambda: full_disk.campaign(),
    "memory": lambda: memory.campaign(),
    "kill_run": lambda: kills.campaign(25, command="run"),
    "kill_pipeline": lambda: kills.campaign(25, command="pipeline"),
}


def main() -> int:
    """Run the campaigns that are named, or all; 1 if something went wrong."""
    torch.set_num_threads(1)
    wrong = 0
    for name in sys.argv[1:] or CAMPAIGNS:
        tally = CAMPAIGNS[name]()
        print(tally, flush=True)
        wrong += len(tally.wrong)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
