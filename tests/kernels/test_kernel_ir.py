"""The kernel IR: what the builder simplifies, what the verifier refuses, how kernels read."""

from __future__ import annotations

import numpy as np
import pytest
from hand import buffers, rotation
from ndl.compiler.kernels import interpret
from ndl.compiler.kernels.code import Code, number_of
from ndl.compiler.kernels.ir import Instr, KernelError
from ndl.compiler.kernels.text import show
from ndl.compiler.kernels.verify import verify


def test_interpreter_follows_each_trajectory_for_its_own_steps() -> None:
    """Against the same recurrence in plain Python."""
    given = buffers(7)
    interpret.run(rotation(), given, 7)
    x0, steps = buffers(7)["x0"], given["steps"]
    for m in range(7):
        x, y = x0[m], x0[7 + m]
        for _ in range(steps[m]):
            x = x + 0.1 * y
            y = y - 0.1 * x
            while x > 2:
                x = x / 2
            if abs(x) < 0.01:
                x = 2 * x
        assert given["last"][m] == pytest.approx(x, rel=1e-12)
        assert given["last"][7 + m] == pytest.approx(y, rel=1e-12)


def test_text_names_equations_once() -> None:
    text = show(rotation())
    assert text.count("# x' = y") == 1 and text.count("# y' = -x") == 1
    assert (
        "while" in text and "when" in text and text.startswith("kernel rotation(f64) carries x, y, n, many")
    )


def test_what_is_written_twice_is_one_value() -> None:
    code = Code("f64")
    with code.block(["real", "real"]) as block:
        a, b = block.params
        assert code.op("mul", a, b) == code.op("mul", a, b)
        assert len(block.body) == 1


@pytest.mark.parametrize(
    ("op", "arguments", "same"),
    [
        ("add", ("a", 0.0), "a"), ("mul", ("a", 1.0), "a"), ("mul", (1.0, "a"), "a"),
        ("sub", ("a", 0.0), "a"),
        ("div", ("a", 1.0), "a"), ("pow", ("a", 1.0), "a"), ("fma", ("a", 0.0, "b"), "b"),
    ],
)  # fmt: skip
def test_identities(op: str, arguments: tuple, same: str) -> None:
    code = Code("f64")
    with code.block(["real", "real"]) as block:
        names = dict(zip("ab", block.params))
        assert code.op(op, *(names.get(a, a) for a in arguments)) == names[same]


def test_constants_are_folded_in_the_kernels_precision() -> None:
    code = Code("f32")
    with code.block() as block:
        found = code.op("mul", code.const(0.1), code.const(3.0))
        assert code.number(found) == float(np.float32(0.1) * np.float32(3.0))
        assert all(i.op == "const" for i in block.body)


@pytest.mark.parametrize("power", [2.0, 3.0, -1.0, 0.5, 1.5, -2.0])
def test_small_powers_are_products(power: float) -> None:
    code = Code("f64")
    with code.block(["real"]) as block:
        found = code.op("pow", block.params[0], power)
        assert all(i.op != "pow" for i in block.body)
    env = {block.params[0]: np.float64(1.7)}
    for i in block.body:
        args = [env[a] for a in i.args]
        from ndl.compiler.kernels.ops import TABLE

        env[i.results[0]] = np.float64(number_of(i)) if i.op == "const" else TABLE[i.op].compute(*args)
    assert env[found] == pytest.approx(1.7**power, rel=1e-15)


def test_a_result_that_is_not_finite_is_not_folded_away() -> None:
    code = Code("f64")
    with code.block() as block:
        code.op("div", code.const(1.0), code.const(0.0))
        assert block.body[-1].op == "div"


def test_the_verifier_refuses_a_use_before_its_definition() -> None:
    kernel = rotation()
    kernel.step.body.insert(0, kernel.step.body.pop())
    with pytest.raises(KernelError, match="before it is defined"):
        verify(kernel)


def test_the_verifier_refuses_types_that_do_not_fit() -> None:
    kernel = rotation()
    x, _, n, _ = kernel.step.params
    made = kernel.step.body[0].results[0]
    kernel.step.body[0] = Instr("add", (x, n), (made,))
    with pytest.raises(KernelError, match="takes"):
        verify(kernel)


def test_an_in_buffer_is_not_written() -> None:
    code = Code("f64")
    code.buffer("x0", "member", "in")
    with code.block(["real"]) as block, pytest.raises(KernelError, match="cannot be stored"):
        code.store("x0", 0, block.params[0])
