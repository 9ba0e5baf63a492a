"""A syntax tree as indented text: one line a node, its position behind it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from ndl.compiler.source import Source, Span
from ndl.compiler.syntax.tree import File


def tree_text(file: File) -> str:
    """Every item of a file with its children; plain fields stand on the node's own line."""
    lines: list[str] = []
    for item in file.items:
        _node(item, "", 0, lines)
    return "\n".join(lines) + "\n"


def _node(node: Any, label: str, depth: int, lines: list[str]) -> None:
    """Depth is bounded by the parser's own limit on nesting."""
    plain: list[str] = []
    children: list[tuple[str, Any]] = []
    for f in fields(node):
        value = getattr(node, f.name)
        if isinstance(value, (Span, Source)) or value is None or value == ():
            continue
        if is_dataclass(value):
            children.append((f.name, value))
        elif isinstance(value, tuple) and any(is_dataclass(v) or isinstance(v, tuple) for v in value):
            children.extend((f"{f.name}[{i}]", v) for i, v in enumerate(_flat(value)))
        else:
            plain.append(f"{f.name}={value!r}")
    where = f"  @{node.span.line}:{node.span.column}"
    text = f"{label}: " if label else ""
    lines.append("  " * depth + text + " ".join([type(node).__name__, *plain]) + where)
    for name, child in children:
        if is_dataclass(child):
            _node(child, name, depth + 1, lines)
        else:
            lines.append("  " * (depth + 1) + f"{name}: {child!r}")


def _flat(values: tuple[Any, ...]) -> list[Any]:
    """Pairs, such as the entries of a dictionary, as a flat list."""
    out: list[Any] = []
    for v in values:
        out.extend(_flat(v) if isinstance(v, tuple) else [v])
    return out
