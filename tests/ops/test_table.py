"""Every op of the table in every use: reference, batched text, derivatives, sympy image, IR text."""

from __future__ import annotations

import math

import pytest
import torch
from cases import CASES, KINDS, OUTSIDE, Case
from ndl.compiler.ir.autodiff import jvp, pullback
from ndl.compiler.ir.graph import Function, Graph
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.ir.reader import parse_function
from ndl.compiler.ir.text import print_function
from ndl.compiler.ir.verify import verify
from ndl.compiler.ops.table import TABLE, lookup
from ndl.compiler.types import Tensor as TensorType
from ndl.compiler.types import tensor
from ndl.runtime import ops
from torch import Tensor

lookup("const")
BATCH = 4


def samples(case: Case, seed: int = 1) -> list[list[Tensor]]:
    """BATCH operand lists."""
    g = torch.Generator().manual_seed(seed)
    return [[make(g) for make in case.operands] for _ in range(BATCH)]


def type_of(x: Tensor) -> TensorType:
    return tensor(*x.shape, kind=KINDS[x.dtype])


def build(case: Case) -> Function:
    """A function that is this op alone."""
    graph = Graph()
    g = torch.Generator().manual_seed(0)
    inputs = tuple(
        graph.add("input", type=type_of(make(g)), name=f"x{i}") for i, make in enumerate(case.operands)
    )
    return Function(case.op, graph, inputs, (("y", graph.add(case.op, inputs, **case.attrs)),))


def evaluate(case: Case, function: Function, operands: list[Tensor]) -> Tensor:
    """The op's printed text on given tensors."""
    names = [f"x{i}" for i in range(len(operands))]
    text = TABLE[case.op].torch(names, [n.type for n in function.inputs], case.attrs)
    space = {"torch": torch, "ops": ops, "math": math, **dict(zip(names, operands))}
    result = eval(text, space)
    return result if isinstance(result, Tensor) else torch.tensor(result)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-11) -> None:
    assert a.shape == b.shape
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, check_dtype=False, equal_nan=True)


def test_every_op_has_a_case() -> None:
    assert set(TABLE) == {c.op for c in CASES} | OUTSIDE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule_and_reference_agree(case: Case) -> None:
    function = build(case)
    verify(function)
    y = interpret(function, {f"x{i}": x for i, x in enumerate(samples(case)[0])})["y"]
    said = function.outputs[0][1].type
    assert isinstance(said, TensorType)
    assert tuple(y.shape) == said.extents
    assert KINDS[y.dtype] == said.kind


@pytest.mark.parametrize("case", [c for c in CASES if c.op != "const"], ids=str)
def test_text_is_the_reference_mapped_over_a_batch(case: Case) -> None:
    function, rows = build(case), samples(case)
    if not case.operands:
        close(evaluate(case, function, []), TABLE[case.op].reference(**case.attrs))
        return
    wanted = torch.stack([TABLE[case.op].reference(*row, **case.attrs) for row in rows])
    whole = [torch.stack(column) for column in zip(*rows)]
    close(evaluate(case, function, whole), wanted)
    close(evaluate(case, function, [x.reshape(2, 2, *x.shape[1:]) for x in whole]).flatten(0, 1), wanted)
    close(evaluate(case, function, rows[0]), wanted[0])


@pytest.mark.parametrize("case", [c for c in CASES if len(c.operands) > 1], ids=str)
def test_an_operand_without_a_batch_is_shared(case: Case) -> None:
    function, rows = build(case), samples(case)
    for alone in range(len(case.operands)):
        mixed = [
            rows[0][i] if i == alone else torch.stack([row[i] for row in rows])
            for i in range(len(case.operands))
        ]
        wanted = torch.stack(
            [
                TABLE[case.op].reference(
                    *(rows[0][i] if i == alone else row[i] for i in range(len(row))), **case.attrs
                )
                for row in rows
            ]
        )
        close(evaluate(case, function, mixed), wanted)


def smooth(case: Case) -> bool:
    g = torch.Generator().manual_seed(0)
    kinds = {KINDS[make(g).dtype] for make in case.operands}
    return TABLE[case.op].vjp is not None and bool(kinds & {"R", "C"})


def inner(a: Tensor, b: Tensor) -> float:
    """The real inner product, of complex numbers as pairs."""
    return float((a.conj() * b).real.sum() if a.is_complex() or b.is_complex() else (a * b).sum())


