"""Progress of many runs: one bar over all notebooks with the time that is left, one for each run being worked on."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from tqdm.auto import tqdm

from minima_volume.execution.meter import LINE_SECONDS, in_notebook
from minima_volume.numerals import duration
from minima_volume.runs.execute import Outcome
from minima_volume.stages.run import STAGES

MOST_BARS = 8  # more runs at once than this share the overall bar only


class Progress:
    """One overall bar, and one for each place that a run is worked on in; in a log (no terminal, no notebook) lines instead.

    A line is written when something has changed, at most every half minute, and at the end.

    The time left is the mean time of each stage's finished notebooks times those that are still to come, shared out among the
    places; nothing is shown until the first run has shown what its stages take.
    """

    def __init__(self, total: int, places: int, show: bool) -> None:
        self.lock, self.places, self.left, self.ended = threading.Lock(), places, total, 0
        self.taken: dict[str, list[float]] = {}
        self.begun: dict[int, tuple[str, str, float]] = {}
        form = "{desc}: {n_fmt}/{total_fmt} notebooks |{bar}| {elapsed}{postfix}"
        drawn = show and (in_notebook() or sys.stderr.isatty())
        self.lines, self.changed, self.written, self.start = show and not drawn, False, -LINE_SECONDS, time.monotonic()
        self.bar = tqdm(total=total, disable=not drawn, desc="pipeline", bar_format=form, position=0)
        self.total = total
        shown = drawn and 1 < places <= MOST_BARS
        self.bars = [
            tqdm(total=len(STAGES), bar_format="{desc}", position=1 + i, leave=False, disable=not shown)
            for i in range(places if shown else 0)
        ]

    def begin(self, place: int, run: str, stage: str) -> None:
        """A run's stage begins in a place."""
        with self.lock:
            self.begun[place] = run, stage, time.monotonic()
            self.changed = True
            self._show(place)
            self._write()

    def end(self, place: int, outcome: Outcome) -> None:
        """A run's stage has ended."""
        with self.lock:
            self.begun.pop(place, None)
            self.left -= 1
            if outcome.outcome == "done":
                self.taken.setdefault(outcome.stage, []).append(outcome.seconds)
            if outcome.outcome not in ("interrupted", "not reached"):
                self.ended += 1
                self.bar.update()
            self.bar.set_postfix_str(self.remaining(), refresh=False)
            self.changed = True
            self._show(place)
            self._write()

    def remaining(self) -> str:
        """The time left in words, empty while nothing is known.

        Stages that no run has finished yet are taken to last as long as the mean of those that are known.
        """
        if not self.taken or not self.left:
            return ""
        means = [sum(seconds) / len(seconds) for seconds in self.taken.values()]
        return f"about {duration(self.left * sum(means) / len(means) / self.places)} left"

    def refresh(self) -> None:
        """Draw all bars anew, with the time that has passed."""
        with self.lock:
            self.bar.refresh()
            for place in range(len(self.bars)):
                self._show(place)
            self._write()

    def _write(self, last: bool = False, name: str = "pipeline") -> None:
        """A line of a log, if it is time for one."""
        passed = time.monotonic() - self.start
        if not self.lines or not self.changed or (passed - self.written < LINE_SECONDS and not last):
            return
        self.changed, self.written = False, passed
        now = [f"{run}: {stage}" for run, stage, _ in self.begun.values()]
        working = f"{', '.join(now[:MOST_BARS])}{', ...' if len(now) > MOST_BARS else ''}"
        words = [f"{name}: {self.ended}/{self.total} notebooks", duration(passed), self.remaining(), working]
        print(" | ".join(filter(None, words)), file=sys.stderr, flush=True)

    def _show(self, place: int) -> None:
        if place >= len(self.bars):
            return
        if place not in self.begun:
            self.bars[place].set_description_str("")
            return
        run, stage, since = self.begun[place]
        number = list(STAGES).index(stage) + 1
        self.bars[place].set_description_str(
            f"  {run}: {stage} ({number} of {len(STAGES)}), {duration(time.monotonic() - since)}"
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        name = "pipeline interrupted" if interrupted else "pipeline"
        with self.lock:
            self.begun.clear()
            self.changed |= interrupted
            self.bar.set_description_str(name, refresh=False)
            for bar in (*self.bars, self.bar):
                bar.close()
            self._write(last=True, name=name)
            self.lines = False  # notebooks that are left to end by themselves say nothing any more
