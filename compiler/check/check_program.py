"""Checks every declaration of a module: the checker's table of contents."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.applications import (
    SOLVE_SETTINGS,
    TRAIN_SETTINGS,
    as_method,
    check_method,
    check_settings,
    parts_of,
    setting_scope,
)
from ndl.compiler.check.calls import bind_pattern
from ndl.compiler.check.check_model import check_model
from ndl.compiler.check.check_solver import check_solver
from ndl.compiler.check.evaluator import Evaluator, TypeBuilder
from ndl.compiler.check.habits import SETTINGS, instead
from ndl.compiler.check.modules import Loader, Module
from ndl.compiler.check.operators import CheckContext, check_operator, draw_value
from ndl.compiler.check.projected import check_projection
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.statements import run_block
from ndl.compiler.check.typing import resolve_type
from ndl.compiler.check.values import (
    UNKNOWN,
    FileV,
    FnV,
    HostV,
    ModelV,
    NetV,
    OperatorV,
    SolverV,
    Unknown,
    Value,
    WordV,
    describe,
)
from ndl.compiler.check.varying import check_varied
from ndl.compiler.check.watched import check_watched, check_whole
from ndl.compiler.diagnostics import Sink, did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor


def check_program(module: Module, loader: Loader, sink: Sink) -> None:
    """Check a module and the modules of the user that it imports."""
    for other in list(loader.modules.values()):
        if other is not module and not other.folder and not in_library(other):
            check_module(other, sink)
    check_module(module, sink)


def in_library(module: Module) -> bool:
    from ndl.compiler.check.modules import stdlib_folder

    return stdlib_folder() in module.path.parents


def check_module(module: Module, sink: Sink) -> None:
    ev = Evaluator(TypeBuilder(), sink)
    for value in list(module.names.values()):
        for one in value if isinstance(value, tuple) else (value,):
            _declaration(ev, one)
    for item in module.items:
        if isinstance(item, tree.Solve):
            check_solve(ev, item, module.scope)
        elif isinstance(item, tree.Train):
            check_train(ev, item, module.scope)
        elif isinstance(item, tree.Test):
            ev.context = CheckContext("test")
            run_block(ev, item.body, module.scope.child())
            ev.context = None


def _declaration(ev: Evaluator, value: Any) -> None:
    if isinstance(value, FnV):
        check_fn(ev, value)
    elif isinstance(value, OperatorV):
        check_operator(ev, value)
    elif isinstance(value, ModelV):
        check_model(ev, value)
    elif isinstance(value, SolverV):
        check_solver(ev, value)
    elif isinstance(value, FileV) and value.kind not in ("solve", "train"):
        ev.file_value(value)


def check_fn(ev: Evaluator, fn: FnV) -> None:
    """Check a function's body with arguments of any type."""
    scope = fn.module.scope.child()
    for p in (*fn.decl.data, *fn.decl.options):
        wanted = resolve_type(ev, p.type, scope) if p.type is not None else None
        scope.names[p.name] = Value(wanted) if isinstance(wanted, Tensor) else UNKNOWN
        if p.default is not None:
            ev.eval(p.default, fn.module.scope)
    if run_block(ev, fn.decl.body, scope) is None:
        ev.error(
            "NDL403", f"`{fn.decl.name}` returns nothing", fn.decl.name_span, help="end it with `return …`"
        )


def read_settings(
    ev: Evaluator, stmts: tuple[tree.Stmt, ...], known: list[str]
) -> tuple[dict[str, tuple[tree.Expr, Span]], list[tree.Stmt]]:
    """The settings of a block, and its other statements (definitions, draws, players, phases)."""
    settings: dict[str, tuple[tree.Expr, Span]] = {}
    others: list[tree.Stmt] = []
    for stmt in stmts:
        target = stmt.targets[0] if isinstance(stmt, tree.Assign) and len(stmt.targets) == 1 else None
        if (
            isinstance(stmt, tree.Assign)
            and isinstance(target, tree.Name)
            and target.id in known
            and not target.primes
        ):
            if target.id in settings:
                ev.error("NDL507", f"the setting `{target.id}` is given twice", target.span)
            settings[target.id] = (stmt.value, target.span)
        else:
            others.append(stmt)
    return settings, others


def check_solve(ev: Evaluator, item: tree.Solve, outer: Scope) -> None:
    """`solve M as name:` with its settings."""
    target = ev.eval(item.target, outer)
    if not isinstance(target, (ModelV, Unknown, HostV)):
        ev.error("NDL508", f"`solve` wants a model, not {describe(target)}", item.target.span)
        return
    settings, others = read_settings(ev, item.settings, SOLVE_SETTINGS)
    check_settings(ev, target, settings, SOLVE_SETTINGS, outer, item.span)
    for stmt in others:
        name = stmt.targets[0] if isinstance(stmt, tree.Assign) else None
        shown = name.id if isinstance(name, tree.Name) else stmt.span.text.split("\n")[0]
        ev.error(
            "NDL504",
            f"`{shown}` is no setting of `solve`",
            name.span if name else stmt.span,
            help=instead(shown, SOLVE_SETTINGS, SETTINGS)
            or did_you_mean(shown, SOLVE_SETTINGS)
            or f"settings: {', '.join(SOLVE_SETTINGS[:8])}, …",
        )
    if isinstance(target, ModelV):
        _need_span(ev, item, target, settings)


def _need_span(ev: Evaluator, item: tree.Solve, target: ModelV, settings: dict[str, Any]) -> None:
    parts = parts_of(ev, target.decl)
    moving = (
        any(eq.kind in ("rate", "differential", "integral") for eq in parts.rates.values()) or parts.events
    )
    if moving and "span" not in settings:
        ev.error("NDL509", f"`solve {parts.name}` needs a `span`", item.span, help="write `span = 0..10`")


