"""The text form of functions: what `ndl show` prints and tests of passes read. It round-trips.

    function drift
      param k: R > 0.0 = 1.0
      %0 x = input(name="x"): R
      %1 = param(name="k"): R
      %2 = mul(%1, %0): R
      inputs %0
      return "x" = %2

A node's line is `%id hint = op(operands, attributes): type`. Parts and functions in attributes are
printed inside, indented. Spans are not part of the text.
"""

from __future__ import annotations

import json
from typing import Any

from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function, Node, ParamSpec
from ndl.compiler.types import Dim, Map, Tensor, Tuple, Type, unit_text


def print_function(function: Function) -> str:
    """The text of a function and all that belongs to it, ending in a line break."""
    return "\n".join(_lines(function)) + "\n"


def _lines(function: Function) -> list[str]:
    inner: list[str] = []
    if function.doc:
        inner.append(f"doc {quoted(function.doc)}")
    if function.per:
        inner.append(f"per {quoted(function.per)}")
    inner += [_param(p) for p in function.params]
    for name, part in function.parts.items():
        inner.append(f"part {quoted(name)}:")
        inner += [f"  {line}" for line in _lines(part)]
    nested: dict[int, int] = {}
    for node in function.graph:
        for _, value in node.attrs:
            if isinstance(value, Function) and id(value) not in nested:
                nested[id(value)] = len(nested)
                inner.append(f"region @{nested[id(value)]}:")
                inner += [f"  {line}" for line in _lines(value)]
        inner.append(_node(node, nested))
    if function.inputs:
        inner.append("inputs " + ", ".join(f"%{n.id}" for n in function.inputs))
    for name, node in function.outputs:
        inner.append(f"return {quoted(name)} = %{node.id}")
    return [f"function {quoted(function.name)}", *(f"  {line}" for line in inner)]


def _node(node: Node, nested: dict[int, int]) -> str:
    hint = f" {quoted(node.hint)}" if node.hint else ""
    arguments = [f"%{i}" for i in node.inputs]
    arguments += [f"{name}={value_text(value, nested)}" for name, value in node.attrs]
    return f"%{node.id}{hint} = {node.op}({', '.join(arguments)}): {type_text(node.type)}"


def _param(p: ParamSpec) -> str:
    text = f"param {quoted(p.name)}: {type_text(p.type)}"
    if p.lower is not None:
        text += f" lower={value_text(p.lower)}"
    if p.upper is not None:
        text += f" upper={value_text(p.upper)}"
    if not p.trainable:
        text += " fixed=true"
    if p.init is not None:
        text += f" init={value_text(p.init)}"
    if p.law is not None:
        text += f" law={value_text(p.law)}"
    if p.waves:
        text += f" waves={value_text(p.waves)}"
    return text


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def value_text(value: Any, nested: dict[int, int] | None = None) -> str:
    """An attribute: numbers, words, tuples, dimensions, functions (by their number)."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return "nan" if value != value else repr(value)
    if isinstance(value, complex):
        return f"complex({value_text(value.real)}, {value_text(value.imag)})"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(value_text(v, nested) for v in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, Dim):
        return f"dim({dim_text(value)})"
    if isinstance(value, Function) and nested is not None:
        return f"@{nested[id(value)]}"
    raise InternalError(f"an attribute of type {type(value).__name__} has no text", "NDL904")


def dim_text(dim: Dim) -> str:
    """A polynomial with every name quoted: names may hold any characters, as `(n//2)`."""
    if not dim.terms:
        return "0"
    terms = []
    for monomial, factor in dim.terms:
        powers = [quoted(name) + (f"^{power}" if power != 1 else "") for name, power in monomial]
        terms.append("*".join([str(factor), *powers]))
    return " + ".join(terms)


def type_text(type_: Type) -> str:
    if isinstance(type_, Tensor):
        dims = f"[{', '.join(map(dim_text, type_.shape))}]" if type_.shape else ""
        unit = f"{{{unit_text(type_.unit)}}}" if type_.unit is not None else ""
        return f"{type_.kind}{dims}{unit}" + (f" on {quoted(type_.on)}" if type_.on is not None else "")
    if isinstance(type_, Tuple):
        return f"({', '.join(map(type_text, type_.items))})"
    if isinstance(type_, Map):
        return f"map({', '.join(map(type_text, type_.params))} -> {type_text(type_.result)})"
    raise InternalError(f"a type {type_} has no text", "NDL904")
