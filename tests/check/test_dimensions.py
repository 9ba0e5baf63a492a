"""Dimensions of operators are followed through constructions and whole-number arithmetic."""

from __future__ import annotations

import pytest
from ndl.compiler.check import check_file
from ndl.compiler.source import Source

import ndl


def found(text: str) -> list[tuple[str, int]]:
    return [(d.code, d.span.line) for d in check_file(Source("dims.ndl", text))[1]]


@pytest.mark.parametrize("out", ["d", "d + 0", "2*d - d", "2*d//2"])
def test_arithmetic_that_gives_the_dimension_fits(out: str) -> None:
    assert found(f"operator F(x: R[d]) -> R[d]:\n    return x + Linear(Out={out})(x)\n") == []


@pytest.mark.parametrize("out", ["2*d", "d + 1", "3"])
def test_another_dimension_is_refused(out: str) -> None:
    text = f"operator F(x: R[d]) -> R[d]:\n    return x + Linear(Out={out})(x)\n"
    assert found(text) == [("NDL301", 2)]


def test_a_recursion_under_a_choice_that_only_a_use_decides() -> None:
    ends = 'fn f(n) = if n < 1 then 1 else n*f(n - 1)\n\ntest "t":\n    assert f(3) == 6\n'
    assert found(ends) == []
    assert found('fn f(n) = n*f(n - 1)\n\ntest "t":\n    assert f(3) == 6\n')[0][0] == "NDL310"
    # of several calls each would go down as far again
    assert (
        found('fn f(n) = f(n - 1) + f(n - 2) + f(n - 3)\n\ntest "t":\n    assert f(3) == 6\n')[0][0]
        == "NDL310"
    )


@pytest.mark.parametrize(
    ("cut", "out"),
    [
        ("x[1:] - x[:-1]", "d - 1"),
        ("x[2:] - 2*x[1:-1] + x[:-2]", "d - 2"),
        ("x[:] + x", "d"),
        ("x[0:] - x[:]", "d"),
    ],
)
def test_slices_of_an_open_dimension(cut: str, out: str) -> None:
    assert found(f"operator F(x: R[d]) -> R[{out}]:\n    return {cut}\n") == []
    assert found(f"operator F(x: R[d]) -> R[{out} + 1]:\n    return {cut}\n") == [("NDL309", 1)]


@pytest.mark.parametrize("cut", [":2", "-2:", "1:3"])
def test_a_slice_that_a_short_axis_cuts_off_has_no_extent_before_it_is_used(cut: str) -> None:
    assert found(f"operator F(x: R[d]) -> R:\n    return sum(x[{cut}]*x[{cut}])\n") == []
    declared = f"operator F(x: R[d]) -> R[2]:\n    return x[{cut}]\n\nnet f: R[{{}}] -> R[2] = F()\n"
    ndl.loads(declared.format(3))
    with pytest.raises(ndl.NDLError, match=r"declared to give R\[2\], but here it gives R\[1\]"):
        ndl.loads(declared.format(2 if cut == "1:3" else 1)).nets["f"]()


def test_an_axis_that_is_too_short_for_a_slice() -> None:
    text = "operator F(x: R[d]) -> R[d - 3]:\n    return x[3:]\n\nnet f: R[2] -> R[1] = F()\n"
    assert found(text)[0][0] == "NDL309"


@pytest.mark.parametrize(
    ("call", "out"), [("cumsum(x)", "d"), ("rms(x)*x", "d"), ("rms(x[1:])*x[1:]", "d - 1")]
)
def test_running_sums_and_mean_squares_have_types(call: str, out: str) -> None:
    assert found(f"operator F(x: R[d]) -> R[{out}]:\n    return {call}\n") == []
    assert found(f"operator F(x: R[d]) -> R[{out} + 1]:\n    return {call}\n") == [("NDL309", 1)]
