"""File-level declarations as values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.operators import read_net
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.typing import resolve_type
from ndl.compiler.check.values import UNKNOWN, DomainV, FileV, HostV, ModelV, NetV, Unknown, describe
from ndl.compiler.check.weights import read_item, without_value
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor


def file_value(ev: Evaluator, declared: FileV) -> Any:
    """The value of a `const`, `net`, `extern`, `domain`, `model X = …`, or a named run."""
    stmt, scope = declared.stmt, declared.module.scope
    if declared.item is not None:
        item = declared.item
        if item.value is not None and item.type is None:
            return ev.eval(item.value, scope)
        if item.law is not None and ev.host is not None:
            return ev.host.drawn_const(ev, item, scope)
        if without_value(ev, "const", item):
            return UNKNOWN
        found = read_item(ev, item, scope)
        return UNKNOWN if found.value is None else found.value
    if isinstance(stmt, tree.Net):
        return read_net(ev, stmt, scope, owner=declared)
    if isinstance(stmt, tree.Extern):
        return _extern(ev, stmt, scope, declared)
    if isinstance(stmt, tree.DomainDecl):
        domain = ev.eval(stmt.value, scope)
        return replace(domain, name=stmt.name) if isinstance(domain, DomainV) else domain
    if isinstance(stmt, tree.ModelAlias):
        if ev.host is not None and not ev.checking:
            return ev.host.alias(stmt, scope)
        model = ev.eval(stmt.value, scope)
        if not isinstance(model, (ModelV, Unknown, HostV)):
            ev.error("NDL429", f"`{stmt.name}` must be a model, not {describe(model)}", stmt.value.span)
        return model
    if ev.host is not None and not ev.checking:
        return ev.host.named_run(stmt)
    if isinstance(stmt, tree.Solve):
        from ndl.compiler.check.applications import solution_type

        return solution_type(ev, ev.eval(stmt.target, scope))
    return HostV("training result")


def _extern(ev: Evaluator, stmt: tree.Extern, scope: Scope, owner: FileV) -> Any:
    """A net that comes from Python."""
    signature = resolve_type(ev, stmt.signature, scope)
    if isinstance(signature, Tensor):
        return ev.error("NDL348", f"`extern net {stmt.name}` needs a signature of tensors", stmt.span)
    return NetV(stmt.name, signature, None, owner=owner)
