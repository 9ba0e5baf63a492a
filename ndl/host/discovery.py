"""Formulas as nets: `net F: (R, R) -> R[2] = expression(size=7, primitives=[add, mul])`, searched for by
`train F`.

The loss is any formula of the language. It is evaluated once to learn at which points it asks for the net;
from then on it is a function of the net's values there. Where it is a sum of squares of them, as the mean of
`(F(…) - y)^2` is, each result of the net has a search of its own, whose constants are fitted by Gauss–Newton
steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ndl.compiler.check.formulas import formula_signature, is_formula
from ndl.compiler.check.values import Builtin, Closure, ListV, NetV, TupleV, WordV, describe
from ndl.compiler.diagnostics import did_you_mean, fail
from ndl.compiler.source import Source, Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.parser import parse_expression
from ndl.host.trained import TrainingObject
from ndl.runtime.batches import Batch
from ndl.runtime.evolution import Anything, Found, Judge, Search, Settings, Squares
from ndl.runtime.formula_net import FormulaNet, names_of
from ndl.runtime.formulas import PRIMITIVES, constants, values
from ndl.runtime.history import History, Record, TrainResult
from ndl.runtime.progress import progress as progress_of

ROUNDS = 30


def evaluated(found: Sequence[Found], X: Any) -> Any:
    """[outputs, N]."""
    rows = []
    for f in found:
        at = 0
        for one in f.genome:
            k = constants(one)
            rows.append(np.broadcast_to(values(one, X, f.constants[at : at + k]), X.shape[1:]))
            at += k
    return np.stack(rows).astype(float)


def formula_net(host: Any, net: NetV, span: Span) -> FormulaNet:
    """The module of a net that is a formula, made when it is first asked for."""
    key = (id(net.owner), net.name)
    if key not in host.nets:
        arity, outputs = formula_signature(net, span)
        host.nets[key] = FormulaNet(net.name, arity, outputs)
    found: FormulaNet = host.nets[key]
    return found


# ---------------------------------------------------------------- the search


def evolves(session: Any) -> bool:
    """Whether a `train` block searches for a formula."""
    targets = [session.host.ev.eval(t, session.scope) for t in session.block.targets]
    if any(map(is_formula, targets)) and len(targets) > 1:
        raise fail("NDL680", "a formula is searched for by itself", session.block.span)
    return bool(targets) and is_formula(targets[0])


def refuse_unsearched(session: Any) -> None:
    """A formula in a model that other optimisers train cannot be found by them."""
    for source, instance in session.models.values():
        for module in instance.modules():
            if isinstance(module, FormulaNet) and not module.genome:
                raise fail(
                    "NDL456",
                    f"the formula `{module.name}` of `{source.decl.name}` has not been searched for yet",
                    session.block.span,
                    help="write `optimizer = evolution(…)`, which searches for it",
                )


class DiscoveryObject(TrainingObject):
    """What a search gives: `.model` is the formula, a function of the language that takes a net's place."""

    kind = "search's result"


def evolve(session: Any, folder: Any, shown: str) -> DiscoveryObject:
    """Run the search; deterministic by `seed`."""
    from ndl.host.loss import Loss

    host = session.host
    net: NetV = host.ev.eval(session.block.targets[0], session.scope)
    module = formula_net(host, net, session.block.targets[0].span)
    session.nets[net.name] = module
    loss = Loss(session, torch.float64, session.whole("seed") or 0)
    expr, sign, options = objective(session)
    study = Study(loss, module, expr, sign)
    seed = session.whole("seed") or 0
    primitives, largest = vocabulary(net, session.block.targets[0].span)
    searches = [
        Search(judge, module.arity, primitives, largest, options, seed + k, outputs)
        for k, (judge, outputs) in enumerate(study.judges())
    ]
    if folder is not None:
        folder()
    record = rounds_of(session, searches, sign, study.rest, shown)
    module.names = argument_names(expr, net.name, module.arity)
    module.choose([s.chosen(study.penalty) for s in searches])
    module.fronts = [s.front() for s in searches]
    final = study.loss_of(torch.from_numpy(evaluated(module.found, study.X)), module.nodes)
    result = TrainResult(torch.tensor(sign * final), History.of(record), module, record.steps)
    found = DiscoveryObject(result, closure(host, module))
    found.session, found.last = session, loss  # type: ignore[attr-defined]
    return found


def rounds_of(session: Any, searches: Sequence[Search], sign: int, rest: float, shown: str) -> Record:
    """The rounds of searches that a block asks for, until nothing is left to gain; `rest` is what the loss
    has besides."""
    rounds = session.whole("steps") or ROUNDS
    record, report = Record(), progress_of(shown)
    report.start(rounds, 0)
    try:
        for k in range(rounds):
            total = sum(s.round() for s in searches) + rest
            record.add({"loss/loss": sign * total, "rate": float("nan")})
            report.update(k + 1, sign * total, None, "")
            if all(s.front()[-1].loss <= s.floor for s in searches):
                break
    finally:
        report.finish()
    return record


def closure(host: Any, module: FormulaNet) -> Closure:
    """The formula as what its text means."""
    expr, trouble = parse_expression(Source(f"<{module.name}>", module.text))
    assert isinstance(expr, tree.Lambda) and not trouble
    return Closure(expr, host.module.scope)


