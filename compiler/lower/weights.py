"""The weights of a function being lowered: its parameters and the parts that it calls."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import DistV, Unknown, is_number
from ndl.compiler.ir.graph import Function, ParamSpec
from ndl.compiler.ir.model import DrawSpec
from ndl.compiler.lower.builder import GraphBuilder, constant_of
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor


class Weights:
    """Parameters by name, parts by the place that constructs them."""

    def __init__(self) -> None:
        self.params: dict[str, ParamSpec] = {}
        self.parts: dict[str, Function] = {}
        self.places: dict[Any, str] = {}
        self.draws: dict[str, DrawSpec] = {}
        self.placed: dict[str, list[tuple[Function, Any]]] = {}
        """Of operators of fields, each form by the axes along which they stand (`lower/placed.py`)."""
        self.of_model = False
        self._uses: dict[Any, int] = {}

    def part_name(self, place: Any, hint: str) -> str:
        """One name for each place (and turn of a `for`): `linear`, `linear_2`, …"""
        expr, turns = place
        key = (id(expr), turns)
        if key not in self.places:
            base = hint[:1].lower() + hint[1:] if not hint.isupper() else hint.lower()
            taken = set(self.places.values()) | set(self.params) | set(self.parts)
            name, k = base, 1
            while name in taken:
                k += 1
                name = f"{base}_{k}"
            self.places[key] = name
            self._keep = getattr(self, "_keep", [])
            self._keep.append(expr)  # so that its id is not given to another node
        return self.places[key]

    def use(self, instance: str, where: Any) -> str:
        """A name for one application of a part, the same in all functions of a model."""
        self._uses.setdefault((instance, where), sum(name == instance for name, _ in self._uses))
        number = self._uses[instance, where]
        return instance if not number else f"{instance} {number + 1}"


def law_of(ev: Evaluator, law: Any, type: Tensor, span: Span) -> tuple[str, tuple[float, ...]]:
    """A distribution with numbers: (name, arguments)."""
    if not isinstance(law, DistV):
        ev.error("NDL328", "a distribution is needed here", span)
        return "normal", (0.0, 1.0)
    args: list[float] = []
    for a in law.args:
        found = constant_of(a)
        if isinstance(found, tuple):
            args.extend(float(x) for x in found)
        elif is_number(found):
            args.append(float(found))
        else:
            ev.error("NDL349", f"the arguments of `{law.law}` must be known when compiling", span)
    return law.law, tuple(args)


def _nested(x: Any) -> Any:
    return tuple(_nested(i) for i in x) if isinstance(x, list) else x


def start_of(ev: Evaluator, item: tree.DeclItem, type: Tensor, scope: Scope) -> Any:
    """The starting value of a weight as a number or nested tuples."""
    assert item.value is not None
    return worked_out(ev, ev.eval(item.value, scope, type), item.name, item.value.span)


def worked_out(ev: Evaluator, found: Any, name: str, span: Span) -> Any:
    """The number or array, as nested tuples, at which the weight `name` starts."""
    known = constant_of(found)
    if known is not None:
        return known
    v = ev.value(found, span)
    if isinstance(v, Unknown):
        return 0.0
    if ev.fields is not None:
        v = ev.fields.whole(v, None, span)
    builder = ev.builder
    assert isinstance(builder, GraphBuilder)
    node = builder.node(v)
    nodes = builder.graph.needed([node])
    if any(n.op in ("input", "path", "apply") for n in nodes):
        ev.error("NDL350", f"the start of `{name}` must not depend on data or states", span)
        return 0.0
    from ndl.compiler.ir.interpret import interpret

    params = {n.attr("name"): n for n in nodes if n.op == "param"}
    weights = {}
    if params:
        import torch

        for other in params:
            spec = builder.weights.params[other]
            if spec.init is None:
                ev.error("NDL350", f"the start of `{name}` depends on `{other}`, which is drawn", span)
                return 0.0
            weights[other] = torch.as_tensor(spec.init, dtype=torch.float64).expand(spec.type.extents)
    fn = Function("start", builder.graph, (), (("value", node),), tuple(builder.weights.params.values()))
    return _nested(interpret(fn, {}, weights)["value"].tolist())
