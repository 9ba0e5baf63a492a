"""Sources: what a graph reads. Their values come from the interpreter's surroundings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import NEGATIVE, Text
from ndl.compiler.types import Dim, Tensor, Type

KINDS = ("Bool", "Z", "R", "C")


def constant_kind(value: Any) -> str:
    """The narrowest kind that holds a number or nested tuples of numbers."""
    if isinstance(value, tuple):
        return KINDS[max([1, *(KINDS.index(constant_kind(v)) for v in value)])] if value else "R"
    if isinstance(value, bool):
        return "Bool"
    if isinstance(value, int):
        return "Z"
    return "C" if isinstance(value, complex) else "R"


def constant_shape(value: Any) -> tuple[int, ...]:
    """The extents of nested tuples; raises when they are ragged."""
    if not isinstance(value, tuple):
        return ()
    shapes = {constant_shape(v) for v in value}
    if len(shapes) > 1:
        raise TypeRuleError("the rows of an array differ in shape")
    return (len(value), *(shapes.pop() if shapes else ()))


def all_bool(value: Any) -> bool:
    return all(map(all_bool, value)) if isinstance(value, tuple) else isinstance(value, bool)


def _constant_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    value = attributes["value"]
    kind = "Bool" if isinstance(value, tuple) and value and all_bool(value) else constant_kind(value)
    return Tensor(kind, tuple(Dim.of(n) for n in constant_shape(value)))


def _constant_reference(value: Any) -> Any:
    import torch

    dtypes = {"R": torch.float64, "C": torch.complex128, "Z": torch.int64, "Bool": torch.bool}
    kind = _constant_rule((), {"value": value})
    assert isinstance(kind, Tensor)
    return torch.tensor(value, dtype=dtypes[kind.kind])


def constant_text(value: Any) -> str:
    """A number as Python text; arrays are stored in buffers by the module printer."""
    if isinstance(value, tuple):
        return "[" + ", ".join(constant_text(v) for v in value) + "]"
    if isinstance(value, float) and value != value:
        return "math.nan"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "math.inf" if value > 0 else Text("-math.inf", NEGATIVE)
    if not isinstance(value, complex) and repr(value).startswith("-"):
        return Text(repr(value), NEGATIVE)
    return repr(value)


def _constant_sympy(value: Any) -> Any:
    import sympy

    if isinstance(value, bool):
        return sympy.true if value else sympy.false
    if isinstance(value, int):
        return sympy.Integer(value)
    if isinstance(value, complex):
        return sympy.Float(value.real) + sympy.I * sympy.Float(value.imag)
    return sympy.Float(value)


def _declared(name: str) -> Callable[[Sequence[Type], Attributes], Type]:
    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        raise TypeRuleError(f"the type of `{attributes.get('name', name)}` must be given")

    return rule


def _outside(*operands: Any, **attributes: Any) -> Any:
    raise LookupError("a source is read from its surroundings, by the interpreter")


register(
    Op(
        "const",
        _constant_rule,
        _constant_reference,
        lambda texts, types, a: constant_text(a["value"]),
        vjp=lambda graph, node, operands, g: [],
        sympy=_constant_sympy,
    )
)
register(
    Op(
        "input",
        _declared("input"),
        _outside,
        lambda texts, types, a: str(a["name"]),
        vjp=lambda graph, node, operands, g: [],
    )
)
register(
    Op(
        "param",
        _declared("param"),
        _outside,
        lambda texts, types, a: f"self.{a['name']}",
        vjp=lambda graph, node, operands, g: [],
    )
)


register(
    Op(
        "training",
        lambda types, a: Tensor("Bool"),
        lambda: _constant_reference(False),
        lambda texts, types, a: "ops.training(self)",
        vjp=lambda graph, node, operands, g: [],
    )
)


def _path_vjp(graph: Any, node: Any, operands: Any, g: Any) -> list[Any]:
    """Along t: the next derivative of the path, contracted with the cotangent."""
    from ndl.compiler.ops.adjoint import shape

    slope = graph.add(
        "path", operands, type=node.type, name=node.attr("name"), order=node.attr("order", 0) + 1
    )
    product = graph.add("mul", [g, slope], type=Tensor("R", shape(node)))
    return [graph.add("sum", [product], axes=tuple(range(len(shape(node))))) if shape(node) else product]


register(
    Op(
        "path",
        _declared("path"),
        _outside,
        lambda texts, types, a: (
            f"self.path_value({json.dumps(a['name'], ensure_ascii=False)}, {texts[0]}, {a.get('order', 0)})"
        ),
        vjp=_path_vjp,
    )
)
