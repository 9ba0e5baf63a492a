"""Solvers to `SolverIR`: a tableau as numbers, or a step as a function of abstract vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndl.compiler.check.check_solver import CALLABLES, check_stiffness, header_word, numeric
from ndl.compiler.check.evaluator import Evaluator, TypeBuilder
from ndl.compiler.check.linear import Diagonal
from ndl.compiler.check.maps import Map
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.statements import run_block
from ndl.compiler.check.values import UNKNOWN, Object, SolverV, Unknown, Value, WordV
from ndl.compiler.diagnostics import Sink, fail
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ir.model import SolverIR
from ndl.compiler.lower.builder import GraphBuilder, constant_of
from ndl.compiler.lower.energy_steps import matrix_of, of_energies
from ndl.compiler.lower.weights import Weights
from ndl.compiler.ops.families import elementwise
from ndl.compiler.passes.fold import fold
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.source import Span
from ndl.compiler.symbolic.dense_weights import polynomials
from ndl.compiler.syntax import tree
from ndl.compiler.types import INTEGER, SCALAR, Tensor, tensor

VECTOR, NOISE = tensor("n"), tensor("m")
TOLERANCES = ("rtol", "atol")
"""Of a run: a step may ask for them, an entry for each component; an option's default may read one."""


class Callable(Object):
    """A callable argument of a step: `f(x, t)`, `A(x, t, h)`, `F(x)`; `g(x, t)` is a linear map."""

    kind = "right-hand side"

    def __init__(self, name: str, step: str = "") -> None:
        self.name, self.kind_of_step = name, step

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Span) -> Any:
        if self.name == "g" and self.kind_of_step == "sde":
            return DiffusionAt(args)
        values = [ev.value(a, span) for a in args]
        nodes = [ev.builder.node(v) for v in values]
        type_ = SCALAR if self.kind_of_step == "energy" else VECTOR
        return Value(type_, ev.builder.add("apply", nodes, span, type=type_, callee=self.name))

    def as_map(self) -> Map | None:
        """The A of a linear system as a map."""
        if self.kind_of_step != "linear" or self.name != "A":
            return None
        return Map("base", lambda ev, v, span: self.call(ev, [v], {}, span), name="A", back=self._transposed)

    def _transposed(self, ev: Any, v: Value, span: Span) -> Value:
        node = ev.builder.add("apply_transposed", [ev.builder.node(v)], span, type=VECTOR, callee=self.name)
        return Value(VECTOR, node)

    def apply_to(self, ev: Any, right: Any, span: Span) -> Any:
        """`A @ v` of a linear system."""
        map_ = self.as_map()
        if map_ is None:
            return ev.error("NDL317", f"`{self.name}` is no linear map", span)
        return map_.apply_to(ev, right, span)

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        owner: Any = self.as_map() or super()
        return owner.attribute(ev, name, primes, span)

    def series(self, ev: Any, x: Any, t: Any, order: int, span: Span) -> Any:
        """The coefficients of the solution through (x, t), `[order + 1, n]`."""
        nodes = [ev.builder.node(ev.value(a, span)) for a in (x, t)]
        type_ = tensor(order + 1, "n")
        node = ev.builder.add("apply_series", nodes, span, type=type_, callee=self.name, order=order)
        return Value(type_, node)

    def phi(self, ev: Any, order: int, h: Any, v: Any, span: Span) -> Any:
        """phi_order(h L) v, L the linear part that is known as a formula."""
        nodes = [ev.builder.node(ev.value(a, span)) for a in (h, v)]
        node = ev.builder.add("apply_phi", nodes, span, type=VECTOR, callee=self.name, order=order)
        return Value(VECTOR, node)

    def linear_part(self, ev: Any, v: Any, span: Span) -> Any:
        """L v."""
        nodes = [ev.builder.node(ev.value(v, span))]
        return Value(VECTOR, ev.builder.add("apply_linear", nodes, span, type=VECTOR, callee=self.name))


FORMS = {"number": SCALAR, "vector": VECTOR, "matrix": tensor("n", "n")}
"""What a solver may be given, beside a `function` and a `map` of the state."""


class GivenFunction(Callable):
    """What a solver is given to apply to vectors: a net or another function, `f(r)`, or a map, `M @ r`."""

    kind = "function"

    def __init__(self, name: str, form: str) -> None:
        super().__init__(name)
        self.form = form

    def as_map(self) -> Map | None:
        back = self._transposed if self.form == "map" else self._no_transpose
        return Map("base", lambda ev, v, span: self.call(ev, [v], {}, span), name=self.name, back=back)

    def _no_transpose(self, ev: Any, v: Value, span: Span) -> Any:
        return ev.error("NDL317", f"the transpose of the function `{self.name}` is not known", span)


