"""`solve` in an expression or a block: its settings for the runtime; derivatives and roots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ndl.compiler.check.applications import (
    SOLVE_SETTINGS,
    as_method,
    check_method,
    parts_of,
)
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.grids import domains_of, grid_choice
from ndl.compiler.check.habits import SETTINGS, instead
from ndl.compiler.check.parts import declarations
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    EveryV,
    ListV,
    MethodV,
    ModelV,
    RangeV,
    TupleV,
    Unknown,
    Value,
    WordV,
    describe,
    is_number,
)
from ndl.compiler.diagnostics import did_you_mean, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host.builder import lift
from ndl.host.families import check_family
from ndl.host.instances import Instances
from ndl.host.objects import ModelObject, SolutionObject
from ndl.host.sample import Unshared, batched
from ndl.host.solver_data import given, state_shape
from ndl.runtime.recompute import Checkpoints

PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


class Solving(Instances):
    """Runs of models."""

    def solve(self, ev: Evaluator, target: Any, settings: Mapping[str, Any], scope: Scope, span: Span) -> Any:
        """`solve(M, …)` in an expression."""
        if isinstance(target, (ListV, TupleV)):
            return ListV(tuple(self.solve(ev, t, settings, scope, span) for t in target.items))
        found = self.guarded(lambda: self.solution(ev, target, settings, scope, span), span)
        sample = self.sample
        of_batch = sample is not None and found.problem.ensemble
        return SolutionObject(found, sample if of_batch else None)

    def solution(
        self,
        ev: Evaluator,
        target: Any,
        settings: Mapping[str, tuple[tree.Expr, Span]],
        scope: Scope,
        span: Span,
        portion: tuple[int, int] | None = None,
        repeats: int = 1,
    ) -> Any:
        """A run with its settings; of an ensemble, `portion` takes some members: the first, how many.
        `repeats` counts it and the runs like it that will follow."""
        from ndl.host.failures import explained

        run, found, model_v = self.planned(ev, target, settings, scope, span, portion, repeats)
        with explained(self, run.args[0], model_v, span):
            return self._started(run, found.get("span"), model_v, span)

    def planned(
        self,
        ev: Evaluator,
        target: Any,
        settings: Mapping[str, tuple[tree.Expr, Span]],
        scope: Scope,
        span: Span,
        portion: tuple[int, int] | None = None,
        repeats: int = 1,
    ) -> tuple[Any, dict[str, Any], ModelV]:
        """The run that wants only its span; the settings' values; the model."""
        from ndl.host.failures import explained
        from ndl.runtime.solve import solve

        if "grid" in settings:
            target = self.gridded(ev, target, *settings["grid"], scope)
        model_v = target.source if isinstance(target, ModelObject) else target
        if not isinstance(model_v, ModelV):
            raise fail("NDL508", f"`solve` wants a model, not {describe(target)}", span)
        found: dict[str, Any] = {}
        of_file = scope is self.module.scope and self.sample is None
        for name, (value, where) in settings.items():
            if name not in SOLVE_SETTINGS:
                raise fail(
                    "NDL504",
                    f"`{name}` is no setting of `solve`",
                    where,
                    help=self._value_instead(model_v, name)
                    or instead(name, SOLVE_SETTINGS, SETTINGS)
                    or (
                        f"an option of the method: `tsit5({name}=…)`"
                        if name in ("rtol", "atol", "tol", "h")
                        else None
                    )
                    or did_you_mean(name, SOLVE_SETTINGS),
                )
            if name in ("plot", "write", "grid", "portion"):
                continue
            kept = self.settled.value(value, model_v) if of_file else None
            if kept is not None:
                found[name] = kept
                continue
            found[name] = ev.eval(value, self._setting_scope(ev, target, scope, name))
            if name == "save" and isinstance(found[name], ListV):
                found[name] = ev.value(found[name], where)
            if of_file and name != "method":
                self.settled.keep(value, model_v, found[name])
        if "method" in settings:
            self._checked_method(ev, model_v, settings["method"][0], found, of_file)
        ensemble = self._whole("ensemble", found, settings)
        if ensemble is not None and ensemble < 1:
            where = settings["ensemble"][0].span
            raise fail("NDL518", f"`ensemble` is a number of members, at least 1, not {ensemble}", where)
        if self.sample is not None and (ensemble is not None or getattr(model_v, "members", None)):
            raise Unshared
        seed = self._whole("seed", found, settings)
        seed = self.run_seed if seed is None else seed
        first, ensemble = portion or (0, ensemble)
        instance = self.instance(target, ensemble, seed, None if portion is None else first)
        if not getattr(target, "drawn", False):  # a drawn instance has its draws
            if portion is None:
                check_family(instance, ensemble, model_v.decl.name_span)
            instance = self.draws(instance, ensemble, seed, first=first)
        precision = str(instance.dtype).removeprefix("torch.") if self.run_precision else "float64"
        max_steps = self._whole("max_steps", found, settings)
        limit: dict[str, Any] = {} if max_steps is None else {"max_steps": max_steps}
        with explained(self, instance, model_v, span):
            run: Any = partial(
                solve,
                instance,
                method=self.method(ev, model_v, found.get("method"), found, span),
                save=self.saved(found.get("save")),
                ensemble=ensemble,
                seed=seed,
                gradient=self.gradient_mode(found.get("gradient")),
                precision=PRECISIONS[self.word(found.get("precision"), precision)],
                device=self.word(found.get("device"), str(self.run_device)),
                backend=self.word(found.get("backend"), "auto"),
                first=first,
                repeats=repeats,
                noise_step=self.noise_step(found, settings),
                **limit,
            )
        return run, found, model_v

    def _whole(
        self, name: str, found: Mapping[str, Any], settings: Mapping[str, tuple[tree.Expr, Span]]
    ) -> int | None:
        """A setting that counts."""
        if name not in found:
            return None
        value = self.number(found[name])
        if not hasattr(value, "__int__") or isinstance(value, str) or int(value) != value:
            raise fail("NDL518", f"`{name}` must be a whole number, not {value}", settings[name][0].span)
        return int(value)

    def noise_step(
        self, found: Mapping[str, Any], settings: Mapping[str, tuple[tree.Expr, Span]]
    ) -> float | None:
        """The time over which increments of the noise are drawn."""
        if "noise_step" not in found:
            return None
        value = self.number(found["noise_step"])
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise fail(
                "NDL518", f"`noise_step` is a time above 0, not {value}", settings["noise_step"][0].span
            )
        return float(value)

    def _checked_method(
        self, ev: Evaluator, model: ModelV, expr: tree.Expr, found: dict[str, Any], keep: bool
    ) -> None:
        """The setting `method` as a method that fits the model."""
        if keep and self.settled.value(expr, model) is not None:
            return
        found["method"] = as_method(ev, found["method"], expr.span)
        check_method(ev, model, found["method"], expr.span)
        if keep:
            self.settled.keep(expr, model, found["method"])

    def _value_instead(self, model: ModelV, name: str) -> str | None:
        """A help line for a setting that is a value of the model."""
        parts = parts_of(self.ev, model.decl)
        if name not in {*parts.params, *parts.states, *parts.inputs, *parts.nets}:
            return None
        return f"`{name}` is a value of the model: solve `{model.decl.name}({name}=…)`"

    def gridded(self, ev: Evaluator, target: Any, value: tree.Expr, span: Span, scope: Scope) -> Any:
        """The model with its fields on a grid, one and the same for equal grids."""
        inner = scope if not isinstance(target, ModelV) else scope.child(domains_of(target))
        choice = grid_choice(ev, ev.eval(value, inner), value.span)
        if isinstance(target, ModelObject):
            if target.source is None or target.source.grid != choice:
                raise fail("NDL441", "a trained model stays on the grid of its training", span)
            return target
        key = (id(target), choice)
        if key not in self.on_grids:
            self.on_grids[key] = (target, replace(target, grid=choice))
        return self.on_grids[key][1]

    def _started(self, run: Any, given: Any, model: ModelV, where: Span) -> Any:
        """The run over its span, another one for each sample perhaps; of a batch, outside of the formula."""
        ends = self._ends(given)
        if self.sample is None:
            return run(span=self.span(given, model, where))
        if ends is None:
            whole = self.span(given, model, where)
            return self.sample.outside(lambda: run(span=whole))
        from ndl.runtime.single import single_step

        settings = dict(run.keywords)
        return self.sample.outside(lambda a, b: single_step(run.args[0], a, b, **settings), *ends)

    def _ends(self, value: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The ends of a span that differs between samples; None for plain numbers."""
        if not isinstance(value, RangeV):
            return None
        lo, hi = self.number(value.lo), self.number(value.hi)
        if not batched(lo) and not batched(hi):
            return None
        return tuple(torch.as_tensor(v, dtype=torch.float64).detach() for v in (lo, hi))  # type: ignore[return-value]

    def _setting_scope(self, ev: Evaluator, target: Any, scope: Scope, name: str) -> Scope:
        """A method's options may use the model's parameters."""
        if name != "method" or not isinstance(target, (ModelV, ModelObject)):
            return scope
        instance = self.instance(target) if isinstance(target, ModelObject) or not target.laws else None
        names = {}
        if instance is not None:
            for p in instance.PARAMETERS:
                if scope.find(p.name) is None:
                    names[p.name] = lift(getattr(instance, p.attribute or p.name))
        return scope.child(names)

    def span(self, value: Any, model: ModelV, where: Span) -> tuple[float, float]:
        if value is None:
            joined = declarations(self.ev, model)
            if not any(p.rates or p.events for p in joined):
                return 0.0, 1.0
            raise fail(
                "NDL509",
                f"solving `{model.decl.name}` needs a `span`",
                where,
                help="write `span = 0..10`; in a `train` the data may have the times instead, "
                '`table("file.csv", time="t", …)`',
            )
        if not isinstance(value, RangeV):
            raise fail("NDL514", f"`span` is a range such as `0..10`, not {describe(value)}", where)
        lo, hi = self.number(value.lo), self.number(value.hi)
        if (
            isinstance(lo, torch.Tensor)
            or isinstance(hi, torch.Tensor)
            or not is_number(lo)
            or not is_number(hi)
        ):
            raise fail("NDL514", "the ends of `span` must be numbers", where)
        return float(lo), float(hi)

    def saved(self, value: Any) -> Any:
        """`save` for the runtime."""
        if value is None:
            return "steps"
        if isinstance(value, WordV):
            return value.name
        if isinstance(value, EveryV):
            return ("every", float(self.number(value.value)))
        if isinstance(value, RangeV) and value.by is not None:
            lo, hi, by = (float(self.number(v)) for v in (value.lo, value.hi, value.by))
            count = math.floor((hi - lo) / by * (1 + 1e-12)) + 1 if by else 0
            return lo + by * torch.arange(max(count, 0), dtype=torch.float64)
        v = self.ev.value(value, Span())
        return v.ref.detach() if isinstance(v, Value) else "steps"

    def gradient_mode(self, value: Any) -> Any:
        """`gradient` for the runtime; inside `grad` and in training the default is `discrete`."""
        if value is None:
            return "discrete" if self.differentiating else "none"
        if isinstance(value, WordV):
            if value.name == "checkpoint" and set(value.options) == {"memory"} and not value.args:
                return value.name, Checkpoints(memory=float(self.number(value.options["memory"])))
            if value.name == "checkpoint" and len(value.args) == 1 and not value.options:
                return value.name, int(self.number(value.args[0]))
            if value.name != "checkpoint" and not value.args and not value.options:
                return value.name
        routes = "discrete, checkpoint(n), checkpoint(memory=bytes), adjoint, reversible or none"
        raise fail("NDL515", f"`gradient` is {routes}", Span())

    def method(
        self, ev: Evaluator, model: ModelV, value: Any, settings: Mapping[str, Any], span: Span
    ) -> Any:
        """The runtime's method; the facts choose one when none is named."""
        if value is None:
            value = self.default_method(model)
        if not isinstance(value, MethodV):
            raise fail("NDL503", f"a method is needed here, not {describe(value)}", span)
        kept = self.settled.method(value, model)
        if kept is not None:
            return kept
        compiled = self.compilation.model(model)
        kind = "sde" if compiled.ir.noises else "integral" if compiled.ir.integrals else "ode"
        options = {k: self.option(v) for k, v in value.options.items()}
        parts = {n: self.part(p) for n, p in value.parts.items()}
        names = [p.name for p in self.compilation.choose(value, kind).decl.data]
        shape = state_shape(compiled.ir.states)
        data = {n: given(self, v, shape, value.span or span) for n, v in zip(names, value.positional)}
        made = self.compilation.method(value, kind, options, parts, data)
        self.settled.keep_method(value, model, made)
        return made

    def default_method(self, model: ModelV) -> MethodV:
        from ndl.compiler.passes.choose import choose_method

        chosen = choose_method(self.compilation.model(model).facts)
        name = chosen.value or "euler"
        solvers = self.module.scope.find(name)
        options: dict[str, Any] = {} if chosen.value else {"h": 1.0}
        return MethodV(solvers, options)

    def part(self, value: Any) -> Any:
        """How a part of a splitting is followed, or what a projection is around."""
        from ndl.runtime.methods import Method

        if value is None:
            return None
        if isinstance(value, WordV):
            return Method(value.name, "exact", None)
        options = {k: self.option(v) for k, v in value.options.items()}
        parts = {n: self.part(p) for n, p in value.parts.items()}
        return self.compilation.method(value, "ode", options, parts)

    # ------------------------------------------------------------ gradients

    def gradient(self, ev: Evaluator, e: tree.Expr, by: Any, scope: Scope, span: Span) -> Any:
        """`grad(expr, model.params)`: one vector over all weights."""
        leaves = by.leaves()
        if not leaves:
            raise fail("NDL356", "this model has no parameters to differentiate by", span)
        self.differentiating += 1
        try:
            with torch.enable_grad():
                y = ev.value(ev.eval(e, scope), e.span)
        finally:
            self.differentiating -= 1
        if isinstance(y, Unknown):
            return UNKNOWN
        if not y.ref.requires_grad:
            raise fail("NDL356", "this expression does not depend on the parameters", e.span)
        found = torch.autograd.grad(y.ref.sum(), leaves, allow_unused=True)
        flat = [(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in zip(leaves, found)]
        return lift(torch.cat(flat))

    def root(self, ev: Evaluator, function: Any, start: Any, span: Span) -> Any:
        """`root(z -> F(z), z0)` by Newton's method."""
        z = ev.value(start, span)
        if isinstance(z, Unknown):
            return UNKNOWN
        x = z.ref.to(torch.float64)

        def F(u: torch.Tensor) -> torch.Tensor:
            v = ev.value(ev.apply(function, [lift(u)], span), span)
            assert isinstance(v, Value)
            found: torch.Tensor = v.ref
            return found

        for _ in range(50):
            f = F(x)
            J = torch.func.jacrev(F)(x).reshape(x.numel(), x.numel())
            step, singular = torch.linalg.solve_ex(J, f.reshape(-1))
            if int(singular):
                break
            step = step.reshape(x.shape)
            x = x - step
            if float(step.abs().max()) <= 1e-14 * (1 + float(x.abs().max())):
                return lift(x)
        if math.isfinite(float(F(x).abs().max())) and float(F(x).abs().max()) < 1e-10:
            return lift(x)
        raise fail("NDL661", "`root` did not converge", span, help="start nearer to the solution")
