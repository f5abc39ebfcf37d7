"""What no file of the package may grow into: long files, and functions with many parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import minima_volume

PACKAGE = Path(minima_volume.__file__).parent
MOST_LINES, MOST_PARAMETERS = 350, 12


def functions(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, int]]:
    """Name and number of parameters of every function and lambda; those of a class without its self or cls."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
            name = "lambda" if isinstance(node, ast.Lambda) else node.name
            own = inside and named and named[0].arg in ("self", "cls")
            yield name, len(named) - bool(own)
        yield from functions(node, isinstance(node, ast.ClassDef))


def test_parameters_are_counted() -> None:
    """All kinds of them, in classes and inside other functions."""
    text = "class A:\n def f(self, a, /, b, *c, d, **e):\n  def g(self): return lambda x, y: 0\n @classmethod\n def h(cls): ..."
    assert list(functions(ast.parse(text))) == [("f", 5), ("g", 1), ("lambda", 2), ("h", 0)]


def test_no_function_has_many_parameters() -> None:
    """At most 12; what needs more takes a settings object."""
    found = [
        (path.relative_to(PACKAGE).as_posix(), name, count)
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, count in functions(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(found) > 500
    assert not [entry for entry in found if entry[2] > MOST_PARAMETERS]


def test_no_file_is_long() -> None:
    """At most 350 lines."""
    lines = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8").count("\n")
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    assert len(lines) > 100
    assert not {name for name, count in lines.items() if count > MOST_LINES}