class DiffusionAt(Object):
    """`g(x, t)`: applied to one number for each component of the noise by `@`."""

    kind = "diffusion"

    def __init__(self, args: list[Any]) -> None:
        self.args = args

    def apply_to(self, ev: Any, right: Any, span: Span) -> Any:
        values = [ev.value(a, span) for a in (*self.args, right)]
        nodes = [ev.builder.node(v) for v in values]
        return Value(VECTOR, ev.builder.add("apply", nodes, span, type=VECTOR, callee="g"))


class StepContext:
    """`prev(x, k)` and what a step may not declare."""

    def __init__(self, lowering: StepLowering) -> None:
        self.lowering = lowering

    def declared(self, name: str) -> Span | None:
        return None

    def statement(self, ev: Evaluator, stmt: tree.Stmt, scope: Scope) -> None:
        ev.not_lowered("this statement in a step", stmt.span)

    def function_of_map(self, ev: Evaluator, map_: Map, v: Value, span: Span) -> Any:
        """`(identity - lap)^-1 @ v`: the solution with a matrix of the step."""
        if map_.op != "^" or map_.of[1] != -1:
            return ev.not_lowered("a function of a map, but its inverse, in a step", span)
        matrix = ev.value(matrix_of(ev, map_.of[0], span), span)
        return UNKNOWN if isinstance(matrix, Unknown) else ev.op("solve", [matrix, v], span)

    def previous(self, ev: Evaluator, e: tree.Expr, k: Any, span: Span) -> Any:
        """The value of `x`, `h`, `t` or a carried state k steps earlier."""
        if not isinstance(e, tree.Name) or not isinstance(k, int) or k < 1:
            return ev.error("NDL351", "`prev` wants a name and a number of steps known when compiling", span)
        return self.lowering.read(
            f"prev:{e.id}:{k}", SCALAR if e.id in ("t", "h") else self.lowering.type(e.id)
        )


