"""The text of a smaller model: what is kept of the written one, with the equations of the reduction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from ndl.compiler.check.model_parts import Parts
from ndl.compiler.check.values import ModelV
from ndl.compiler.ir.errors import InternalError
from ndl.compiler.passes.reduction.write import Page, shape_text
from ndl.compiler.source import Source
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.parser import parse
from ndl.compiler.syntax.show import show_expr, show_parameter, show_stmt
from ndl.compiler.syntax.walk import walk


@dataclass
class Draft:
    """The parts of the text in the order in which they stand."""

    name: str
    doc: str
    states: list[str] = field(default_factory=list)
    page: Page = field(default_factory=lambda: Page(set()))
    lifted: list[str] = field(default_factory=list)


def names_in(nodes: Iterable[Any]) -> set[str]:
    return {n.id for node in nodes for n in walk(node) if isinstance(n, tree.Name)}


def taken_names(parts: Parts, model: ModelV, kept_names: set[str]) -> set[str]:
    """Names that a new declaration must not hide: those of the file, of the states and of what is kept."""
    header = {p.name for p in (*parts.decl.data, *parts.decl.options)}
    words = {"t", "dt", "zeros", "dot", "reshape", "concat", "sum", "seed"}
    return kept_names | header | words | set(model.module.names) | set(parts.states)


def kept(parts: Parts, roots: Iterable[str]) -> tuple[list[tree.Stmt], set[str]]:
    """The statements of a model that define what `roots` name, directly or not, in the order of the file."""
    statements = [s for s in parts.decl.body if defines(s)]
    wanted, found = set(roots), list[tree.Stmt]()
    while True:
        more = [s for s in statements if s not in found and wanted & set(defines(s))]
        if not more:
            break
        found += more
        wanted |= names_in(more)
    return [s for s in statements if s in found], wanted


def defines(stmt: tree.Stmt) -> list[str]:
    """The names that a statement gives a value that is no state's."""
    if isinstance(stmt, tree.Declare) and stmt.keyword != "state":
        return [i.name for i in stmt.items]
    if isinstance(stmt, (tree.Net, tree.Term, tree.Draw)):
        return [stmt.name]
    if isinstance(stmt, tree.Assign):
        return [t.id for t in stmt.targets if isinstance(t, tree.Name) and not t.primes]
    return []


def as_text(stmt: tree.Stmt) -> str:
    """A kept statement on a line; a term becomes a definition, since the splitting is not kept."""
    return f"{stmt.name} = {show_expr(stmt.value)}" if isinstance(stmt, tree.Term) else show_stmt(stmt)


def starts(parts: Parts, states: Iterable[Any], page: Page, given: Mapping[str, Any]) -> list[str]:
    """The written initial value of each state as a definition or draw, and its name."""
    found = []
    for s in states:
        name = s.name.rstrip("'")
        primes = len(s.name) - len(name)
        shape = s.type.extents
        start = page.fresh(f"{name}_start" + ("" if not primes else f"_{primes}"))
        item = parts.states[name].get(primes)
        if s.name in given:
            page.declared.append(f"param {start}: {shape_text(shape)} = 0")
            page.values[start] = given[s.name]
        elif item is not None and item.law is not None:
            page.declared.append(f"{start}: {shape_text(shape)} ~ {show_expr(item.law)}")
        else:
            value = "0" if item is None or item.value is None else show_expr(item.value)
            zeros = f"zeros({', '.join(map(str, shape))}) + " if shape else ""
            page.declared.append(f"{start} = {zeros}({value})")
        found.append(flattened(start, shape))
    return found


def flattened(name: str, shape: tuple[int, ...]) -> str:
    if not shape:
        return f"[{name}]"
    return name if len(shape) == 1 else f"reshape({name}, {prod(shape)})"


def unflattened(text: str, shape: tuple[int, ...]) -> str:
    if not shape:
        return f"sum({text})"
    return text if len(shape) == 1 else f"reshape({text}, {', '.join(map(str, shape))})"


def text_of(draft: Draft, decl: tree.Model, kept_lines: list[str]) -> str:
    """The whole declaration."""
    header = ""
    if decl.data or decl.options:
        data = ", ".join(map(show_parameter, decl.data))
        options = ", ".join(map(show_parameter, decl.options))
        header = f"({data}{'; ' + options if options else ''})"
    lines = [f"model {draft.name}{header}:", f'    """{draft.doc}"""']
    page = draft.page
    body = [*kept_lines, *page.declared, *draft.states, *page.equations, *draft.lifted]
    return "\n".join(lines + [f"    {line}" for line in body]) + "\n"


def declaration(text: str, name: str) -> tree.Model:
    """The syntax tree of a written model."""
    file, found = parse(Source(f"<{name}>", text))
    if found or not file.items:
        why = found[0].message if found else text
        raise InternalError(f"a reduced model does not parse: {why}", "NDL904")
    model = file.items[0]
    assert isinstance(model, tree.Model)
    return model
