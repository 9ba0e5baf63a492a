"""A model with the formulas that stand in it: `model Found = LV(F=discovery.model)` as `ndl show` has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ndl.compiler.check.parts import written_nets
from ndl.compiler.check.values import Closure, ModelV
from ndl.compiler.source import Source
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.parser import parse
from ndl.compiler.syntax.show import show_stmt


def written_out(ev: Any, model: ModelV) -> tree.Model:
    """The declaration with calls of nets that are formulas replaced by what they say."""
    given = written_nets(ev, model)
    formulas = {k: v.expr for k, v in given.items() if isinstance(v, Closure)}
    decl = model.decl
    if not formulas:
        return decl
    kept = [s for s in decl.body if not (isinstance(s, tree.Net) and s.name in formulas)]
    lines = [show_stmt(filled(s, formulas)) for s in kept if not hasattr(s, "body")]
    text = "\n".join([f"model {decl.name}:", *(f"    {line}" for line in lines)]) + "\n"
    file, trouble = parse(Source(f"<{decl.name}>", text))
    found = file.items[0] if file.items and not trouble else decl
    return found if isinstance(found, tree.Model) else decl


def filled(node: Any, formulas: Mapping[str, tree.Lambda]) -> Any:
    """A tree in which `F(a, b)` is F's formula of a and b."""
    if isinstance(node, tree.Call) and isinstance(node.func, tree.Name) and node.func.id in formulas:
        formula = formulas[node.func.id]
        names = formula.pattern.names
        if len(names) == len(node.args):
            given = {n: filled(a.value, formulas) for n, a in zip(names, node.args)}
            return substituted(formula.body, given)
    return _mapped(node, lambda n: filled(n, formulas))


def substituted(node: Any, values: Mapping[str, tree.Expr]) -> Any:
    """A tree with expressions in the places of names."""
    if isinstance(node, tree.Name) and not node.primes and node.id in values:
        return values[node.id]
    return _mapped(node, lambda n: substituted(n, values))


def _mapped(node: Any, change: Any) -> Any:
    """A node with `change` applied to its children."""
    if isinstance(node, tuple):
        return tuple(change(n) for n in node)
    if not is_dataclass(node) or not isinstance(node, tree.Node):
        return node
    new = {f.name: getattr(node, f.name) for f in fields(node) if f.name != "span"}
    changed = {k: change(v) for k, v in new.items() if isinstance(v, (tuple, tree.Node))}
    return replace(node, **changed)
