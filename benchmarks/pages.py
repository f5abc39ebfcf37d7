"""Tables in pages, each between two marks: <!-- name --> and <!-- /name -->."""

from __future__ import annotations


def between(text: str, name: str, content: str) -> str:
    """A page's text with what stands between the marks of this name replaced.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"there is no place for a table between {begin} and {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"
