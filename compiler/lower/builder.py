"""The elaborator's builder that adds graph nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ndl.compiler.check.axes import full, split
from ndl.compiler.check.evaluator import Evaluator, constant_of
from ndl.compiler.check.formulas import formula_signature, is_formula
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.sets import of_fields
from ndl.compiler.check.values import (
    UNKNOWN,
    Closure,
    NetV,
    OperatorV,
    TupleV,
    Unknown,
    Value,
    is_number,
)
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import EXTERN, FORMULA, Function, Graph, Node
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import BOOL, Tensor


def value_of(node: Node) -> Value:
    """A node whose type is a tensor, as a value."""
    assert isinstance(node.type, Tensor)
    return Value(node.type, node)


class GraphBuilder:
    """Adds to one graph. A value of an enclosing graph is captured: it becomes an input here."""

    mode = "graph"

    def __init__(self, graph: Graph, weights: Any, outer: GraphBuilder | None = None) -> None:
        self.graph, self.weights, self.outer = graph, weights, outer
        self.own: dict[int, Node] = {}
        self.captured: dict[int, tuple[Value, Node]] = {}
        self.smooth_nodes: set[int] = set()
        self.applied: dict[Any, int] = {}
        self.draw_nodes: dict[str, Node] = {}

    # ------------------------------------------------------------ nodes

    def node(self, v: Value) -> Node:
        """The node of a value in this graph."""
        node = v.ref
        assert isinstance(node, Node)
        if id(node) in self.own or self.outer is None:
            return node
        if id(node) not in self.captured:
            inside = self.add("input", [], node.span, type=node.type, name=f"captured{len(self.captured)}")
            self.captured[id(node)] = (v, inside)
        return self.captured[id(node)][1]

    def add(
        self, op: str, inputs: Sequence[Node], span: Span, hint: str = "", type: Any = None, **attrs: Any
    ) -> Node:
        node = self.graph.add(op, inputs, type=type, span=span, hint=hint, **attrs)
        self.own[id(node)] = node
        return node

    def op(self, name: str, args: Sequence[Value], span: Span, attrs: dict[str, Any]) -> Value:
        nodes = [self.node(a) for a in args]
        if name == "pow" and nodes[0].op == "sqrt" and self._is_two(nodes[1]):
            inner = self.graph.operands(nodes[0])[0]  # a norm squared has a derivative at 0
            assert isinstance(inner.type, Tensor)
            return Value(inner.type, inner)
        node = self.add(name, nodes, span, **attrs)
        assert isinstance(node.type, Tensor)
        return Value(node.type, node)

    def _is_two(self, node: Node) -> bool:
        while node.op == "expand":
            node = self.graph.operands(node)[0]
        return node.op == "const" and node.attr("value") == 2

    def const(self, value: Any, type: Tensor, span: Span) -> Value:
        node = self.add("const", [], span, type=type, value=value)
        return Value(type, node)

    def named(self, v: Value, name: str) -> Value:
        """The same value under the user's name."""
        node = v.ref
        if not isinstance(node, Node) or id(node) not in self.own or node.hint or v.axes:
            return v
        if node.op in ("input", "param", "const"):
            return v
        renamed = self.graph.rename(node, name)
        self.own[id(renamed)] = renamed
        return replace(v, ref=renamed)

    def smooth(self, v: Any) -> Any:
        """Mark everything under a value as not to be located."""
        if isinstance(v, Value) and isinstance(v.ref, Node):
            self.smooth_nodes |= {n.id for n in self.graph.needed([v.ref])}
        return v

    # ------------------------------------------------------------ calls

    def apply_operator(self, ev: Evaluator, op: OperatorV, args: list[Any], span: Span) -> Any:
        """An operator on data: a call of a part, which is lowered where it is first applied."""
        from ndl.compiler.lower.operators import lower_operator
        from ndl.compiler.lower.placed import apply_placed

        name = self.weights.part_name(op.place, op.decl.name)
        if of_fields(op.decl):
            return apply_placed(ev, self, name, op, args, span)
        for a in args:
            if not isinstance(a, Value):
                return ev.not_lowered("a function as the datum of an operator", span)
        if name not in self.weights.parts:
            types = [a.type for a in args]
            self.weights.parts[name] = lower_operator(op, types, ev, name)
        return self.call(ev, name, self.weights.parts[name], args, span)

    def apply_net(self, ev: Evaluator, net: NetV, args: list[Any], span: Span) -> Any:
        """A named net on data; its weights belong to the model (or file) that names it."""
        from ndl.compiler.lower.operators import lower_operator, refuse_untold
        from ndl.compiler.types import Map

        if is_formula(net):
            formula_signature(net, span)
            self.weights.parts.setdefault(net.name, extern_function(ev, net, span, FORMULA))
            return self.call(ev, net.name, self.weights.parts[net.name], args, span)
        if net.target is not None and not isinstance(net.target, OperatorV):
            return ev.apply(net.target, args, span)
        if net.target is not None and of_fields(net.target.decl):
            return self._apply_placed_net(ev, net, args, span)
        if net.name not in self.weights.parts:
            if net.target is None:
                self.weights.parts[net.name] = extern_function(ev, net, span)
            else:
                types = [a.type for a in args]
                target = net.target
                wanted = net.signature.result if isinstance(net.signature, Map) else None
                if isinstance(wanted, Tensor) and net.inner is None:
                    from ndl.compiler.check.operators import solve_dims

                    solved = solve_dims(ev, target, args, span, wanted)
                    if solved is not None:
                        target = solved[0]
                        refuse_untold(target.dims, net.name, span)
                part = lower_operator(target, types, ev, net.name, net)
                if net.per is not None:
                    part = self._counted(ev, part, net, span)
                self.weights.parts[net.name] = part
        return self.call(ev, net.name, self.weights.parts[net.name], args, span)

    def _counted(self, ev: Evaluator, part: Function, net: NetV, span: Span) -> Function:
        """A part with several sets of weights, of a model's net or one inside an operator."""
        if not self.weights.of_model and net.owner is not None:
            ev.not_lowered(f"the net `{net.name}` per {net.per}, outside of a model", span)
        if part.counted:
            raise fail(
                "NDL455",
                f"`{net.name}` has weights per {net.per}, and something inside it has such a word too",
                span,
                help="say it once: of the net, or of what is inside",
            )
        return replace(part, per=net.per or "")

    def _apply_placed_net(self, ev: Evaluator, net: NetV, args: list[Any], span: Span) -> Any:
        """A named net of fields."""
        from ndl.compiler.check.operators import solve_dims
        from ndl.compiler.lower.placed import apply_placed
        from ndl.compiler.types import Map

        if net.per is not None:
            return ev.not_lowered(f"the net `{net.name}` of fields per {net.per}", span)
        target = net.target
        if net.inner is None:
            result = net.signature.result if isinstance(net.signature, Map) else None
            solved = solve_dims(ev, target, args, span, result)
            target = target if solved is None else solved[0]
        return apply_placed(ev, self, net.name, target, args, span, net)

    def call(self, ev: Evaluator, name: str, part: Function, args: list[Value], span: Span) -> Any:
        if any(a.axes for a in args):
            from ndl.compiler.lower.mapped import mapped_call

            return mapped_call(ev, self, name, part, args, span)
        nodes = [self.node(a) for a in args]
        nodes += [self.node(v) for v in self.applied_draws(name, part, span)]
        if part.remembers and self.weights.of_model:
            raise fail(
                "NDL432",
                f"`{part.name}` keeps memory, which a model's equations cannot change",
                span,
                help="use it in the loss of a `train`, or write the memory as a state of the model",
            )
        results = []
        for k, (_, out) in enumerate(part.results):
            node = self.add("call", nodes, span, type=out.type, instance=name, index=k)
            assert isinstance(out.type, Tensor)
            results.append(Value(out.type, node))
        return results[0] if len(results) == 1 else TupleV(tuple(results))

    def applied_draws(self, instance: str, part: Function, span: Span) -> list[Value]:
        """What a part draws in one application: draws of the function that applies it."""
        if not part.draws:
            return []
        if self.outer is not None:
            return self.outer.applied_draws(instance, part, span)
        place = (span.source.path, span.start, span.end)
        self.applied[instance, place] = self.applied.get((instance, place), -1) + 1
        use = self.weights.use(instance, (place, self.applied[instance, place]))
        found = []
        for d in part.draws:
            name = f"{use}.{d.name}"
            self.weights.draws[name] = replace(d, name=name)
            found.append(self.drawn(name, d.type, span))
        return found

    def drawn(self, name: str, type: Tensor, span: Span) -> Value:
        """A number that the run draws, as an input."""
        if name not in self.draw_nodes:
            self.draw_nodes[name] = self.add("input", [], span, type=type, name=name)
        return Value(type, self.draw_nodes[name])

    def training(self, span: Span) -> Value:
        """The constant `training`."""
        return Value(BOOL, self.add("training", [], span))

    # ------------------------------------------------------------ derivatives

    def derive(
        self, ev: Evaluator, e: tree.Expr, by: list[tree.Expr], scope: Scope, kind: str, span: Span
    ) -> Any:
        """`diff`, `jac`, `grad` of an expression by names (or by values that are nodes)."""
        if len(by) > 1:
            value: Any = None
            inner = scope
            variables = []
            for b in by:
                found, inner = self._variable(ev, b, inner)
                variables.append(found)
            value = ev.value(ev.eval(e, inner), e.span)
            for v in variables:
                if isinstance(value, Unknown) or isinstance(v, Unknown):
                    return UNKNOWN
                value = self._slope(ev, value, v, kind, span)
            return value
        variable, inner = self._variable(ev, by[0], scope)
        value = ev.value(ev.eval(e, inner), e.span)
        if isinstance(value, Unknown) or isinstance(variable, Unknown):
            return UNKNOWN
        return self._slope(ev, value, variable, kind, span)

    def _variable(self, ev: Evaluator, by: tree.Expr, scope: Scope) -> tuple[Any, Scope]:
        """The value to differentiate by; a known number becomes a node of its own first."""
        found = ev.eval(by, scope)
        if is_number(found) and isinstance(by, tree.Name):
            node = self.add("const", [], by.span, type=Tensor(), value=float(found))
            v = Value(Tensor(), node)
            return v, scope.child({by.id: v})
        return ev.value(found, by.span), scope

    def _slope(self, ev: Evaluator, value: Value, variable: Value, kind: str, span: Span) -> Any:
        from ndl.compiler.ir.autodiff import jacobian

        y, x = self.node(value), self.node(variable)
        if value.axes or variable.axes:
            return self._slope_under_axes(ev, value, variable, span)
        if y.op == "apply":
            direct = self._of_callable(y, x, span)
            if direct is not None:
                return direct
        node = jacobian(self.graph, y, x, self.weights.parts)
        self.adopt()
        assert isinstance(node.type, Tensor)
        return Value(node.type, node)

    def _slope_under_axes(self, ev: Evaluator, value: Value, variable: Value, span: Span) -> Any:
        """A pointwise derivative along bound axes: the gradient of the sum over them."""
        from ndl.compiler.ir.autodiff import gradient

        if value.axes != variable.axes or value.type.rank:
            return ev.not_lowered("this derivative under a bound index", span)
        y = self.node(value)
        assert isinstance(y.type, Tensor)
        total = self.add("sum", [y], span, axes=tuple(range(y.type.rank)))
        node = gradient(self.graph, total, [self.node(variable)], self.weights.parts)[0]
        self.adopt()
        return Value(variable.type, node, variable.axes)

    def _of_callable(self, y: Node, x: Node, span: Span) -> Value | None:
        """d f(x, t)/dx of a solver's callable, when only one operand depends on x."""
        operands = self.graph.operands(y)
        places = [i for i, o in enumerate(operands) if x.id in {n.id for n in self.graph.needed([o])}]
        if len(places) != 1 or operands[places[0]].id != x.id:
            return None
        assert isinstance(y.type, Tensor) and isinstance(x.type, Tensor)
        type_ = Tensor("R", (*y.type.shape, *x.type.shape))
        node = self.add("apply_jac", operands, span, type=type_, callee=y.attr("callee"), wrt=places[0])
        return Value(type_, node)

    # ------------------------------------------------------------ linear maps

    def _probed(self, ev: Evaluator, map_: Any, v: Value, span: Span) -> tuple[Value, Value] | None:
        """A value of its own like v, and what a map makes of it; None where that is no value like v."""
        made = self.op("stop_gradient", [full(v)], span, {})
        probe = split(made, v.axes)
        image = ev.value(map_.of[0](ev, probe, span), span)
        if not isinstance(image, Value) or image.axes != v.axes or image.type.shape != v.type.shape:
            return None
        return probe, image

    def check_linear(self, ev: Evaluator, map_: Any, v: Value, span: Span) -> None:
        """A formula `v -> e` is a map where it is proved linear. Raises `NDLError`."""
        on_mesh = None if ev.fields is None else ev.fields.weak.probed(map_, v, span)
        found = on_mesh or self._probed(ev, map_, v, span)
        if found is not None:
            self._refuse_bent(map_, *found)

    def _refuse_bent(self, map_: Any, probe: Value, image: Value) -> None:
        from ndl.compiler.ir.linearity import is_linear

        if len(map_.of) > 1 and not is_linear(self.graph, self.node(image), self.node(probe)):
            raise fail(
                "NDL475",
                "this function is not linear, and stands where a linear map is needed",
                map_.of[1].expr.span,
                help="apply it as a function, `f(u)`; `jac(e, x)` is the linear map near a point",
            )

    def is_symmetric(self, matrix: Value) -> bool:
        """Whether a matrix is proved to be symmetric."""
        from ndl.compiler.ir.symmetry import is_symmetric

        return not matrix.axes and is_symmetric(self.graph, self.node(matrix))

    def adjoint(self, ev: Evaluator, map_: Any, v: Value, span: Span) -> Any:
        """The transpose of a map known by what it does: of fields in the inner product of their grid."""
        from ndl.compiler.ir.autodiff import pullback

        found = self._probed(ev, map_, v, span)
        if found is None or v.type.kind == "C":
            return ev.not_lowered("the transpose of this map", span)
        probe, image = found
        self._refuse_bent(map_, probe, image)
        weights = None if ev.fields is None else ev.fields.weights(v.axes, span)
        dual = v if weights is None else ev.value(ev.binary("*", v, weights, span), span)
        assert isinstance(dual, Value)
        (back,) = pullback(
            self.graph, self.node(image), self.node(full(dual)), [self.node(probe)], parts=self.weights.parts
        )
        self.adopt()
        if back is None:
            return ev.binary("*", 0.0, v, span)
        assert isinstance(back.type, Tensor)
        result = split(Value(back.type, back), v.axes)
        return result if weights is None else ev.binary("/", result, weights, span)

    def point(self, map_: Any, name: str, order: int) -> Any:
        """The value of a state of the model of which a map is the derivative."""
        from ndl.compiler.lower.tangents import point

        return point(map_, name, order)

    def tangent(self, ev: Evaluator, map_: Any, v: Value, span: Span) -> Any:
        """`linearize(M, x) @ v`."""
        from ndl.compiler.lower.tangents import tangent

        return tangent(ev, map_, v, span)

    def along_vector(
        self, ev: Evaluator, e: tree.Expr, by: tree.Expr, v: Value, scope: Scope, turned: bool, span: Span
    ) -> Any:
        """The derivative of e along v, for a v like x, or its transpose at a v like e, without the Jacobian;
        None where these are no vectors or fields, or e is a solver's callable, whose Jacobian has a form."""
        from ndl.compiler.ir.autodiff import jvp, pullback

        variable, inner = self._variable(ev, by, scope)
        value = ev.value(ev.eval(e, inner), e.span)
        if not isinstance(value, Value) or not isinstance(variable, Value):
            return None
        y, x, parts = self.node(value), self.node(variable), self.weights.parts
        if any(n.op.startswith("apply") for n in self.graph.needed([y])):
            return None
        if not value.axes and not variable.axes and (value.type.rank, variable.type.rank) != (1, 1):
            return None
        like = value if turned else variable
        if v.axes != like.axes or v.type.shape != like.type.shape:
            return None
        if turned and like.axes:
            return ev.not_lowered("the transpose of a Jacobian of fields", span)
        if turned:
            (back,) = pullback(self.graph, y, self.node(v), [x], parts=parts)
            found = back if back is not None else self.add("const", [], span, type=x.type, value=0.0)
        else:
            found = jvp(self.graph, y, [x], [self.node(v)], parts)
        self.adopt()
        assert isinstance(found.type, Tensor)
        whole = Value(found.type, found)
        axes = variable.axes if turned else value.axes
        return split(whole, axes) if axes else whole

    def along_solution(self, elaboration: Any, value: Value) -> Any:
        """d y/dt along the solution: partial derivative by t, and by each state times its rate."""
        from ndl.compiler.ir.autodiff import jacobian

        ev = elaboration.ev
        span = self.node(value).span
        total: Any = None
        t = elaboration.lookup("t", 0)
        # a rate is looked up only where it is needed: it may itself read another such derivative
        moving: list[tuple[Any, Callable[[], Any]]] = [(t, lambda: 1.0)]
        for frame in elaboration.frames():
            for name in frame.parts.rates:
                for k in range(max(frame.parts.order(name), 1)):
                    moving.append((frame.lookup(name, k), partial(frame.lookup, name, k + 1)))
        for variable, rate in moving:
            y, x = self.node(value), self.node(variable)
            if x.id not in {n.id for n in self.graph.needed([y])}:
                continue
            node = jacobian(self.graph, y, x, self.weights.parts)
            self.adopt()
            assert isinstance(node.type, Tensor)
            part: Any = Value(node.type, node)
            rate_value = ev.value(rate(), span)
            if variable.type.rank:
                letters = "abcdefgh"[: value.type.rank], "ijklmn"[: variable.type.rank]
                equation = f"{letters[0]}{letters[1]},{letters[1]}->{letters[0]}"
                part = ev.op("einsum", [part, rate_value], span, equation=equation)
            else:
                part = ev.binary("*", part, rate_value, span)
            total = part if total is None else ev.binary("+", total, part, span)
        return 0.0 if total is None else total

    def adopt(self) -> None:
        """Take over the nodes that another module added to this graph."""
        for node in self.graph:
            self.own.setdefault(id(node), node)

    # ------------------------------------------------------------ roots

    def root(self, ev: Evaluator, function: Any, start: Any, span: Span) -> Any:
        """`root(z -> F(z), z0)` as a region with its own graph."""
        guess = ev.value(start, span)
        if isinstance(guess, Unknown):
            return UNKNOWN
        if not isinstance(function, Closure):
            return ev.error("NDL347", "`root` wants a function: `root(z -> F(z), z0)`", span)
        inner = GraphBuilder(Graph(), self.weights, self)
        unknown = inner.add("input", [], span, type=guess.type, name="z")
        sub = Evaluator(inner, ev.sink, strict=True)
        sub.context, sub.file_values = ev.context, ev.file_values
        result = sub.value(sub.apply(function, [Value(guess.type, unknown)], span), span)
        if isinstance(result, Unknown):
            return UNKNOWN
        captured = list(inner.captured.values())
        body = Function(
            "residual", inner.graph, (unknown, *(n for _, n in captured)), (("residual", inner.node(result)),)
        )
        nodes = [self.node(guess), *(self.node(v) for v, _ in captured)]
        node = self.add("root", nodes, span, type=guess.type, function=body)
        return Value(guess.type, node)

    # ------------------------------------------------------------ the rest

    def attribute(self, ev: Evaluator, value: Any, name: str, span: Span) -> Any:
        return ev.error("NDL207", f"`{name}` cannot be read inside a compiled formula", span)


def extern_function(ev: Evaluator, net: NetV, span: Span, doc: str = EXTERN) -> Function:
    """A net that comes from Python, or a formula that is to be found: its signature without a body."""
    from ndl.compiler.types import Map

    if not isinstance(net.signature, Map) or not isinstance(net.signature.result, Tensor):
        raise fail("NDL348", f"`extern net {net.name}` needs a signature of tensors", span)
    graph = Graph()
    inputs = tuple(
        graph.add("input", type=p, name=f"x{i}" if i else "x") for i, p in enumerate(net.signature.params)
    )
    out = graph.add("const", type=net.signature.result, value=0.0)
    return Function(net.name, graph, inputs, (("result", out),), doc=doc)


__all__ = ["GraphBuilder", "constant_of"]
