"""How far one measurement has come: a bar on a terminal or in a notebook, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm.auto import tqdm

LINE_SECONDS = 30.0  # between two lines in a log


def in_notebook() -> bool:
    """Whether bars are widgets of a notebook."""
    return any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)


class Meter:
    """Overall progress that never falls, with a few words on what is being done.

    Where standard error is no terminal and no notebook, nothing is shown but a line every half minute.
    """

    def __init__(self, total: float, show: bool) -> None:
        """Start at 0.

        Args:
            total: what `at` reaches in the end, in units of the caller's own.
            show: False shows nothing at all.
        """
        drawn = show and (in_notebook() or sys.stderr.isatty())
        self.lines, self.written = show and not drawn, time.monotonic()
        form = "{percentage:3.0f}% |{bar}| {elapsed}{postfix}"
        self.bar = tqdm(total=total, disable=not drawn, bar_format=form)
        self.total, self.done = total, 0.0

    def at(self, done: float, text: str) -> None:
        """`done` of the total are done, and `text` says what is being done."""
        self.done = max(self.done, min(done, self.total))
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(self.done - self.bar.n)
        if self.lines and time.monotonic() - self.written >= LINE_SECONDS:
            self.written = time.monotonic()
            print(f"{self.done / self.total:.0%} | {text}", file=sys.stderr, flush=True)

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
