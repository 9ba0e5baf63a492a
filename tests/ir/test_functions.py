"""Functions of the IR: verifier, text, interpreter with parts, paths and callables, inlining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest
import torch
from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function, Graph, ParamSpec
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.ir.reader import parse_function
from ndl.compiler.ir.text import print_function
from ndl.compiler.ir.verify import verify
from ndl.compiler.passes.cse import eliminate_common_subexpressions
from ndl.compiler.passes.dce import eliminate_dead_code
from ndl.compiler.passes.fold import fold
from ndl.compiler.passes.inline import inline
from ndl.compiler.types import SCALAR, Dim, Map, Tensor, tensor


def dense(n: int, m: int) -> Function:
    graph = Graph()
    x = graph.add("input", type=tensor(n), name="x")
    W = graph.add("param", type=tensor(m, n), name="W")
    y = graph.add("matmul", [W, x])
    total = graph.add("sum", [y], axes=(0,))
    params = (ParamSpec("W", tensor(m, n), law=("normal", (0.0, 1.0))),)
    return Function("Dense", graph, (x,), (("y", y), ("total", total)), params)


def stacked() -> Function:
    """Two applications of one part and one of another, which has a part of its own."""
    inner = Graph()
    u = inner.add("input", type=tensor(3), name="u")
    v = inner.add("call", [u], type=tensor(2), instance="deep", index=0)
    middle = Function("Middle", inner, (u,), (("v", v),), parts={"deep": dense(3, 2)})
    graph = Graph()
    x = graph.add("input", type=tensor(2), name="x")
    k = graph.add("param", type=SCALAR, name="k")
    a = graph.add("call", [x], type=tensor(3), instance="first", index=0)
    b = graph.add("call", [x], type=SCALAR, instance="first", index=1)
    c = graph.add("call", [a], type=tensor(2), instance="second", index=0)
    wide = graph.add("expand", [graph.add("mul", [k, b])], shape=(2,), axes=())
    return Function(
        "Stacked",
        graph,
        (x,),
        (("out", graph.add("add", [c, wide])),),
        (ParamSpec("k", SCALAR, init=2.0, lower=0.0),),
        {"first": dense(2, 3), "second": middle},
        'says "hello"\nand more',
    )


WEIGHTS: dict[str, Any] = {
    "k": torch.tensor(0.5),
    "first": {"W": torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]])},
    "second": {"deep": {"W": torch.tensor([[1.0, 0.0, 2.0], [0.5, -1.0, 0.0]])}},
}
DOTTED = {
    "k": WEIGHTS["k"],
    "first.W": WEIGHTS["first"]["W"],
    "second.deep.W": WEIGHTS["second"]["deep"]["W"],
}  # type: ignore[index]
X = torch.tensor([1.0, -2.0], dtype=torch.float64)


def test_interpreter_calls_parts() -> None:
    W, V = (DOTTED[n].double() for n in ("first.W", "second.deep.W"))
    wanted = V @ (W @ X) + 0.5 * (W @ X).sum()
    for weights in (WEIGHTS, DOTTED):
        torch.testing.assert_close(interpret(stacked(), {"x": X}, weights)["out"], wanted)


def test_inlining_keeps_the_value_and_names_the_weights() -> None:
    flat = inline(stacked())
    verify(flat)
    assert not flat.parts
    assert [p.name for p in flat.params] == ["k", "first.W", "second.deep.W"]
    assert all(n.op != "call" for n in flat.graph)
    assert sum(n.op == "matmul" for n in flat.graph) == 2
    torch.testing.assert_close(interpret(flat, {"x": X}, DOTTED), interpret(stacked(), {"x": X}, WEIGHTS))


def test_text_round_trips_parts_docs_and_bounds() -> None:
    function = stacked()
    text = print_function(function)
    again = parse_function(text)
    assert print_function(again) == text
    assert again.doc == function.doc
    assert again.params == function.params
    assert list(again.parts) == list(function.parts)
    torch.testing.assert_close(interpret(again, {"x": X}, WEIGHTS), interpret(function, {"x": X}, WEIGHTS))


def test_text_round_trips_every_kind_of_attribute_and_type() -> None:
    n = Dim.of("n") * 2 + 1
    metre = Tensor("R", (n, Dim.of("(n//2)")), "Omega", (("m", Fraction(1, 2)), ("s", Fraction(-2))))
    graph = Graph()
    x = graph.add("input", type=metre, name='strange "name"', hint="θ'")
    f = graph.add("input", type=Map((SCALAR, tensor(2)), tensor(3, kind="C")), name="f")
    values = (
        1,
        -2.5,
        True,
        None,
        inf,
        -inf,
        1e-300,
        -0.0,
        "a%b",
        (),
        (1,),
        2 - 3j,
        n,
        ((1.0, 2.0), (3.0, 4.0)),
    )
    c = graph.add("const", type=SCALAR, value=values)
    again = parse_function(print_function(Function("f", graph, (x, f), (("c", c),))))
    assert list(again.graph) == list(graph)
    assert again.graph[0].hint == "θ'"
    assert repr(again.graph[2].attr("value")) == repr(values)
    undefined = graph.add("const", type=SCALAR, value=nan)
    text = print_function(Function("f", graph, (), (("u", undefined),)))
    assert repr(parse_function(text).graph[3].attr("value")) == "nan"


def test_text_round_trips_regions() -> None:
    function = square_root()
    text = print_function(function)
    assert print_function(parse_function(text)) == text
    four = {"a": torch.tensor(4.0)}
    assert interpret(parse_function(text), four)["z"].item() == pytest.approx(2.0)


def square_root() -> Function:
    """z with z*z = a, near 1."""
    inner = Graph()
    z = inner.add("input", type=SCALAR, name="z")
    a = inner.add("input", type=SCALAR, name="a")
    residual = inner.add("sub", [inner.add("mul", [z, z]), a])
    region = Function("residual", inner, (z, a), (("r", residual),))
    graph = Graph()
    given = graph.add("input", type=SCALAR, name="a")
    guess = graph.add("const", value=1.0)
    root = graph.add("root", [guess, given], function=region)
    return Function("sqrt", graph, (given,), (("z", root),))


def test_wrong_text_is_refused_with_its_line() -> None:
    with pytest.raises(InternalError, match="nonsense"):
        parse_function('function "f"\n  nonsense here\n')
    with pytest.raises(InternalError, match="%1"):
        parse_function('function "f"\n  %1 = const(value=1): R\n')


def test_paths_and_callables() -> None:
    graph = Graph()
    t = graph.add("input", type=SCALAR, name="t")
    x = graph.add("input", type=tensor(2), name="x")
    slope = graph.add("path", [t], type=SCALAR, name="u", order=1)
    fx = graph.add("apply", [x, t], type=tensor(2), callee="f")
    J = graph.add("apply_jac", [x, t], type=tensor(2, 2), callee="f", wrt=0)
    step = Function("step", graph, (t, x), (("slope", slope), ("f", fx), ("J", J)))

    def path(s: Any, order: int) -> Any:
        return torch.sin(s) if order == 0 else torch.cos(s)

    given = {"t": torch.tensor(0.3), "x": X}
    result = interpret(step, given, {}, {"u": path}, {"f": lambda y, s: y**2 * s})
    assert result["slope"].item() == pytest.approx(torch.cos(torch.tensor(0.3).double()).item())
    torch.testing.assert_close(result["J"], torch.diag(2 * X * result["f"][0] / X[0] ** 2))


BROKEN: list[tuple[str, Callable[[], Function]]] = []


def broken(message: str) -> Callable[[Callable[[], Function]], Callable[[], Function]]:
    def enter(make: Callable[[], Function]) -> Callable[[], Function]:
        BROKEN.append((message, make))
        return make

    return enter


@broken("says R")
def _() -> Function:
    graph = Graph()
    x = graph.add("input", type=tensor(2), name="x")
    return Function("f", graph, (x,), (("y", graph.add("neg", [x], type=SCALAR)),))


@broken("shapes differ in an addition")
def _() -> Function:
    graph = Graph()
    x, y = (graph.add("input", type=tensor(n), name=f"x{n}") for n in (2, 3))
    return Function("f", graph, (x, y), (("y", graph.add("add", [x, y], type=tensor(2))),))


@broken("unknown op `wave`")
def _() -> Function:
    graph = Graph()
    return Function("f", graph, (), (("y", graph.add("wave", [], type=SCALAR)),))


@broken("is not a node of its graph")
def _() -> Function:
    return replace(stacked(), inputs=dense(4, 4).inputs)


@broken("two inputs are called `x`")
def _() -> Function:
    graph = Graph()
    x, y = (graph.add("input", type=SCALAR, name="x") for _ in range(2))
    return Function("f", graph, (x, y), (("y", x),))


@broken("which is not one of its parts")
def _() -> Function:
    return replace(stacked(), parts={"first": dense(2, 3)})


@broken("gives `Dense`")
def _() -> Function:
    return replace(stacked(), parts={**stacked().parts, "first": dense(4, 3)})


@broken("`k` starts at a value or is drawn")
def _() -> Function:
    return replace(stacked(), params=(ParamSpec("k", SCALAR),))


@pytest.mark.parametrize("message, make", BROKEN, ids=[m for m, _ in BROKEN])
def test_the_verifier_refuses(message: str, make: Callable[[], Function]) -> None:
    with pytest.raises(InternalError, match=message):
        verify(make())


def test_the_verifier_accepts() -> None:
    verify(stacked())
    verify(square_root())


def test_passes_before_and_after() -> None:
    before = parse_function(
        """function "f"
  %0 = input(name="x"): R
  %1 = input(name="unused"): R
  %2 = sin(%0): R
  %3 = sin(%0): R
  %4 = const(value=2.0): R
  %5 = const(value=3.0): R
  %6 = mul(%4, %5): R
  %7 = mul(%2, %3): R
  %8 = cos(%7): R
  %9 = mul(%6, %7): R
  inputs %0, %1
  return "y" = %9
"""
    )
    after = """function "f"
  %0 = input(name="x"): R
  %1 = input(name="unused"): R
  %2 = sin(%0): R
  %3 = const(value=6.0): R
  %4 = mul(%2, %2): R
  %5 = mul(%3, %4): R
  inputs %0, %1
  return "y" = %5
"""
    result = eliminate_dead_code(fold(eliminate_common_subexpressions(before)))
    assert print_function(result) == after
