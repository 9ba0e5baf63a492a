"""The host: what `solve`, `train`, `table`, `path` and the rest do when a program runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ndl.compiler.check.applications import (
    SOLVE_SETTINGS,
    as_method,
    check_method,
)
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.modules import Module
from ndl.compiler.check.operators import header_dims
from ndl.compiler.check.parts import declarations, written_nets
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Closure,
    DistV,
    EveryV,
    FnV,
    ListV,
    MethodV,
    ModelV,
    NetV,
    OperatorV,
    RangeV,
    TupleV,
    Unknown,
    Value,
    WordV,
    describe,
    is_number,
)
from ndl.compiler.diagnostics import NDLError, Sink, did_you_mean, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim, Map, Tensor
from ndl.host.builder import EagerBuilder, Masked, lift
from ndl.host.compiled import Compilation
from ndl.host.families import check_family, uncounted
from ndl.host.names import stmt_name
from ndl.host.objects import DataObject, ModelObject, NetObject, SolutionObject, TrainingObject
from ndl.host.sample import Every, Unshared, batched
from ndl.runtime.recompute import Checkpoints
from ndl.runtime.weights import Extern

PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


class Host:
    """Runs one program. Instances, classes and named runs are kept: each is made once."""

    def __init__(
        self,
        module: Module,
        *,
        file: str = "",
        allow: tuple[Path, ...] = (),
        bind: Mapping[str, Any] | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        from ndl.runtime.paths import PathPolicy

        self.module, self.file = module, file
        self.sink = Sink()
        self.compilation = Compilation(self.sink, Path(file).name)
        self.policy = PathPolicy.for_file(file or "program.ndl", tuple(str(a) for a in allow))
        self.bind = self.compilation.bind = dict(bind or {})
        self.overrides = dict(overrides or {})
        self.instances: dict[int, tuple[ModelV, Any]] = {}
        self.nets: dict[Any, Any] = {}
        self.named: dict[int, Any] = {}
        self.differentiating = 0
        self.naming = ""  # the name of the model that is being made by `model NAME = …`
        self.sample: Every | None = None
        """The sample of a batch that a loss speaks of, where all are computed at once."""
        self.run_precision = False
        """Whether runs have the precision of their model: in a training."""
        self.run_seed = 0
        """The seed of runs that name none: in a training another one for each step."""
        self.ev = self.evaluator()

    def evaluator(self) -> Evaluator:
        ev = Evaluator(EagerBuilder(self), self.sink, strict=True)
        ev.host = self
        return ev

    # ------------------------------------------------------------ functions of the run

    def call(
        self, ev: Evaluator, name: str, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope
    ) -> Any:
        handler = getattr(self, f"_{name}", None)
        if handler is None:
            return ev.not_lowered(f"`{name}`", e.span)
        return self.guarded(lambda: handler(ev, args, options, e), e.span)

    def guarded(self, run: Any, span: Span) -> Any:
        """What the runtime refuses, as a diagnostic at the place that asked for it."""
        from ndl.host.failures import diagnostic_of
        from ndl.runtime.errors import RunError

        try:
            return run()
        except NDLError:
            raise
        except RunError as error:
            raise NDLError([diagnostic_of(error, span)]) from error

    def _table(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`table("file.csv", time="year", prey="hare")`."""
        from ndl.runtime.data import table

        if len(args) != 1 or not isinstance(args[0], str):
            raise fail("NDL322", "`table` takes the name of a file", e.span)
        columns: dict[str, Any] = {
            k: list(v.items) if isinstance(v, ListV) else v for k, v in options.items()
        }
        numbers = ("drop", "drop_rows", "seed", "standard")
        options = {k: self.number(columns.pop(k)) for k in numbers if k in columns}
        time = self._times(columns.pop("time", None))
        return DataObject(table(args[0], time, policy=self.policy, **options, **columns))

    def _times(self, value: Any) -> Any:
        """`time` of a table: the name of a column, `0..1` or `every 0.1`."""
        if isinstance(value, RangeV):
            return float(self.number(value.lo)), float(self.number(value.hi))
        return float(self.number(value.value)) if isinstance(value, EveryV) else value

    def _path(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`path(t -> sin(3*t))`: a function of time as an input."""
        from ndl.runtime.paths_in_time import path

        function = args[0]
        if not isinstance(function, (Closure, FnV)):
            return ev.error("NDL354", f"`path` wants a function of t, not {describe(function)}", e.span)

        def one(t: torch.Tensor) -> torch.Tensor:
            v = ev.value(ev.apply(function, [lift(t)], e.span), e.span)
            if not isinstance(v, Value):
                raise fail("NDL354", "this path has no value", e.span)
            x: torch.Tensor = v.ref
            return x if x.dtype.is_floating_point else x.to(torch.float64)

        def many(t: torch.Tensor) -> torch.Tensor:
            if t.ndim == 0:
                return one(t)
            flat = torch.func.vmap(one)(t.reshape(-1))
            return flat.reshape(*t.shape, *flat.shape[1:])

        return PathObject(path(many))

    def _interpolant(self, name: str, ev: Evaluator, args: list[Any], e: tree.Call) -> Any:
        """A path through values at knots, of a batch one for each sample; gaps are filled component by
        component, but for a spline, which would not go through what is known alone."""
        from ndl.runtime import paths_in_time
        from ndl.runtime.series import filled

        ts, xs = (ev.value(a, e.span) for a in args[:2])
        if isinstance(ts, Unknown) or isinstance(xs, Unknown):
            return UNKNOWN
        make = getattr(paths_in_time, name)
        values = torch.where(xs.mask, xs.ref, torch.nan) if isinstance(xs, Masked) else xs.ref

        def known(x: torch.Tensor, components: int) -> torch.Tensor:
            if name == "spline":
                return x
            return filled(ts.ref, x[..., None])[..., 0] if components == 0 else filled(ts.ref, x)

        if batched(values):
            assert self.sample is not None
            run = lambda x: make(ts.ref, known(x, x.ndim - 2), family=True)  # noqa: E731
            return PathObject(self.sample.outside(run, values))
        return PathObject(make(ts.ref, known(values, values.ndim - 1)))

    def _spline(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._interpolant("spline", ev, args, e)

    def _linear(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._interpolant("linear", ev, args, e)

    def _hermite(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._interpolant("hermite", ev, args, e)

    def _rectilinear(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`rectilinear(xs, time=0)`: the path of a stream, its times a channel."""
        from ndl.runtime.paths_in_time import rectilinear

        xs = ev.value(args[0], e.span)
        if isinstance(xs, Unknown):
            return UNKNOWN
        return PathObject(rectilinear(xs.ref, int(self.number(options.get("time", 0)))))

    def _log_signature(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`log_signature(ts, xs, depth=2, window=10)`: what drives the log-ODE method."""
        from ndl.runtime.paths_in_time import log_signature

        ts, xs = (ev.value(a, e.span) for a in args[:2])
        if isinstance(ts, Unknown) or isinstance(xs, Unknown):
            return UNKNOWN
        depth, window = (int(self.number(options.get(n, v))) for n, v in (("depth", 2), ("window", 1)))
        return PathObject(log_signature(ts.ref, xs.ref, depth, window))

    def _train(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`train(Model)` runs its `train` block, `train(name)` a named one; settings may be replaced."""
        from ndl.host.training import block_of, run_train

        if isinstance(args[0], TrainingObject) and not options:
            return args[0]
        named = getattr(args[0], "session", None)
        block = named.block if named is not None else block_of(self, args[0], e.span)
        return run_train(self, block, {k: v for k, v in options.items()})

    def _reduce(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        from ndl.host.reduction import reduce_model

        return reduce_model(self, ev, args, options, e)

    def _truncate(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        from ndl.host.reduction import truncate_model

        return truncate_model(self, ev, args, options, e)

    def _prune(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        from ndl.host.reduction import prune_model

        return prune_model(self, ev, args, options, e)

    def _tensor_function(self, function: Any, ev: Evaluator, args: list[Any], e: tree.Call) -> Any:
        values = [ev.value(a, e.span) for a in args]
        if any(isinstance(v, Unknown) for v in values):
            return UNKNOWN
        return lift(function(*(v.ref for v in values if isinstance(v, Value))))

    def _sort(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x: torch.sort(x).values, ev, args, e)

    def _cumsum(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x: torch.cumsum(x, 0), ev, args, e)

    def _median(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x: torch.quantile(x, 0.5), ev, args, e)

    def _quantile(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x, q: torch.quantile(x, q.to(x.dtype)), ev, args, e)

    def _rms(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x: torch.sqrt(torch.mean(x * x)), ev, args, e)

    def _size(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        nodes = getattr(getattr(args[0], "module", None), "nodes", None)
        if nodes is not None:  # of a formula
            return nodes
        v = ev.value(args[0], e.span)
        return UNKNOWN if isinstance(v, Unknown) else int(v.ref.numel())

    def _isnan(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(torch.isnan, ev, args, e)

    def _cross_entropy(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`cross_entropy(logits, label)`, the classes on the last axis; the mean over other axes."""

        def mean(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            chosen = x.gather(-1, y.long()[..., None])[..., 0]
            return (x.logsumexp(-1) - chosen).mean()

        return self._tensor_function(mean, ev, args, e)

    def _accuracy(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`accuracy(logits, label)`: 1 where the largest logit is the label's; the mean over other axes."""
        right = lambda x, y: (x.argmax(-1) == y.long()).to(x.dtype).mean()  # noqa: E731
        return self._tensor_function(right, ev, args, e)

    def _smooth_l1(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(torch.nn.functional.smooth_l1_loss, ev, args, e)

    def _rel_l2(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x, y: (x - y).norm() / y.norm(), ev, args, e)

    # ------------------------------------------------------------ weights outside models

    def apply_operator(self, ev: Evaluator, op: OperatorV, args: list[Any], span: Span) -> Any:
        return self.net(op.place or id(op), op, args, op.decl.name).call(ev, args, {}, span)

    def apply_net(self, ev: Evaluator, net: NetV, args: list[Any], span: Span) -> Any:
        if net.target is None:
            module = self.bind.get(net.name)
            if module is None:
                raise self.unbound(net.name, span)
            params = net.signature.params if isinstance(net.signature, Map) else ()
            kinds = tuple(p.kind if isinstance(p, Tensor) else "R" for p in params)
            return NetObject(module, kinds).call(ev, args, {}, span)
        if isinstance(net.target, WordV):
            from ndl.host.discovery import formula_net

            return NetObject(formula_net(self, net, span)).call(ev, args, {}, span)
        if not isinstance(net.target, OperatorV):
            return ev.apply(net.target, args, span)
        return self.net((id(net.owner), net.name), net.target, args, net.name, net).call(ev, args, {}, span)

    def net(
        self, key: Any, op: OperatorV, args: list[Any], name: str, named: NetV | None = None
    ) -> NetObject:
        """The module of a net outside any model, made when it is first applied."""
        key = tuple(id(k) if isinstance(k, tree.Node) else k for k in key) if isinstance(key, tuple) else key
        if key not in self.nets:
            from ndl.compiler.lower.operators import lower_operator

            types = [v.type for v in args]
            function = lower_operator(op, types, self.ev, name, named)
            self.nets[key] = self.compilation.operator(function)(seed=0)
        return NetObject(self.nets[key])

    def trained_net(self, net: NetV, seed: int, precision: torch.dtype, span: Span) -> Any:
        """The module of a file-level net, in a precision."""
        module = self.module_of(net, span, seed)
        return module if net.target is None else module.to(precision)

    def module_of(self, net: NetV, span: Span, seed: int = 0) -> Any:
        """The module of a file-level net with a signature, made before it is applied."""
        from ndl.compiler.lower.operators import lower_operator

        key = (id(net.owner), net.name)
        if net.target is None and net.name in self.bind:
            return self.bind[net.name]
        if key not in self.nets:
            if not isinstance(net.signature, Map) or not isinstance(net.target, OperatorV):
                raise fail(
                    "NDL357",
                    f"`{net.name}` can be trained by itself only with a signature of tensors",
                    span,
                    help=f"write `net {net.name}: R[2] -> R[1] = …`",
                )
            types = [p for p in net.signature.params if isinstance(p, Tensor)]
            function = lower_operator(net.target, types, self.ev, net.name, net)
            self.nets[key] = self.compilation.operator(function)(seed=seed)
        return self.nets[key]

    def attribute(self, ev: Evaluator, value: Any, name: str, span: Span) -> Any:
        """`M.alpha`, `n.params` of a model named in a program."""
        if isinstance(value, ModelV):
            found = value.origin.attribute(name) if value.origin is not None else None
            if found is not None:
                return found
            return ModelObject(self.instance(value), value).attribute(ev, name, 0, span)
        return ev.error("NDL207", f"{describe(value)} has no `{name}`", span)

    def drawn_const(self, ev: Evaluator, item: tree.DeclItem, scope: Scope) -> Any:
        """A file-level `const c: T ~ law`: from the seed, never fitted."""
        from ndl.compiler.check.weights import read_item
        from ndl.runtime.laws import Law

        found = read_item(ev, item, scope)
        law = found.law
        if not isinstance(law, DistV) or found.type is None:
            return UNKNOWN
        arguments = tuple(self.number(a) for a in law.args)
        return lift(Law(law.law, arguments).sample(1, found.type.extents, seed=0, stream=item.name)[0])

    # ------------------------------------------------------------ instances

    def given(self, value: Any, span: Span) -> Any:
        """A value for a model, of a batch those of all samples: a tensor, a path or a module."""
        if isinstance(value, PathObject):
            return value.path
        if isinstance(value, NetObject):
            return value.module
        found = self.ev.value(value, span)
        if isinstance(found, Unknown):
            return found
        return self.whole(found.ref)

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        """What a tensor is for all samples of a batch, `[samples, ...]`."""
        if self.sample is None or not batched(x):
            return x
        kept: torch.Tensor = self.sample.outside(lambda values: values, x)
        return kept

    def number(self, value: Any) -> Any:
        """A plain number, tuple or tensor for the runtime."""
        value = self.ev.known(value)
        if isinstance(value, Value):
            return value.ref
        if isinstance(value, (ListV, TupleV)):
            v = self.ev.value(value, Span())
            return v.ref if isinstance(v, Value) else UNKNOWN
        return value

    def instance(self, model: Any, ensemble: int | None = None, seed: int = 0) -> Any:
        """The runtime instance of a model as applied; a family gets its members."""
        if isinstance(model, ModelObject):
            return model.instance
        if self.sample is not None:
            made = self._make(model)  # its values are those of a batch
        else:
            if id(model) not in self.instances:
                self.instances[id(model)] = (model, self._make(model))
            made = self.instances[id(model)][1]
        if model.laws or model.members:
            made = made.bind(**self._family(model, made, ensemble, seed))
        return made

    def _make(self, model: ModelV) -> Any:
        compiled = self.compilation.model(model)
        options = {p.name for p in model.decl.options} | header_dims(model.decl, model.module.scope)
        written = written_nets(self.ev, model)
        values: dict[str, Any] = {}
        inputs: dict[str, Any] = {}
        names = {p.name for p in compiled.cls.PARAMETERS} | {s.name for s in compiled.cls.STATES}
        for key, value in model.values.items():
            if key == "seed" or key in options or key in written:
                continue
            if isinstance(value, PathObject):
                inputs[key] = value.path
            elif isinstance(value, (NetObject,)):
                inputs[key] = value.module
            elif isinstance(value, NetV):
                inputs[key] = self.trained_net(value, 0, torch.float64, model.decl.name_span)
            elif isinstance(value, (Closure, FnV)):
                inputs[key] = self._path(
                    self.ev, [value], {}, tree.Call(Span(), tree.Name(Span(), key), ())
                ).path
            else:
                number = self.number(value)
                several = batched(number)
                (values if key in names and not several else inputs)[key] = (
                    self.whole(number) if several else number
                )
        for data, value in zip(model.decl.data, model.data):
            number = self.number(value)
            inputs[data.name] = self.whole(number) if batched(number) else number
        seed = self.number(model.values.get("seed", 0))
        made = compiled.cls.make(values, seed=int(seed))
        if model.origin is not None:
            model.origin.settle(made)
        made = made.bind(**inputs) if inputs else made
        for module in made.modules():
            if isinstance(module, Extern):
                raise self.unbound(module.name, model.decl.name_span)
        return made

    def unbound(self, name: str, span: Span) -> NDLError:
        """An extern net that Python does not give, at its declaration."""
        declared = (i for i in self.module.items if isinstance(i, tree.Extern) and i.name == name)
        return fail(
            "NDL355",
            f"`extern net {name}` is given no Python module",
            next((i.name_span for i in declared), span),
            help=f'load the file with `ndl.load(path, bind={{"{name}": module}})`',
        )

    def _family(self, model: ModelV, made: Any, ensemble: int | None, seed: int) -> dict[str, Any]:
        """Members of `M(rho ~ law)` and `M(rho in [..])`."""
        from ndl.runtime.laws import Law

        found: dict[str, Any] = {}
        for name, value in model.members.items():
            items = self.ev.value(value, Span())
            if not isinstance(items, Value):
                raise fail("NDL512", f"the members of `{name}` are not a list", model.decl.name_span)
            found[name] = items.ref.to(torch.float64)
        for name, law in model.laws.items():
            if not isinstance(law, DistV):
                raise fail(
                    "NDL328", f"`{name}` is drawn from a distribution, not from {describe(law)}", Span()
                )
            if ensemble is None:
                raise uncounted(name, law.law, law.span or model.decl.name_span)
            arguments = tuple(self.number(a) for a in law.args)
            shape = next((p.shape for p in made.PARAMETERS if p.name == name), None)
            if shape is None:
                shape = next((s.shape for s in made.STATES if s.name == name), ())
            found[name] = Law(law.law, arguments).sample(ensemble, shape, seed=seed, stream=name)
        return found

    def draws(self, model: Any, ensemble: int | None, seed: int, step: int = 0) -> Any:
        """The model with its draws bound: one for each member of a run."""
        from ndl.runtime.chance import with_draws

        return with_draws(model, ensemble, seed, step)

    # ------------------------------------------------------------ solving

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
    ) -> Any:
        from ndl.runtime.solve import solve

        model_v = target.source if isinstance(target, ModelObject) else target
        if not isinstance(model_v, ModelV):
            raise fail("NDL508", f"`solve` wants a model, not {describe(target)}", span)
        found: dict[str, Any] = {}
        for name, (value, where) in settings.items():
            if name not in SOLVE_SETTINGS:
                raise fail(
                    "NDL504",
                    f"`{name}` is no setting of `solve`",
                    where,
                    help=did_you_mean(name, SOLVE_SETTINGS),
                )
            if name in ("plot", "write"):
                continue
            found[name] = ev.eval(value, self._setting_scope(ev, target, scope, name))
        if "method" in settings:
            found["method"] = as_method(ev, found["method"], settings["method"][0].span)
            check_method(ev, model_v, found["method"], settings["method"][0].span)
        ensemble = found.get("ensemble")
        ensemble = None if ensemble is None else int(self.number(ensemble))
        if self.sample is not None and (ensemble is not None or getattr(model_v, "members", None)):
            raise Unshared
        seed = int(self.number(found.get("seed", self.run_seed)))
        instance = self.instance(target, ensemble, seed)
        if not getattr(target, "drawn", False):  # a drawn instance has its draws
            check_family(instance, ensemble, model_v.decl.name_span)
            instance = self.draws(instance, ensemble, seed)
        from ndl.host.failures import explained

        precision = str(instance.dtype).removeprefix("torch.") if self.run_precision else "float64"
        limit: dict[str, Any] = (
            {"max_steps": int(self.number(found["max_steps"]))} if "max_steps" in found else {}
        )
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
                device=self.word(found.get("device"), "cpu"),
                backend=self.word(found.get("backend"), "auto"),
                **limit,
            )
            return self._started(run, found.get("span"), model_v, span)

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
                help="write `span = 0..10`; a `train` may have data with times instead",
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

    def word(self, value: Any, default: str) -> str:
        return value.name if isinstance(value, WordV) else default if value is None else str(value)

    def method(
        self, ev: Evaluator, model: ModelV, value: Any, settings: Mapping[str, Any], span: Span
    ) -> Any:
        """The runtime's method; the facts choose one when none is named."""
        if value is None:
            value = self.default_method(model)
        if not isinstance(value, MethodV):
            raise fail("NDL503", f"a method is needed here, not {describe(value)}", span)
        compiled = self.compilation.model(model)
        kind = "sde" if compiled.ir.noises else "integral" if compiled.ir.integrals else "ode"
        options = {k: self.option(v) for k, v in value.options.items()}
        parts = {n: self.part(p) for n, p in value.parts.items()}
        return self.compilation.method(value, kind, options, parts)

    def default_method(self, model: ModelV) -> MethodV:
        from ndl.compiler.passes.choose import choose_method

        chosen = choose_method(self.compilation.model(model).facts)
        name = chosen.value or "euler"
        solvers = self.module.scope.find(name)
        options: dict[str, Any] = {} if chosen.value else {"h": 1.0}
        return MethodV(solvers, options)

    def part(self, value: Any) -> Any:
        """How a part of a splitting is followed."""
        from ndl.runtime.methods import Method

        if value is None:
            return None
        if isinstance(value, WordV):
            return Method(value.name, "exact", None)
        options = {k: self.option(v) for k, v in value.options.items()}
        return self.compilation.method(value, "ode", options, {})

    def option(self, value: Any) -> Any:
        """An option of a method for the runtime."""
        if isinstance(value, WordV):
            from ndl.runtime.quadrature import read_rule

            inner = f"({int(self.number(value.args[0]))})" if value.args else ""
            return read_rule(value.name + inner)
        found = self.number(value)
        return float(found) if isinstance(found, torch.Tensor) and found.ndim == 0 else found

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
            step = torch.linalg.solve(J, f.reshape(-1)).reshape(x.shape)
            x = x - step
            if float(step.abs().max()) <= 1e-14 * (1 + float(x.abs().max())):
                return lift(x)
        if math.isfinite(float(F(x).abs().max())) and float(F(x).abs().max()) < 1e-10:
            return lift(x)
        raise fail("NDL661", "`root` did not converge", span, help="start nearer to the solution")

    # ------------------------------------------------------------ named runs

    def named_run(self, stmt: tree.Stmt) -> Any:
        """`data = sweep`: a named run is a value, computed once."""
        if id(stmt) not in self.named:
            if isinstance(stmt, tree.Solve):
                self.named[id(stmt)] = SolutionObject(self.run_solve(stmt))
            elif isinstance(stmt, tree.Train):
                from ndl.host.training import run_train

                self.named[id(stmt)] = run_train(self, stmt, {})
        return self.named[id(stmt)]

    def alias(self, stmt: tree.ModelAlias, scope: Scope) -> Any:
        """`model X = …`, worked out once."""
        if id(stmt) not in self.named:
            outer, self.naming = self.naming, stmt.name
            try:
                found = self.ev.eval(stmt.value, scope)
            finally:
                self.naming = outer
            if isinstance(found, ModelObject):
                found = found.source
            if not isinstance(found, ModelV):
                raise fail("NDL429", f"`{stmt.name}` must be a model, not {describe(found)}", stmt.value.span)
            self.named[id(stmt)] = found
        return self.named[id(stmt)]

    def run_solve(self, stmt: tree.Solve) -> Any:
        """A `solve` block."""
        scope = self.module.scope
        target = self.ev.eval(stmt.target, scope)
        settings = self.settings_of(stmt.settings, stmt_name(stmt))
        return self.guarded(lambda: self.solution(self.ev, target, settings, scope, stmt.span), stmt.span)

    def settings_of(self, stmts: tuple[tree.Stmt, ...], name: str) -> dict[str, tuple[tree.Expr, Span]]:
        """Settings by name, with overrides from outside."""
        from ndl.host.overrides import overridden

        found: dict[str, tuple[tree.Expr, Span]] = {}
        for s in stmts:
            if isinstance(s, tree.Assign) and len(s.targets) == 1 and isinstance(s.targets[0], tree.Name):
                found[s.targets[0].id] = (s.value, s.targets[0].span)
        return overridden(found, name, self.overrides)


class PathObject:
    """A path in time as an argument of a model."""

    def __init__(self, path: Any) -> None:
        self.path = path

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The shape of the path's values."""
        with torch.no_grad():
            return tuple(map(Dim.of, self.path(torch.zeros((), dtype=torch.float64)).shape))


__all__ = ["Host", "PathObject", "TrainingObject"]