class StepLowering:
    """Lowers the functions of one step solver."""

    def __init__(
        self, solver: SolverV, sink: Sink, options: Mapping[str, Any], data: Mapping[str, str]
    ) -> None:
        self.solver, self.decl, self.sink, self.options = solver, solver.decl, sink, options
        self.data = data
        self.builder = GraphBuilder(Graph(), Weights())
        self.inputs: dict[str, Value] = {}
        self.states = {
            item.name: item
            for s in self.decl.body
            if isinstance(s, tree.Declare) and s.keyword == "state"
            for item in s.items
        }

    def type(self, name: str) -> Tensor:
        if name in self.states and self.states[name].type is None:
            return tensor("n", "n") if self._is_matrix(name) else VECTOR
        return VECTOR

    def _is_matrix(self, name: str) -> bool:
        value = self.states[name].value
        return isinstance(value, tree.Binary) and value.op == "^"

    def read(self, name: str, type: Tensor) -> Value:
        if name not in self.inputs:
            node = self.builder.add("input", [], Span(), type=type, name=name)
            self.inputs[name] = Value(type, node)
        return self.inputs[name]

    def argument(self, name: str) -> Any:
        """What a step's argument is."""
        if name in CALLABLES:
            return Callable(name, self.decl.kind)
        if name == "mass":
            return Diagonal(self.read(name, VECTOR))
        if name == "n":
            return self.read(name, INTEGER)
        if name in ("t", "h"):
            return self.read(name, SCALAR)
        if name in ("dW", "dZ"):
            return self.read(name, NOISE)
        if name in ("x", "b", "y", *TOLERANCES) or (name == "u" and self.decl.kind == "energy"):
            return self.read(name, VECTOR)
        raise fail("NDL352", f"a step for `{self.decl.kind}` has no argument `{name}`", self.decl.name_span)

    def scope(self, step: tree.Step) -> Scope:
        scope = self.solver.module.scope.child()
        for name in step.params:
            scope.names[name] = self.argument(name)
        if self.decl.kind == "energy":
            scope.names.update(of_energies(self, step))
        for name, form in self.data.items():
            shape = FORMS.get(form)
            scope.names[name] = (
                GivenFunction(name, form) if shape is None else self.read(f"data:{name}", shape)
            )
        for name in self.states:
            scope.names[name] = self.read(f"state:{name}", self.type(name))
        for name, value in self.options.items():
            if name in step.params:
                continue
            if isinstance(value, int) and not isinstance(value, bool):
                scope.names[name] = value  # a count is fixed when compiled
            elif isinstance(value, float):
                scope.names[name] = self.read(name, SCALAR)
        return scope

    def run(self, name: str, step: tree.Step, make: Any) -> Function:
        """A function over fresh inputs."""
        self.builder, self.inputs = GraphBuilder(Graph(), Weights()), {}
        ev = Evaluator(self.builder, self.sink, strict=True)
        ev.context = StepContext(self)
        scope = self.scope(step)
        outputs = tuple(
            (key, self.builder.node(v))
            for key, value in make(ev, scope)
            if isinstance(v := ev.value(value, step.span), Value)
        )
        inputs = tuple(v.ref for v in self.inputs.values())
        return Function(name, self.builder.graph, inputs, outputs)

    def step(self, step: tree.Step) -> Function:
        def make(ev: Evaluator, scope: Scope) -> list[tuple[str, Any]]:
            result = run_block(ev, step.body, scope)
            found = [("x", result)]
            if "error" in scope.names:
                found.append(("error", scope.names["error"]))
            found += [(f"state:{n}", scope.names[n]) for n in self.states]
            return found

        return self.run("step", step, make)

    def said(self, step: tree.Step, name: str) -> Function | None:
        """What a step says of itself by a name: `size`, how far the method would go from here, or `merit`,
        what a step is to make smaller."""

        def make(ev: Evaluator, scope: Scope) -> list[tuple[str, Any]]:
            run_block(ev, step.body, scope)
            return [(name, scope.names[name])] if name in scope.names else []

        function = self.run(name, step, make)
        return function if function.outputs else None

    def stiffness(self, step: tree.Step) -> Function | None:
        """The differences of slopes and of states `[2, n]` from which the size of the Jacobian is estimated,
        where the step says so."""

        def make(ev: Evaluator, scope: Scope) -> list[tuple[str, Any]]:
            run_block(ev, step.body, scope)
            found = scope.names.get("stiffness")
            v = None if found is None else ev.value(found, step.span)
            check_stiffness(ev, v, step.span)
            return [] if v is None else [("stiffness", v)]

        function = self.run("stiffness", step, make)
        return function if function.outputs else None

    def start(self, name: str, step: tree.Step) -> Function:
        item = self.states[name]
        assert item.value is not None
        value = item.value
        return self.run(
            f"start_{name}", step, lambda ev, scope: [("start", self._filled(ev, ev.eval(value, scope)))]
        )

    def _filled(self, ev: Evaluator, found: Any) -> Any:
        v = ev.value(found, self.decl.name_span)
        if isinstance(v, Value) and v.type.rank == 0:
            return ev.spread(v, VECTOR.shape, self.decl.name_span)
        return v

    def until(self, step: tree.Step, cond: tree.Expr) -> Function:
        return self.run("until", step, lambda ev, scope: [("until", ev.eval(cond, scope))])


def option_values(solver: SolverV, sink: Sink, given: Mapping[str, Any]) -> dict[str, Any]:
    """A solver's options: what is given, else the defaults, which may read the options before them. A whole
    number is a count and stays one."""
    ev, scope = Evaluator(TypeBuilder(), sink), solver.module.scope.child()
    found = {}
    for p in solver.decl.options:
        value = None if p.default is None else ev.eval(p.default, scope)
        if p.name in given:
            value = _given(p.name, value, given[p.name], solver.decl.name_span)
        found[p.name] = scope.names[p.name] = value
    return found


def _given(name: str, default: Any, value: Any, span: Span) -> Any:
    """An option as it is given; for a count a whole number."""
    if isinstance(default, int) and not isinstance(default, bool):
        whole = isinstance(value, int | float) and value == int(value) and value >= 1
        if not whole:
            raise fail("NDL502", f"`{name}` must be a whole number of at least 1, not {value}", span)
        return int(value)
    return value


