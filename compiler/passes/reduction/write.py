"""The smaller model's equations as text of the language, its operators as parameters with values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.passes.reduction.project import Map, Operators, Sum
from ndl.compiler.passes.reduction.structure import extents, whole

if TYPE_CHECKING:
    from torch import Tensor

INFIX = {
    "add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), "floordiv": ("//", 2),
    "pow": ("^", 4),
    "lt": ("<", 0), "le": ("<=", 0), "gt": (">", 0), "ge": (">=", 0), "eq": ("==", 0), "ne": ("!=", 0),
    "and": ("and", 0), "or": ("or", 0),
}  # fmt: skip
CALLS = {"maximum": "max", "minimum": "min", "mod": "mod", "atan2": "atan2"}
WORDLESS = frozenset({"digamma", "trigamma", "expand", "not"})
"""Unary ops that have no function of their name in the language."""
ATOM = 5


@dataclass
class Page:
    """Statements and the values of the parameters that they declare; `taken` are names that are not free."""

    taken: set[str]
    declared: list[str] = field(default_factory=list)
    equations: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def fresh(self, name: str) -> str:
        """The name, or with the first number that makes it free."""
        found, k = name, 2
        while found in self.taken:
            found, k = f"{name}{k}", k + 1
        self.taken.add(found)
        return found

    def parameter(self, name: str, value: Tensor, keyword: str = "param") -> str:
        """Declare an operator of the smaller model; its name."""
        found = self.fresh(name)
        shape = f"[{', '.join(map(str, value.shape))}]" if value.ndim else ""
        self.declared.append(f"{keyword} {found}: R{shape} = 0")
        self.values[found] = value
        return found

    def equation(self, left: str, right: str) -> None:
        self.equations.append(f"{left} = {right}")


@dataclass(frozen=True)
class Variable:
    """How a variable is written, with its extents, and what the matrices that meet it are called; `rank`: of
    matrices that meet it at most, by a product of two."""

    text: str
    extents: tuple[int, ...]
    letter: str


class Writer:
    """Writes the maps and sums of `Operators`."""

    def __init__(
        self, graph: Graph, page: Page, variables: Mapping[str, Variable], rank: int | None = None
    ) -> None:
        self.graph, self.page, self.rank = graph, page, rank
        self.variables = dict(variables)

    def maps(self, operators: Operators) -> None:
        """A line for each elementwise map."""
        for m in operators.maps:
            text = self._map(m)
            self.page.equation(m.name, text)
            self.variables[m.name] = Variable(m.name, () if m.number else (len(m.rows),), "N")

    # ------------------------------------------------------------ affine sums

    def sum(self, s: Sum, letters: Mapping[str, str] | None = None) -> tuple[str, int]:
        """An affine combination as text, and how tightly it binds."""
        pieces = [self._product(name, m, s.number, letters or {}) for name, m in s.matrices.items()]
        if bool((s.offset != 0).any()) or not pieces:
            pieces.append(self._constant(s))
        text = pieces[0]
        for piece in pieces[1:]:
            text += f" - {piece[1:]}" if piece.startswith("-") else f" + {piece}"
        return text, 1 if len(pieces) > 1 or text.startswith("-") else 2 if set(text) & set("*@ ") else ATOM

    def _constant(self, s: Sum) -> str:
        if s.number:
            return number(float(s.offset))
        if not bool((s.offset != 0).any()):
            return f"zeros({len(s.offset)})"
        return self.page.parameter("b", s.offset)

    def _product(self, name: str, m: Tensor, scalar: bool, letters: Mapping[str, str]) -> str:
        """`A @ z`, `a*t`, or less where the matrix is diagonal."""
        variable = self.variables[name]
        letter = letters.get(name, variable.letter)
        flat = variable.text if len(variable.extents) < 2 else f"reshape({variable.text}, {m.shape[1]})"
        if not variable.extents:
            if scalar:
                return scaled(float(m), flat)
            return f"{self.page.parameter(letter.lower(), m[:, 0])}*{flat}"
        if scalar:
            return f"dot({self.page.parameter(letter.lower(), m[0])}, {flat})"
        diagonal = m.diagonal() if m.shape[0] == m.shape[1] else None
        if diagonal is not None and bool((m == diagonal.diag()).all()):
            first = float(diagonal[0])
            if bool((diagonal == first).all()):
                return scaled(first, flat)
            return f"{self.page.parameter(letter.lower(), diagonal)}*{flat}"
        if self.rank is not None and self.rank < min(m.shape):
            left, right = halves(m, self.rank)
            a, b = self.page.parameter(f"{letter}_left", left), self.page.parameter(f"{letter}_right", right)
            return f"{a} @ ({b} @ {flat})"
        return f"{self.page.parameter(letter, m)} @ {flat}"

    # ------------------------------------------------------------ elementwise maps

    def _map(self, m: Map) -> str:
        uses: dict[int, int] = {}
        for i in m.region.inner:
            for operand in self.graph.operands(self.graph[i]):
                node = whole(self.graph, operand)
                uses[node.id] = uses.get(node.id, 0) + 1
        texts: dict[int, tuple[str, int]] = {}
        for i, leaf in m.leaves.items():
            text, level = self.sum(leaf)
            if uses.get(i, 0) > 1 and level < ATOM:
                name = self.page.fresh("y")
                self.page.equation(name, text)
                text, level = name, ATOM
            texts[i] = text, level
        for i, value in m.fixed.items():
            texts[i] = self._fixed(value)
        for i in sorted(m.region.inner):
            node = self.graph[i]
            if node.op == "expand":
                continue
            text, level = self._node(node, texts)
            if uses.get(i, 0) > 1 and i != m.region.root.id:
                name = self.page.fresh("w")
                self.page.equation(name, text)
                text, level = name, ATOM
            texts[i] = text, level
        return texts[m.region.root.id][0]

    def _fixed(self, value: Tensor) -> tuple[str, int]:
        """An operand that nothing changes: a number, or a parameter at the places of the map."""
        first = value.reshape(-1)[0]
        if bool((value == first).all()):
            text = number(first.item())
            return text, 1 if text.startswith("-") else ATOM
        return self.page.parameter("c", value), ATOM

    def _node(self, node: Node, texts: Mapping[int, tuple[str, int]]) -> tuple[str, int]:
        operands = [texts[whole(self.graph, o).id] for o in self.graph.operands(node)]
        if node.op in INFIX:
            sign, level = INFIX[node.op]
            left = within(operands[0], level + (node.op == "pow"))
            right = within(operands[1], level + (node.op != "pow"))
            spaced = f" {sign} " if level < 2 else sign
            return f"{left}{spaced}{right}", level
        if node.op == "neg":
            return f"-{within(operands[0], 3)}", 1
        if node.op == "select":
            return f"(if {operands[0][0]} then {operands[1][0]} else {operands[2][0]})", ATOM
        if node.op in CALLS or (len(operands) == 1 and node.op not in WORDLESS):
            name = CALLS.get(node.op, node.op)
            return f"{name}({', '.join(t for t, _ in operands)})", ATOM
        if node.op == "not":
            return f"(not {within(operands[0], ATOM)})", ATOM
        raise fail("NDL671", f"`{node.op}` has no text in a reduced model", node.span)


def within(operand: tuple[str, int], level: int) -> str:
    text, own = operand
    return text if own >= level else f"({text})"


def scaled(factor: float, text: str) -> str:
    if factor == 1:
        return text
    return f"-{text}" if factor == -1 else f"{number(factor)}*{text}"


def number(x: Any) -> str:
    """A number as the language writes it: whole ones without a point."""
    if isinstance(x, bool):
        return "true" if x else "false"
    return str(int(x)) if float(x).is_integer() and abs(x) < 1e15 else repr(float(x))


def halves(m: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of a rank, as U_r S_r and W_r^T. Eckart, Young (1936)."""
    import torch

    u, s, w = torch.linalg.svd(m, full_matrices=False)
    return u[:, :rank] * s[:rank], w[:rank]


def shape_text(shape: Sequence[int]) -> str:
    return f"R[{', '.join(map(str, shape))}]" if shape else "R"


__all__ = ["Page", "Variable", "Writer", "extents", "shape_text"]
