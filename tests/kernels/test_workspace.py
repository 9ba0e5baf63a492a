"""Values that leave their registers: the kernel interpreter finds the same bits, few registers are left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ndl.compiler.backends.triton import ahead, print_module
from ndl.compiler.backends.triton.lives import Lives
from ndl.compiler.backends.triton.module import printable
from ndl.compiler.backends.triton.spread import varying
from ndl.compiler.backends.triton.workspace import WORK, fitted, rows_of
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.interpret import run
from ndl.compiler.kernels.ir import Block, Kernel
from ndl.compiler.kernels.text import show
from triton_cases import clock, collatz, driven, fibonacci, lorenz, nested

CASES = {
    "collatz": collatz("f64", 5),
    "fibonacci": fibonacci("f32"),
    "nested": nested("f64"),
    "lorenz": lorenz("f32", count=2),
    "a-path-each": driven(True, 3),
    "clock": clock(),
}


@pytest.mark.parametrize("room", [0, 5, 20])
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits(name: str, room: int) -> None:
    case = CASES[name]
    kernel = printable(case.kernel)
    wanted, got = ({k: v.copy() for k, v in case.buffers.items()} for _ in range(2))
    run(kernel, wanted, case.count)
    run(fitted(kernel, 0, room), got, case.count)
    for key in wanted:
        np.testing.assert_array_equal(got[key], wanted[key], err_msg=key)


def pressure(kernel: Kernel, block: Block) -> int:
    wide = 2 if kernel.precision == "f64" else 1
    return int(Lives(block, {v: i for i in kernel.entry.body for v in i.results}, wide).pressure().max())


def test_no_more_registers_than_there_is_room() -> None:
    kernel = printable(lorenz("f64").kernel)
    before, small = pressure(kernel, kernel.step), fitted(kernel, 40, 40)
    assert before > 50 >= 40 >= pressure(small, small.step)
    assert 0 < rows_of(small) < 30 and small.buffer(WORK).kind == "scratch"
    assert fitted(kernel, before, 40) is kernel and rows_of(kernel) == 0


def test_rows_are_used_again() -> None:
    """Of vectors that follow one another, the next takes the rows of the one before."""
    code = Code("f32")
    code.buffer("x", "member", "in")
    code.buffer("out", "member", "out")
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        begin.yields = ()
    with code.block() as step:
        values = [code.load("x", i) for i in range(8)]
        for _ in range(4):
            total = values[0]
            for v in values[1:]:
                total = code.op("mul", code.op("exp", v), total)
            values = [code.op("sin", code.op("add", v, total)) for v in values]
        for i, v in enumerate(values):
            code.store("out", i, v)
        step.yields = (code.const(True, "bool"),)
    with code.block() as finish:
        pass
    whole = code.kernel("vectors", entry, begin, step, finish, even=True)
    small = fitted(whole, 0, 4)
    assert 6 <= rows_of(small) <= 9
    x = np.linspace(0, 1, 24).astype(np.float32)
    wanted, got = np.zeros(24, np.float32), np.ones(24, np.float32)
    run(whole, {"x": x, "out": wanted}, 3)
    run(small, {"x": x, "out": got}, 3)
    np.testing.assert_array_equal(got, wanted)


def test_what_a_loop_carries_may_stand_in_a_row() -> None:
    kernel = fitted(printable(collatz("f64").kernel), 0, 0)
    loops = [i for i in kernel.step.walk() if i.op == "while"]
    assert [[v.type for v in loop.results] for loop in loops] == [["i32"]], show(kernel)
    assert [v.type for v in kernel.step.params] == ["i32", "i32"], "the total is carried in a row, too"
    assert {v.type for v in varying(kernel)} >= {"real"}


def test_the_text_has_a_row_of_lanes_for_each() -> None:
    text = print_module(lorenz("f64", even=True).kernel, limit=0, room=20)
    assert "desk = work_ptr + tl.program_id(0).to(tl.int64) * (" in text
    assert "work = torch.empty(grid * BLOCK * " in text and "while tile * BLOCK < count:" in text
    assert '("work"' not in text and "work" not in text.partition("def launch(")[2].partition("):")[0]


def test_truths_leave_their_registers() -> None:
    """Thirty comparisons that are wanted once more at the end."""
    code = Code("f64")
    code.buffer("x", "member", "in")
    code.buffer("out", "member", "out")
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        begin.yields = ()
    with code.block() as step:
        total = code.load("x", 0)
        larger = []
        for i in range(1, 31):
            x = code.load("x", i)
            larger.append(code.op("gt", x, total))
            total = code.op("sin", code.op("select", larger[-1], x, total))
        for truth in larger:
            total = code.op("exp", code.op("select", truth, total, code.op("neg", total)))
        code.store("out", 0, total)
        step.yields = (code.const(True, "bool"),)
    with code.block() as finish:
        pass
    whole = code.kernel("truths", entry, begin, step, finish, even=True)
    small = fitted(whole, 0, 12)
    assert pressure(whole, whole.step) > 30 and pressure(small, small.step) <= 12 + 3
    assert rows_of(small) >= 20
    x = np.random.default_rng(0).normal(size=31 * 5)
    wanted, got = np.zeros(5), np.ones(5)
    run(whole, {"x": x, "out": wanted}, 5)
    run(small, {"x": x, "out": got}, 5)
    np.testing.assert_array_equal(got, wanted)


def test_what_is_loaded_again_stays_a_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton keeps every load of the text, though no store stands between many of them."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    code = Code("f32")
    code.buffer("x", "member", "in")
    code.buffer("out", "member", "out")
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        begin.yields = ()
    with code.block() as step:
        values = [code.op("exp", code.load("x", i)) for i in range(8)]
        total = values[0]
        for _ in range(3):
            for v in values:
                total = code.op("sqrt", code.op("mul", v, total))
        code.store("out", 0, total)
        step.yields = (code.const(True, "bool"),)
    with code.block() as finish:
        pass
    kernel = code.kernel("rounds", entry, begin, step, finish, even=True)
    text = print_module(kernel, limit=0, room=4)
    monkeypatch.setattr(ahead, "print_module", lambda kernel: text)
    made, _ = ahead.compiled(kernel, 90)
    assert text.count("tl.assume(") >= 2
    assert made.asm["ttir"].count("tt.load") == text.count("tl.load(") >= 8 + 2 * 7