class Record(dict[str, Any]):
    """The names of a loss: solved values of the models, columns of the data."""


def check_train(ev: Evaluator, item: tree.Train, outer: Scope) -> None:
    """`train A, B as name:` with settings, definitions, draws, players and phases."""
    settings, others = read_settings(ev, item.body, TRAIN_SETTINGS)
    if "vary" in settings:
        outer = check_varied(ev, settings, outer)
    targets = [ev.eval(t, outer) for t in item.targets]
    for target, written in zip(targets, item.targets):
        if not isinstance(target, (ModelV, NetV, OperatorV, Unknown, HostV)):
            ev.error("NDL508", f"`train` wants models or nets, not {describe(target)}", written.span)
            return
    scope = outer.child()
    saved, ev.context = ev.context, CheckContext("train")
    for target in targets:
        if isinstance(target, ModelV):
            parts = parts_of(ev, target.decl)
            scope.names.update(dict.fromkeys([*parts.spans], HostV("value")))
            measured = [*(d.name for d in parts.observes), *(["nll"] if parts.observes else [])]
            scope.names.update(dict.fromkeys(measured, HostV("value")))
            scope.names.update({n: HostV("value") for n in parts.nets})
    scope.names |= {
        "data": HostV("data"),
        "t": HostV("value"),
        "epoch": HostV("value"),
        "step": HostV("value"),
        "final": HostV("final state"),
        "steps": HostV("steps"),
        "stats": HostV("statistics"),
        "decay": HostV("value"),
        "ramp": HostV("value"),
    }
    fallback = lambda name, primes: HostV("value") if primes else None  # noqa: E731
    scope.lazy = fallback
    if any(isinstance(target, HostV | Unknown) for target in targets):
        scope.lazy = lambda name, primes: None if outer.find(name, primes) is not None else HostV("value")
    for stmt in others:
        _train_statement(ev, stmt, scope)
    if not any(isinstance(s, tree.Optimize) for s in others) and "loss" not in settings:
        ev.error(
            "NDL510",
            "this `train` has nothing to minimise",
            item.span,
            help="write `loss = …` or `minimize …`",
        )
    _check_values(ev, settings, scope, targets[0] if targets else None)
    check_watched(ev, item, settings, scope)
    ev.context = saved
    fed = {n for t in targets if isinstance(t, ModelV) for p in [parts_of(ev, t.decl)] for n in p.inputs}
    fed |= {p.name for t in targets if isinstance(t, ModelV) for p in t.decl.data}
    unused(ev, others, settings, item, fed)


def _check_values(
    ev: Evaluator, settings: dict[str, tuple[tree.Expr, Span]], scope: Scope, target: Any
) -> None:
    for name, (value, _) in settings.items():
        if name in ("fit", "vary", "metrics", "monitor"):
            continue
        if name == "project":
            check_projection(ev, value, scope)
            continue
        found = ev.eval(value, setting_scope(ev, target, scope, name))
        if name == "method":
            check_method(ev, target, as_method(ev, found, value.span), value.span)
        if name in ("optimizer",) and not isinstance(found, (WordV, Unknown, HostV)):
            hint = f"write `{found}(lr=0.01)`" if isinstance(found, str) and found.isidentifier() else None
            ev.error("NDL511", f"an optimiser is needed here, not {describe(found)}", value.span, help=hint)


def _train_statement(ev: Evaluator, stmt: tree.Stmt, scope: Scope) -> None:
    if isinstance(stmt, tree.Optimize):
        ev.eval(stmt.value, scope)
        settings, _ = read_settings(ev, stmt.settings, TRAIN_SETTINGS)
        check_whole(ev, settings, "a player")
        _check_values(ev, settings, scope, None)
    elif isinstance(stmt, tree.Phase):
        settings, others = read_settings(ev, stmt.settings, TRAIN_SETTINGS)
        for other in others:
            _train_statement(ev, other, scope)
        check_whole(ev, settings, "a phase")
        _check_values(ev, settings, scope, None)
    elif isinstance(stmt, tree.Draw):
        scope.names[stmt.name] = draw_value(ev, stmt, scope)
    else:
        from ndl.compiler.check.statements import Returned, run

        try:
            run(ev, stmt, scope)
        except Returned:
            ev.error("NDL401", "`return` has no meaning in a `train`", stmt.span)


def unused(
    ev: Evaluator, others: list[tree.Stmt], settings: dict[str, Any], item: tree.Train, fed: set[str]
) -> None:
    """A definition that nothing reads, and that is no input `fed` to a model, is most likely a misspelt
    setting."""
    from ndl.compiler.syntax.walk import walk

    read = {n.id for n in walk(item) if isinstance(n, tree.Name)}
    counts = {n: sum(1 for x in walk(item) if isinstance(x, tree.Name) and x.id == n) for n in read}
    for stmt in others:
        if isinstance(stmt, tree.Assign) and len(stmt.targets) == 1:
            target = stmt.targets[0]
            if isinstance(target, tree.Name) and target.id not in fed and counts.get(target.id, 0) < 2:
                ev.error(
                    "NDL504",
                    f"`{target.id}` is no setting of `train`, and nothing reads it",
                    target.span,
                    help=instead(target.id, TRAIN_SETTINGS, SETTINGS)
                    or did_you_mean(target.id, TRAIN_SETTINGS),
                )


__all__ = ["bind_pattern", "check_program"]