def lower_solver(
    solver: SolverV,
    sink: Sink,
    given: Mapping[str, Any] | None = None,
    data: Mapping[str, str] | None = None,
) -> SolverIR:
    """Lower one solver, for options as they are given; `data` says of each thing before the options which
    form of `FORMS` it has, or that it is a `function` or a `map`."""
    decl = solver.decl
    check = Evaluator(TypeBuilder(), sink)
    values = option_values(solver, sink, given or {})
    scope = solver.module.scope.child(values)
    order, embedded = numeric(check, decl.order, scope), numeric(check, decl.embedded, scope)
    options = {
        name: value if isinstance(value, WordV) else constant_of(value)
        for name, value in values.items()
        if name not in TOLERANCES
    }
    words = {
        w[0]: w[1] for s in decl.body if isinstance(s, tree.Assign) and (w := header_word(s)) is not None
    }
    calculus = next((s.name for s in decl.body if isinstance(s, tree.Calculus)), "ito")
    common: dict[str, Any] = {
        "name": decl.name,
        "kind": decl.kind,
        "order": order if order is not None else 1.0,
        "embedded": embedded,
        "options": options,
        "data": tuple(p.name for p in decl.data),
        "doc": decl.doc or "",
        "span": decl.name_span,
        "calculus": calculus,
        "noise": words.get("serves", "general"),
    }
    tableau = next((s for s in decl.body if isinstance(s, tree.Tableau)), None)
    if tableau is not None:
        return SolverIR(
            **common,
            c=tuple(r.c for r in tableau.stages),
            a=tuple(r.a for r in tableau.stages),
            b=tableau.outputs[0].a,
            b_hat=tableau.outputs[1].a if len(tableau.outputs) > 1 else None,
            dense=_dense(decl, len(tableau.stages), scope, sink),
        )
    if decl.data and data is None:
        raise fail(
            "NDL490", "a solver that is given data, outside of a run, is not yet lowered", decl.data[0].span
        )
    step = next((s for s in decl.body if isinstance(s, tree.Step)), None)
    if step is None:
        return SolverIR(**common)
    lowering = StepLowering(solver, sink, values, data or {})
    size = lowering.said(step, "size")
    until = next((s.cond for s in decl.body if isinstance(s, tree.Until)), None)
    return SolverIR(
        **common,
        arguments=step.params,
        step=lowering.step(step),
        size=None if size is None else CoarsePowers(size.graph).function(size),
        merit=lowering.said(step, "merit") if decl.kind in ("root", "energy") else None,
        stiffness=lowering.stiffness(step),
        states={n: lowering.start(n, step) for n, item in lowering.states.items() if not is_plain_x(item)},
        until=None if until is None else lowering.until(step, until),
    )


class CoarsePowers(Rewriter):
    """A step's size with its powers to three digits: it needs no more, and kernels take them in a fifth of
    the time. Squares, roots and their like stay as they are."""

    def remake(self, node: Node) -> Node:
        if node.op != "pow" or not isinstance(node.type, Tensor) or node.type.kind != "R":
            return super().remake(node)
        exponent = elementwise.constant_of(self.source, self.source.operands(node)[1])
        if exponent is not None and 2 * exponent == round(2 * exponent):
            return super().remake(node)
        return self.add("coarse_power", [self.image[i] for i in node.inputs], type=node.type, span=node.span)


def is_plain_x(item: tree.DeclItem) -> bool:
    """`state z = x`: the carried value starts at the initial state."""
    return isinstance(item.value, tree.Name) and item.value.id == "x"


def _dense(decl: tree.Solver, stages: int, scope: Scope, sink: Sink) -> tuple[tuple[float, ...], ...] | None:
    """The coefficients of `dense(theta) = [b_1(theta), …]`."""
    for s in decl.body:
        if isinstance(s, tree.Assign) and isinstance(s.targets[0], tree.Call):
            call = s.targets[0]
            name = call.args[0].value.id if isinstance(call.args[0].value, tree.Name) else "theta"
            builder = GraphBuilder(Graph(), Weights())
            ev = Evaluator(builder, sink, strict=True)
            theta = builder.add("input", [], s.span, type=SCALAR, name="theta")
            value = ev.value(ev.eval(s.value, scope.child({name: Value(SCALAR, theta)})), s.span)
            if isinstance(value, Unknown):
                return None
            made = Function("dense", builder.graph, (theta,), (("weights", builder.node(value)),))
            found = polynomials(fold(made))
            if found is None or len(found) != stages:
                raise fail(
                    "NDL560",
                    f"`dense` of a tableau is a list of {stages} polynomials, 0 where the step begins",
                    s.value.span,
                    help="one polynomial of `theta` for each stage: 0 at 0 and the stage's weight at 1",
                )
            return found
    return None


__all__ = ["UNKNOWN", "lower_solver"]
