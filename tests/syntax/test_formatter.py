"""The formatter: what it changes, what it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from ndl.compiler.source import Source
from ndl.compiler.syntax.format import format_file
from ndl.compiler.syntax.parser import load_source, parse
from ndl.compiler.syntax.show import show_expr
from ndl_texts import GOOD, WHOLE, expr, parsed


def formatted(text: str) -> str:
    return format_file(parsed(text))


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.name)
def test_conformance_programs(path: Path) -> None:
    file, _ = parse(load_source(path)[0])
    once = format_file(file)
    again = parsed(once)
    assert again == file and format_file(again) == once
    assert [c.text for c in again.comments] == [c.text for c in file.comments]


UNCHANGED = [
    "01_decay",
    "03_lorenz_ensemble",
    "04_bouncing_ball",
    "11_own_solver",
    "12_lynx_hare",
    "24_reaction",
]


@pytest.mark.parametrize("stem", UNCHANGED)
def test_programs_in_canonical_form_stay(stem: str) -> None:
    path = next(p for p in GOOD if p.stem == stem)
    text = path.read_text("utf-8")
    assert formatted(text) == text


def test_every_construct_is_stable() -> None:
    once = formatted(WHOLE)
    assert parsed(once) == parsed(WHOLE) and formatted(once) == once


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("a+b *c", "a + b*c"),
        ("-( x^2 )", "-x^2"),
        ("(a*b)+c", "a*b + c"),
        ("a-(b-c)", "a - (b - c)"),
        ("a - (-b)", "a - (-b)"),
        ("(A@z)*h", "(A @ z)*h"),
        ("0..(C-1)", "0..C-1"),
        ("f( a ,b=( 2 ), c : d, e~g )", "f(a, b=2, c: d, e ~ g)"),
        ("[ 1,2 ,]", "[1, 2]"),
        ("x[ : , 1: ]", "x[:, 1:]"),
        ("{ x,y|x<1 }", "{x, y | x < 1}"),
        ("{Rod :a}", "{Rod: a}"),
        ("( x,y )->x", "(x, y) -> x"),
        ("(if a then b else c) + 1", "(if a then b else c) + 1"),
        ("(x -> x)(2)", "(x -> x)(2)"),
        ("not (a == b)", "not a == b"),
        ("(a < b) < c", "(a < b) < c"),
        ("(2).T", "2.T"),
        ("1e-3 + 10_000*2i", "1e-3 + 10_000*2i"),
        ("sum(e,y in(S)if(c))", "sum(e, y in S if c)"),
        ("[e for i,j]", "[e for i, j]"),
    ],
)
def test_expressions(written: str, canonical: str) -> None:
    assert show_expr(expr(written)) == canonical
    assert expr(canonical) == expr(written)


def test_alignment_comments_and_blank_lines_are_kept() -> None:
    text = (
        "\n\n# top\n\n\n\n\nmodel M:   # the model\n\n  # first\n  param alpha>0   = 1   # one\n"
        "  param b    >0   = 2   # two\n\n\n\n  x'  = - x\n  yy' = x\n  # inner end\n"
        "# outer\nmodel N:\n    state z=1\n# last\n"
    )
    assert formatted(text) == (
        "# top\n\n\nmodel M:   # the model\n    # first\n    param alpha > 0 = 1  # one\n"
        "    param b     > 0 = 2  # two\n\n    x'  = -x\n    yy' = x\n    # inner end\n# outer\n"
        "model N:\n    state z = 1\n# last\n"
    )


def test_broken_lines_and_written_forms_are_kept() -> None:
    text = (
        "model M:\n  when x > 1: stop\n  dx/dt = f(a,  # why\n      b)\n  when falling(h):\n    stop\n"
        "fn f(a,\n     b) = a\n"
    )
    assert formatted(text) == (
        "model M:\n    when x > 1: stop\n    dx/dt = f(a,  # why\n        b)\n"
        "    when falling(h):\n        stop\n"
        "fn f(a,\n     b) = a\n"
    )


def test_tableaux_are_set_in_columns() -> None:
    text = (
        "solver s for ode order 2:\n    tableau:  # Heun\n        0|\n        # second\n        1/2 | 1/2\n"
        "        --+\n          | 1/10 1 # weights\n    x = 1\n"
    )
    assert formatted(text) == (
        "solver s for ode order 2:\n    tableau:  # Heun\n        0   |\n        # second\n"
        "        1/2 | 1/2\n        ----+-------\n            | 1/10 1  # weights\n    x = 1\n"
    )


def test_trees_without_a_source_are_printed_too() -> None:
    file = parsed(WHOLE)
    bare = type(file)(Source("", ""), file.doc, file.items)
    assert parse(Source("again", format_file(bare)))[0] == file
