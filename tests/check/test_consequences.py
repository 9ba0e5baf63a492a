"""A broken declaration is mentioned once, and independent mistakes all at once."""

from __future__ import annotations

import pytest
from ndl.compiler.check import check_file
from ndl.compiler.source import Source


def codes(text: str) -> list[tuple[str, int]]:
    return [(d.code, d.span.line) for d in check_file(Source("broken.ndl", text))[1]]


@pytest.mark.parametrize("line", ["param k = 2.0 +", "param k = (2.0", "param k 2.0"])
def test_the_uses_of_a_broken_declaration_are_not_mistakes(line: str) -> None:
    found = codes(f"model M:\n    {line}\n    state x = 1.0\n    x' = -k*x\n")
    assert [at for _, at in found] == [2] and found[0][0].startswith("NDL1")


def test_a_broken_equation_leaves_its_state_alone() -> None:
    assert [at for _, at in codes("model M:\n    state x = 1.0\n    x' = -*x\n")] == [3]


def test_other_mistakes_are_still_reported() -> None:
    text = "model M:\n    param k = 2.0 +\n    state x = 1.0\n    x' = -k*y\n"
    assert [at for _, at in codes(text)] == [2, 4]
