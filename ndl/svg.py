"""A graph of the IR as an SVG picture: one row for each depth, edges downwards.

A node stands below all its operands (longest path from an input); within a row, nodes are ordered by
the mean place of their operands, which keeps most edges short.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Function, Node

LETTER, BOX, GAP_X, GAP_Y, MARGIN = 7.2, 30, 22, 44, 20
FILLS = {"input": "#dbeafe", "param": "#dcfce7", "const": "#f3f4f6", "call": "#fef3c7"}


def graph_svg(function: Function) -> str:
    """The part of a function's graph that its outputs need, with the outputs named."""
    nodes = function.graph.needed([node for _, node in function.outputs])
    rows = _rows(nodes)
    places: dict[int, tuple[float, float, float]] = {}
    widest = max((sum(_width(n) + GAP_X for n in row) for row in rows), default=0.0)
    for depth, row in enumerate(rows):
        x = MARGIN + (widest - sum(_width(n) + GAP_X for n in row)) / 2
        for node in row:
            places[node.id] = (x, MARGIN + depth * (BOX + GAP_Y), _width(node))
            x += _width(node) + GAP_X
    height = 2 * MARGIN + len(rows) * (BOX + GAP_Y) + BOX
    body = [_edge(places[i], places[n.id]) for n in nodes for i in n.inputs]
    body.extend(_box(n, places[n.id]) for n in nodes)
    body.extend(_output(label, places[n.id], i) for i, (label, n) in enumerate(function.outputs))
    size = f'width="{widest + 2 * MARGIN:.0f}" height="{height:.0f}"'
    style = 'font-family="ui-monospace, monospace" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(body) + "\n</svg>\n"


def _rows(nodes: list[Node]) -> list[list[Node]]:
    depth: dict[int, int] = {}
    for n in nodes:
        depth[n.id] = 1 + max((depth[i] for i in n.inputs), default=-1)
    rows: list[list[Node]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for n in nodes:
        rows[depth[n.id]].append(n)
    place: dict[int, float] = {}
    for row in rows:
        row.sort(key=lambda n: (sum(place[i] for i in n.inputs) / len(n.inputs) if n.inputs else 0.0, n.id))
        place.update({n.id: (k + 0.5) / len(row) for k, n in enumerate(row)})
    return rows


def _label(node: Node) -> str:
    """What a reader wants to see: names of inputs and weights, values of constants, else the op."""
    value = node.attr("name", node.attr("value"))
    text = node.op if value is None else str(value) if node.op in ("input", "const") else f"{node.op} {value}"
    text = f"{node.hint} = {text}" if node.hint and node.hint != text else text
    return text if len(text) <= 32 else text[:31] + "…"


def _width(node: Node) -> float:
    return max(len(_label(node)), len(str(node.type))) * LETTER + 16


def _box(node: Node, place: tuple[float, float, float]) -> str:
    x, y, w = place
    fill = FILLS.get(node.op, "#ffffff")
    middle = x + w / 2
    shape = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{BOX}" rx="5"'
    return (
        f'<rect {shape} fill="{fill}" stroke="#6b7280"/>'
        f'<text x="{middle:.1f}" y="{y + 13:.1f}" text-anchor="middle">{escape(_label(node))}</text>'
        f'<text x="{middle:.1f}" y="{y + 26:.1f}" text-anchor="middle" fill="#6b7280" font-size="10">'
        f"{escape(str(node.type))}</text>"
    )


def _edge(above: tuple[float, float, float], below: tuple[float, float, float]) -> str:
    x0, y0 = above[0] + above[2] / 2, above[1] + BOX
    x1, y1 = below[0] + below[2] / 2, below[1]
    bend = (y0 + y1) / 2
    path = f"M{x0:.1f} {y0:.1f} C{x0:.1f} {bend:.1f} {x1:.1f} {bend:.1f} {x1:.1f} {y1:.1f}"
    return f'<path d="{path}" fill="none" stroke="#9ca3af"/>'


def _output(label: str, place: tuple[float, float, float], index: int) -> str:
    """The name of an output, under its node."""
    x, y, w = place
    at = f'x="{x + w / 2:.1f}" y="{y + BOX + 14 + 12 * (index % 2):.1f}"'
    return f'<text {at} text-anchor="middle" font-weight="bold">→ {escape(label)}</text>'
