"""A node of the syntax tree and all nodes below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ndl.compiler.syntax import tree


def walk(node: Any) -> Iterator[Any]:
    """A node and all nodes below it."""
    if isinstance(node, tree.Node):
        yield node
        for name in node.__dataclass_fields__:
            if name not in ("span", "name_span"):
                yield from walk(getattr(node, name))
    elif isinstance(node, tuple):
        for item in node:
            yield from walk(item)