def objective(session: Any) -> tuple[tree.Expr, int, Settings]:
    """The loss, 1 or -1 for what is maximised, and how to search."""
    from ndl.compiler.check.applications import TRAIN_SETTINGS
    from ndl.compiler.check.check_program import read_settings

    own: dict[str, Any] = {}
    sign, expr = 1, session.settings["loss"][0] if "loss" in session.settings else None
    for stmt in session.others:
        if isinstance(stmt, tree.Optimize):
            own, _ = read_settings(session.host.ev, stmt.settings, TRAIN_SETTINGS)
            expr, sign = stmt.value, 1 if stmt.sense == "minimize" else -1
    if expr is None:
        raise fail("NDL510", "this `train` has nothing to minimise", session.block.span)
    word = session.value("optimizer", None, {**session.settings, **own})
    if word is None:
        return expr, sign, Settings()
    if not isinstance(word, WordV) or word.name != "evolution":
        raise fail(
            "NDL680",
            "a formula is searched for by `evolution(…)`",
            session.block.span,
            help="write `optimizer = evolution(population=30)`",
        )
    known = {f.name: f.type for f in fields(Settings)}
    given: dict[str, Any] = {}
    for key, value in word.options.items():
        if key not in known:
            raise fail(
                "NDL680",
                f"`evolution` has no option `{key}`",
                session.block.span,
                help=did_you_mean(key, known) or f"its options are {', '.join(known)}",
            )
        given[key] = value.name if isinstance(value, WordV) else session.host.number(value)
    return expr, sign, Settings(**given)


def vocabulary(net: NetV, span: Span) -> tuple[tuple[str, ...], int]:
    """The primitives and the largest size of `expression(…)`."""
    word = net.target
    unknown = set(word.options) - {"primitives", "size"}
    if unknown:
        name = sorted(unknown)[0]
        raise fail(
            "NDL680", f"`expression` has no option `{name}`", span, help="it takes primitives and size"
        )
    listed = word.options.get("primitives", ListV(tuple(WordV(n) for n in ("add", "sub", "mul", "div"))))
    found = []
    for item in listed.items if isinstance(listed, (ListV, TupleV)) else (listed,):
        name = item.name if isinstance(item, (WordV, Builtin)) else describe(item)
        if name not in PRIMITIVES:
            raise fail(
                "NDL680",
                f"`{name}` is no primitive of formulas",
                span,
                help=did_you_mean(name, PRIMITIVES) or f"primitives are {', '.join(PRIMITIVES)}",
            )
        found.append(name)
    largest = word.options.get("size", 9)
    if not isinstance(largest, int) or largest < 1 or not found:
        raise fail("NDL680", "`size` of `expression` is a whole number from 1", span)
    return tuple(dict.fromkeys(found)), largest


def argument_names(expr: tree.Expr, name: str, arity: int) -> tuple[str, ...]:
    """The names of what the formula is applied to in the loss, where they are plain and different."""
    from ndl.compiler.syntax.walk import walk

    for n in walk(expr):
        if isinstance(n, tree.Call) and isinstance(n.func, tree.Name) and n.func.id == name:
            written = [a.value for a in n.args]
            found = [w.id if isinstance(w, tree.Name) else getattr(w, "name", "") for w in written]
            if len(found) == arity == len(set(found)) and all(f.isidentifier() for f in found):
                return tuple(found)
    return names_of(arity)


class Study:
    """A loss as a function of the formula's values at the points where the loss asks for them."""

    def __init__(self, loss: Any, module: FormulaNet, expr: tree.Expr, sign: int) -> None:
        from ndl.host.targets import read_data

        self.loss, self.module, self.expr, self.sign = loss, module, expr, sign
        read_data(loss.session, torch.float64)
        module.points = []
        try:
            self._evaluate()
            points = module.points
        finally:
            module.points = None
        if not points:
            raise fail("NDL680", f"this loss does not ask for `{module.name}`", expr.span)
        self.X = torch.cat(points, 1).numpy()
        zero = torch.zeros(module.rows, self.X.shape[1], dtype=torch.float64)
        self.penalty = self.loss_of(zero, 1) - self.loss_of(zero, 0)
        self.rest = 0.0

    def _evaluate(self) -> Tensor:
        batch = Batch(0, 1, 0, None)
        found: Tensor = self.loss.evaluate(self.expr, 0, batch)
        return self.sign * found

    def value(self, F: Tensor, nodes: int = 0) -> Tensor:
        module = self.module
        module.given, module.used, module.nodes = F, 0, nodes
        try:
            return self._evaluate()
        finally:
            module.given = None

    def loss_of(self, F: Tensor, nodes: int) -> float:
        with torch.no_grad():
            return float(self.value(F, nodes))

    def slope(self, F: Tensor) -> tuple[float, Tensor]:
        leaf = F.detach().clone().requires_grad_(True)
        value = self.value(leaf)
        (g,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), g

    def judges(self) -> list[tuple[Judge, int]]:
        """A judge for each search, with the number of results that it is for."""
        shape = (self.module.rows, self.X.shape[1])
        zero = torch.zeros(shape, dtype=torch.float64)
        start, g0 = self.slope(zero)
        _, g1 = self.slope(zero + 1)
        w = (g1 - g0) / 2
        target = torch.where(w > 0, -g0 / (2 * torch.where(w > 0, w, 1)), 0.0)
        rest = start - float((w * target**2).sum())
        trial = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        want = float((w * (trial - target) ** 2).sum()) + rest
        if bool((w >= 0).all()) and abs(self.loss_of(trial, 0) - want) <= 1e-9 * (1 + abs(want)):
            self.rest = rest
            return [(Squares(self.X, y.numpy(), v.numpy()), 1) for y, v in zip(target, w)]

        def value_and_slope(F: Any, slope: bool) -> tuple[float, Any]:
            x = torch.from_numpy(np.ascontiguousarray(F))
            if not slope:
                return self.loss_of(x, 0), None
            value, g = self.slope(x)
            return value, g.numpy()

        scale = max(abs(start), 1e-12)
        return [(Anything(self.X, scale, value_and_slope), self.module.rows)]
