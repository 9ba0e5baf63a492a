"""A failed run in the words of the model: which equation, which sub-expression, where in the file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ndl.compiler.check.applications import parts_of
from ndl.compiler.check.values import ModelV
from ndl.compiler.diagnostics import Diagnostic, NDLError, fail
from ndl.compiler.ir.graph import Function
from ndl.compiler.source import Span
from ndl.compiler.syntax.tree import Expr, When


def diagnostic_of(error: Any, span: Span) -> Diagnostic:
    """A runtime error as a diagnostic at the place that asked for the run."""
    return Diagnostic(error.code, error.message, span, notes=tuple(error.notes), help=error.help)


def setting_named(settings: Mapping[str, tuple[Expr, Span]], message: str) -> Span | None:
    """The setting that a message names first, by its own name or that of its value, or None."""
    word = re.search(r"`(\w+)", message)
    if word is None:
        return None
    for name, (value, where) in settings.items():
        if word[1] == name or re.match(rf"{word[1]}\b", value.span.text):
            return where.to(value.span) if value.span.source is where.source else where
    return None


class RunFailed(NDLError):
    """A run that could not go on, told in the words of the model.

    `failed` lists the members that did not come to their end: `member`, `status`, `time`, `last_step`.
    `partial` is the solution up to there, with the whole paths of the others, or None.
    """

    def __init__(self, diagnostic: Diagnostic, failure: Any) -> None:
        super().__init__([diagnostic])
        self.failed, self.partial = failure.failed, failure.partial


@contextmanager
def explained(host: Any, instance: Any, model: ModelV, span: Span) -> Iterator[None]:
    """Turns a solver's failure into a diagnostic at the equation of the state that gave way."""
    from ndl.runtime.failures import SolveFailure

    try:
        yield
    except SolveFailure as failure:
        raise RunFailed(_explain(host, instance, model, failure, span), failure) from failure


def _explain(host: Any, instance: Any, model: ModelV, failure: Any, span: Span) -> Diagnostic:
    parts = parts_of(host.ev, model.decl)
    where = span
    state = (failure.state or "").split("[")[0].rstrip("'")
    if state in parts.rates:
        where = parts.rates[state].span.to(parts.rates[state].value.span)
    if failure.status == "require" and parts.requires:
        told = [r for r in parts.requires if " ".join(r.cond.span.text.split()) in failure.message]
        where = (told or parts.requires)[0].span
    if failure.status == "events" and parts.events:
        where = _last_event(parts.events, failure)
    notes, help_ = list(failure.notes), failure.help
    begun = getattr(failure.partial, "problem", None)
    at_start = begun is not None and failure.status in ("finite", "step") and failure.time == begun.t0
    start = _bad_start(parts, failure) if at_start else None
    if start is not None:
        return start
    place = first_bad(host, instance, model, failure)
    if place is not None:
        text, value, at = place
        notes.append(f"the first value that is not finite is `{text}` = {value}, on line {at.line}")
        where = at
        if at_start:
            help_ = "no step passes this point: look at the values of this formula at the start"
    return Diagnostic(failure.code, failure.message, where, notes=tuple(notes), help=help_)


def _last_event(events: Sequence[When], failure: Any) -> Span:
    """The condition of the event that fired last."""
    fired = failure.partial.events
    own = fired.index if failure.member is None else fired.index[failure.member]
    own = own[own >= 0]
    text = fired.texts[int(own[-1])] if len(own) and fired.texts else ""
    told = [e for e in events if " ".join(e.trigger.span.text.split()) in text]
    return (told or events)[0].trigger.span


def _bad_start(parts: Any, failure: Any) -> Diagnostic | None:
    """A state whose initial value is not finite."""
    for name, values in failure.values.items():
        whole = torch.as_tensor(values)
        bad = torch.nonzero(~torch.isfinite(whole))
        decl = parts.states.get(name, {}).get(0)
        if not len(bad) or decl is None:
            continue
        index = ", ".join(str(int(k)) for k in bad[0])
        notes = [f"`{name}{f'[{index}]' if index else ''}` = {float(whole[tuple(bad[0])])}"]
        if whole.ndim:
            notes.append(f"{len(bad)} of {whole.numel()} values are not finite")
        span = decl.value.span if decl.value is not None else decl.name_span
        message = (
            f"{failure.message.split(' stopped near ')[0]} cannot start: `{name}` has no finite initial value"
        )
        hint = f"`{span.text}` is to be finite wherever `{name}` is stored"
        return Diagnostic(failure.code, message, span, notes=tuple(notes), help=hint)
    return None


def refuse_estimates(problem: Any, name: str, span: Span) -> None:
    """A loss reads the solver's estimates of a run whose gradient does not reach them."""
    if problem.gradient == "discrete":
        return
    mode = problem.gradient[0] if isinstance(problem.gradient, tuple) else problem.gradient
    raise fail(
        "NDL525",
        f"`steps.{name}` in a loss demands `gradient = discrete`, and this run has `{mode}`",
        span,
        notes=("the estimates are functions of the stages of each step, which only `discrete` keeps",),
        help="write `gradient = discrete`, or estimate one step: `solve(M(…), span=tau..tau + h, "
        "method=tsit5(steps=1), gradient=discrete)`",
    )


def first_bad(host: Any, instance: Any, model: ModelV, failure: Any) -> tuple[str, float, Span] | None:
    """The first sub-expression of the drift, or of the diffusion, that is not finite at the state of the
    failure: at its time, else where the last step, or one before it that was longer, was to end."""
    if failure.status not in ("finite", "step"):
        return None
    ir = host.compilation.model(model).ir
    inputs: dict[str, Any] = {}
    for s in instance.STATES:
        if s.name not in failure.values:
            return None
        inputs[s.name] = torch.as_tensor(failure.values[s.name], dtype=torch.float64).reshape(s.shape)
    weights = {name: w.detach().to(torch.float64) for name, w in instance.weights().items()}
    for p in instance.PARAMETERS:
        value = getattr(instance, p.attribute or p.name).detach().to(torch.float64)
        weights[p.name] = value if value.ndim == len(p.shape) else value[failure.member or 0]
    h = failure.last_step or 0.0
    for t in (failure.time, failure.time + h, failure.time + 100 * h):
        if math.isnan(t):
            continue
        inputs["t"] = torch.as_tensor(float(t), dtype=torch.float64)
        for function in (ir.drift, ir.diffusion):
            found = None if function is None else _bad_node(function, inputs, weights)
            if found is not None:
                return found
    return None


def _bad_node(
    function: Function, inputs: Mapping[str, Any], weights: Mapping[str, Any]
) -> tuple[str, float, Span] | None:
    """The text, a value and the place of the first node that is not finite."""
    from ndl.compiler.ir.interpret import Interpreter

    run = Interpreter(function, inputs, weights, {}, {})
    for node in function.graph.needed([n for _, n in function.outputs]):
        try:
            value = run.value(node)
        except Exception:  # it needs more than the state and the weights
            return None
        if node.op in ("input", "param", "const") or not node.span.text:
            continue
        if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
            bad = float(value[~torch.isfinite(value)][0]) if value.ndim else float(value)
            return " ".join(node.span.text.split()), bad, node.span
    return None
