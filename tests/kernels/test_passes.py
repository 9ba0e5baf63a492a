"""The passes over kernels, before and after as text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ndl.compiler.kernels import math as kernel_math
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.interpret import run
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.passes import hoist, remove_dead, simplify
from ndl.compiler.kernels.text import show
from ndl.compiler.kernels.verify import verify
from samples import everywhere

Step = Callable[[Code, Value, Value], Value]


def kernel(step: Step) -> Kernel:
    """A kernel with a parameter k and a state x, whose step gives the next x from x and k."""
    code = Code("f64")
    code.buffer("k", "table", "in")
    code.buffer("x", "member", "in")
    code.buffer("y", "member", "out")
    with code.block(shared=True) as entry:
        k = code.load("k", 0)
    with code.block() as begin:
        begin.yields = (code.load("x", 0),)
    with code.block(["real"]) as turn:
        x = step(code, turn.params[0], k)
        turn.yields = (x, code.op("isfinite", x))
    with code.block(["real"]) as finish:
        code.store("y", 0, finish.params[0])
    return verify(code.kernel("sample", entry, begin, turn, finish, carried=("x",)))


def blocks(kernel: Kernel) -> str:
    """The text of entry and step."""
    text = show(kernel)
    entry, begin, step = (text.index(f"\n{name}") for name in ("entry:", "begin:", "step("))
    return text[entry:begin] + text[step : text.index("\nfinish(")]


def test_what_is_not_used_goes() -> None:
    def step(code: Code, x: Value, k: Value) -> Value:
        code.op("sin", code.op("mul", x, k))
        small = code.op("lt", x, k)
        code.loop([x], lambda given: code.op("lt", given[0], 2.0), lambda given: [code.op("exp", given[0])])
        code.when(small, lambda: [code.op("cos", x)], [x])
        return code.op("add", x, k)

    assert (
        blocks(remove_dead(kernel(step)))
        == """
entry:
    %0: i32 = const 0
    %1: real = load k, %0
step(%3: real):
    %15: real = add %3, %1
    %16: bool = isfinite %15
    yield %15, %16"""
    )


def test_what_stores_stays_and_what_it_needs() -> None:
    def step(code: Code, x: Value, k: Value) -> Value:
        def store() -> tuple[Value, ...]:
            code.op("cos", x)
            code.store("y", 0, code.op("sin", k))
            return ()

        code.when(code.op("lt", x, k), store)
        return x

    assert (
        blocks(remove_dead(kernel(step)))
        == """
entry:
    %0: i32 = const 0
    %1: real = load k, %0
step(%3: real):
    %4: bool = lt %3, %1
    when %4
    then:
        %6: real = sin %1
        store y, %0, %6
    %7: bool = isfinite %3
    yield %3, %7"""
    )


def test_what_all_trajectories_share_leaves_the_step_once() -> None:
    def step(code: Code, x: Value, k: Value) -> Value:
        small = code.op("lt", x, k)
        first = code.when(small, lambda: [code.op("mul", code.op("exp", k), x)], [x])
        return code.when(small, lambda: [code.op("add", code.op("exp", k), x)], first)[0]

    assert (
        blocks(hoist(kernel(step)))
        == """
entry:
    %0: i32 = const 0
    %1: real = load k, %0
    %5: real = exp %1
step(%3: real):
    %4: bool = lt %3, %1
    %7: real = when %4, %3
    then:
        %6: real = mul %5, %3
        yield %6
    %10: real = when %4, %7
    then:
        %9: real = add %5, %3
        yield %9
    %11: bool = isfinite %10
    yield %10, %11"""
    )


def test_what_a_loop_does_not_change_leaves_it_for_the_step() -> None:
    def step(code: Code, x: Value, k: Value) -> Value:
        def turn(given: tuple[Value, ...]) -> list[Value]:
            return [code.op("fma", given[0], code.op("sin", x), code.op("sin", k))]

        return code.loop([x], lambda given: code.op("lt", given[0], code.op("cos", x)), turn)[0]

    assert (
        blocks(hoist(kernel(step)))
        == """
entry:
    %0: i32 = const 0
    %1: real = load k, %0
    %9: real = sin %1
step(%3: real):
    %5: real = cos %3
    %8: real = sin %3
    %11: real = while %3
    test(%4: real):
        %6: bool = lt %4, %5
        yield %6
    do(%7: real):
        %10: real = fma %7, %8, %9
        yield %10
    %12: bool = isfinite %11
    yield %11, %12"""
    )


def test_what_is_a_trajectory_s_own_stays_in_the_step() -> None:
    """A row that is computed is not read unless the region round it is entered."""

    def step(code: Code, x: Value, k: Value) -> Value:
        row = code.op("to_i32", k)

        def inside() -> list[Value]:
            return [code.op("add", code.load("x", 1), code.load("k", row))]

        return code.when(code.op("lt", x, k), inside, [x])[0]

    assert (
        blocks(hoist(kernel(step)))
        == """
entry:
    %0: i32 = const 0
    %1: real = load k, %0
    %4: i32 = to_i32 %1
    %6: i32 = const 1
step(%3: real):
    %5: bool = lt %3, %1
    %10: real = when %5, %3
    then:
        %7: real = load x, %6
        %8: real = load k, %4
        %9: real = add %7, %8
        yield %9
    %11: bool = isfinite %10
    yield %10, %11"""
    )


def test_out_of_nested_loops() -> None:
    def step(code: Code, x: Value, k: Value) -> Value:
        def below(bound: Value) -> Callable[[tuple[Value, ...]], Value]:
            return lambda given: code.op("lt", given[0], bound)

        def outer(given: tuple[Value, ...]) -> list[Value]:
            y = given[0]

            def inner(given: tuple[Value, ...]) -> list[Value]:
                return [code.op("fma", given[0], code.op("exp", k), code.op("mul", code.op("sin", x), y))]

            return list(code.loop([y], below(y), inner))

        return code.loop([x], below(k), outer)[0]

    assert (
        blocks(hoist(kernel(step)))
        == """
entry:
    %0: i32 = const 0
    %1: real = load k, %0
    %10: real = exp %1
step(%3: real):
    %11: real = sin %3
    %15: real = while %3
    test(%4: real):
        %5: bool = lt %4, %1
        yield %5
    do(%6: real):
        %12: real = mul %11, %6
        %14: real = while %6
        test(%7: real):
            %8: bool = lt %7, %6
            yield %8
        do(%9: real):
            %13: real = fma %9, %10, %12
            yield %13
        yield %14
    %16: bool = isfinite %15
    yield %15, %16"""
    )


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_nothing_computed_changes(precision: str) -> None:
    made = kernel_math.expand(everywhere(precision))
    x = np.linspace(-2, 2, 5, dtype=np.float64 if precision == "f64" else np.float32)
    found = []
    for k in (made, remove_dead(made), hoist(made), simplify(made)):
        y = np.zeros_like(x)
        run(k, {"x": x, "y": y}, len(x))
        found.append(y)
    for y in found[1:]:
        np.testing.assert_array_equal(y, found[0])