@pytest.mark.parametrize("case", [c for c in CASES if smooth(c)], ids=str)
def test_vjp_is_the_difference_quotient(case: Case) -> None:
    """<g, f(x + e v) - f(x - e v)> / 2e against <vjp(g), v>, in random directions."""
    function = build(case)
    output = function.outputs[0][1]
    said = output.type
    assert isinstance(said, TensorType)
    if case.op == "stop_gradient" or said.kind in ("Z", "Bool"):
        return
    graph = function.graph
    g = graph.add("input", type=TensorType(said.kind, said.shape), name="g")
    found = pullback(graph, output, g, function.inputs)
    whole = Function(
        "vjp", graph, (*function.inputs, g), tuple((f"c{i}", c) for i, c in enumerate(found) if c)
    )
    verify(whole)
    x = samples(case)[0]
    random = torch.Generator().manual_seed(5)
    reference = TABLE[case.op].reference
    weight = torch.randn(said.extents, generator=random, dtype=reference(*x, **case.attrs).dtype)
    values = {f"x{i}": v for i, v in enumerate(x)} | {"g": weight}
    cotangents = interpret(whole, values)
    for i, operand in enumerate(x):
        if operand.dtype not in (torch.float64, torch.complex128):
            assert found[i] is None
            continue
        v = torch.randn(operand.shape, generator=random, dtype=operand.dtype)
        v = (v + v.mT) / 2 if case.symmetric and v.ndim else v
        e = 1e-6
        ahead, behind = ([*x[:i], operand + s * e * v, *x[i + 1 :]] for s in (1, -1))
        quotient = (reference(*ahead, **case.attrs) - reference(*behind, **case.attrs)) / (2 * e)
        wanted = inner(weight, quotient)
        got = inner(cotangents[f"c{i}"], v) if found[i] is not None else 0.0
        assert got == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("case", [c for c in CASES if smooth(c)], ids=str)
def test_forward_and_backward_derivatives_are_adjoint(case: Case) -> None:
    """<g, J v> = <J^T g, v>."""
    function = build(case)
    graph, output = function.graph, function.outputs[0][1]
    said = output.type
    assert isinstance(said, TensorType)
    if case.op == "stop_gradient" or said.kind != "R" or any(n.type.kind == "C" for n in function.inputs):  # type: ignore[attr-defined]
        return
    wrt = [n for n in function.inputs if isinstance(n.type, TensorType) and n.type.kind == "R"]
    g = graph.add("input", type=TensorType("R", said.shape), name="g")
    v = [graph.add("input", type=n.type, name=f"v{n.attr('name')}") for n in wrt]
    found = pullback(graph, output, g, wrt)
    forward = jvp(graph, output, wrt, v)
    outputs = [("forward", forward), *((f"c{i}", c) for i, c in enumerate(found) if c is not None)]
    whole = Function("both", graph, (*function.inputs, g, *v), tuple(outputs))
    verify(whole)
    random = torch.Generator().manual_seed(6)
    values = {f"x{i}": x for i, x in enumerate(samples(case)[0])}
    values["g"] = torch.randn(said.extents, generator=random, dtype=torch.float64)
    for n in wrt:
        shape = values[n.attr("name")].shape
        values[f"v{n.attr('name')}"] = torch.randn(shape, generator=random, dtype=torch.float64)
    result = interpret(whole, values)
    left = inner(values["g"], result["forward"])
    right = sum(
        inner(result[f"c{i}"], values[f"v{n.attr('name')}"])
        for i, n in enumerate(wrt)
        if found[i] is not None
    )
    assert left == pytest.approx(right, rel=1e-9, abs=1e-9)


def scalar_cases() -> list[Case]:
    g = torch.Generator().manual_seed(0)
    return [
        c
        for c in CASES
        if TABLE[c.op].sympy is not None
        and all(make(g).ndim == 0 for make in c.operands)
        and not isinstance(c.attrs.get("value"), tuple)
    ]


@pytest.mark.parametrize("case", scalar_cases(), ids=str)
def test_sympy_image(case: Case) -> None:
    import sympy

    image = TABLE[case.op].sympy
    assert image is not None
    for row in samples(case):
        values = [
            sympy.true if x.item() is True else sympy.false if x.item() is False else sympy.sympify(x.item())
            for x in row
        ]
        found = image(*values, **case.attrs)
        wanted = TABLE[case.op].reference(*row, **case.attrs).item()
        if isinstance(wanted, bool):
            assert bool(found) == wanted
        else:
            assert complex(sympy.N(found, 20)) == pytest.approx(wanted, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_text_round_trip(case: Case) -> None:
    function = build(case)
    text = print_function(function)
    again = parse_function(text)
    assert print_function(again) == text
    assert list(again.graph) == list(function.graph)
    assert [type(v) for n in again.graph for _, v in n.attrs] == [
        type(v) for n in function.graph for _, v in n.attrs
    ]


def test_integers_divide_to_reals_in_double_precision() -> None:
    one, three = torch.tensor(1), torch.tensor(3)
    assert TABLE["div"].reference(one, three).dtype == torch.float64
    assert lookup("div").rule([tensor(kind="Z"), tensor(kind="Z")], {}) == tensor()
