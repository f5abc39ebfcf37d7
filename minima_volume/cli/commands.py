"""A list of commands whose summaries are whole sentences."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class Commands(TyperGroup):
    """A group whose help shows the first sentence of every command, however long."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list, a command per row."""
        rows = [
            (name, summary(command.help or ""))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def summary(text: str) -> str:
    """The first sentence.

    >>> summary("Make run folders in a condition.\\nNothing that exists is overwritten.")
    'Make run folders in a condition.'
    """
    words = " ".join(text.strip().split("\n\n")[0].split())
    first, stop, _ = words.partition(". ")
    return first + stop.strip()
