"""Mistakes and what is said about them: code, line, words under the caret, advice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ndl.compiler.diagnostics import Diagnostic, render
from ndl.compiler.source import Source
from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.parser import load_source, parse
from ndl_texts import CONFORMANCE

SYNTAX = ["missing_colon", "tab_indent", "unbalanced", "not_utf8", "deep_nesting"]


def errors(text: str) -> list[Diagnostic]:
    return parse(Source("test.ndl", text))[1]


@pytest.mark.parametrize("stem", SYNTAX)
def test_bad_programs_are_refused_as_they_say(stem: str) -> None:
    source, found = load_source(CONFORMANCE / "bad" / f"{stem}.ndl")
    found += parse(source)[1]
    head = source.line_text(1)
    line = int(re.match(r"# expect (\d+):", head)[1])  # type: ignore[index]
    here = "\n".join(render(d) for d in found if d.span.line == line)
    for words in re.findall(r'"([^"]*)"', head.partition(":")[2]):
        assert words in here


@pytest.mark.parametrize("path", sorted((CONFORMANCE / "bad").rglob("*.ndl")), ids=lambda p: p.stem)
def test_other_bad_programs_are_well_formed(path: Path) -> None:
    if path.stem not in SYNTAX:
        assert not errors(load_source(path)[0].text)


IN_A_MODEL = [
    ("x' = x**2", "NDL110", "**", "x^2"),
    ("x' == -x", "NDL124", " == ", "x' = -x"),
    ("x' ~ -x", "NDL121", "x'", "`=`"),
    ("assert a = b", "NDL128", "=", "a == b"),
    ("y = f(a + b = 3)", "NDL128", "=", "a == b"),
    ("x = a && b", "NDL110", "&&", "a and b"),
    ("x = a || b", "NDL110", "||", "a or b"),
    ("x = !a", "NDL110", "!", "not a"),
    ("x := 3", "NDL110", ":=", "x <- e"),
    ("x += 1", "NDL110", "+=", "x <- x + e"),
    ("y = 2x", "NDL112", "2x", "2*x"),
    ("y = .5", "NDL113", ".5", "0.5"),
    ("t = table('a.csv')", "NDL114", "'a.csv'", '"a.csv"'),
    ('t = "a\\q"', "NDL114", "\\q", "\\\\"),
    ("z = (a*x)'", "NDL115", "'", "name"),
    ("if x > 0:", "NDL130", "if", "if c then a else b"),
    ("else:", "NDL130", "else", "if c then a else b"),
    ("elif x:", "NDL130", "elif", "else if"),
    ("while x:", "NDL130", "while", "until"),
    ("x = 3 if c else 4", "NDL130", "if", "if c then a else b"),
    ("param b = 0 if c else 1", "NDL130", "else", "if c then a else b"),
    ("y = lambda z: z", "NDL130", "lambda", "x -> e"),
    ("y = 2*", "NDL132", "*", None),
    ("x' =", "NDL132", "=", None),
    ("y = a b", "NDL134", "a b", "a*b"),
    ("y = f(a b)", "NDL134", "a b", "comma"),
    ("param by = 2", "NDL131", "by", "another name"),
    ("step = 3", "NDL131", "step", "another name"),
    ("parm k = 1", "NDL135", "parm", "`param`"),
    ("y = x^k for k in 1..3", "NDL136", "for", "[e for i in S]"),
    ("assert x<-1", "NDL122", "<-", "x < -1"),
    ("f(x) <- 3", "NDL122", "f(x) <- 3", None),
    ('"""doc"""', "NDL118", '"""doc"""', None),
    ('s = "abc', "NDL108", '"abc', '`"`'),
    ("end", "NDL123", "end", "indentation"),
    ("y = x²", "NDL111", "²", "x^2"),
    ("y = a − b", "NDL111", "−", "`-`"),
    ("y = x $ 3", "NDL111", "$", None),
    ("param k == 3", "NDL124", "==", "one `=`"),
    ("y = f(x", "NDL103", "(", "`)`"),
    ("z = [1, 2)", "NDL103", ")", "`]`"),
    ("q = 3)", "NDL103", ")", None),
    ("param k = 1 : R", "NDL120", ": R", "[: type]"),
    ("param a = 1.3 in 0..5", "NDL120", "1.3 in 0..5", "`param a in 0..5 = 1.3`"),
    ("param a: R[2] = 1 > 0", "NDL120", "1 > 0", "`param a > 0: R[2] = 1`"),
    ("param a = 0 < 1.3 < 5", "NDL120", "0 < 1.3 < 5", "`param a in 0..5 = 1.3`"),
    ("param a ~ normal(0, 1) > 0", "NDL120", "normal(0, 1) > 0", "`param a > 0 ~ normal(0, 1)`"),
    ("param a > 0 = 1 < 2", "NDL120", "1 < 2", "`in lo..hi`"),
    ("const c = -2 in -5..0", "NDL120", "-2 in -5..0", "`const c in -5..0 = -2`"),
    ("state y = a > 0", "NDL120", "a > 0", "`state y > 0 = a`; a truth value is declared `: Bool`"),
    ("param a: R in 0..5 = 1", "NDL120", "in", "`param a in lo..hi = value`"),
    ("param a > 0, < 5 = 1", "NDL120", "<", "`param a in lo..hi = value`"),
    ("param a = 1, in 0..5", "NDL120", "in", "`param a in lo..hi = value`"),
    ("param 0 < a < 5 = 1", "NDL120", "0", "`param a in lo..hi = value`"),
    ("state y(0) = 1", "NDL100", "(", "`state y = …`"),
    ("state y: 1", "NDL100", "1", "`state y = 1`"),
    ("state y[2] = 1", "NDL100", "[", "`state y: R[2]`"),
    ("state y on Rod = 1", "NDL100", "on", "`state y: R on Rod = …`"),
    ("state y = 90 K", "NDL134", "90 K", "`state y: R{m/s} = 90`"),
    ("noise W = wiener", "NDL100", "=", "`noise W: wiener`"),
    ("on x = 0: u = 0", "NDL100", "=", "`on left(Rod): u = 0`"),
    ("when h = 0: h <- 1", "NDL100", "=", "`when falling(h)`"),
    ("when falling(h) h <- 1", "NDL104", ")", "`:`"),
    ("event h < 0: h <- 1", "NDL130", "event", "`when falling(e): x <- …`"),
    ("y = |x|", "NDL100", "|", "`abs(x)`"),
    ("y = √x", "NDL111", "√", "`sqrt(x)`"),
    ("when falling(h)", "NDL104", ")", "`:`"),
    ("fit = initial values", "NDL127", "values", "initial states"),
    ("w = 2*t -> t", "NDL126", "2*t", "x -> e"),
    ("term y' = 1", "NDL117", "y'", "`y`"),
    ("param x: R{9} = 3", "NDL125", "9", "m/s^2"),
    ("noise W wiener", "NDL100", "wiener", "`noise W: wiener`"),
    ("model N:", "NDL107", "model N:", None),
]


@pytest.mark.parametrize(("line", "code", "words", "advice"), IN_A_MODEL, ids=[c[0] for c in IN_A_MODEL])
def test_mistakes_in_a_line(line: str, code: str, words: str, advice: str | None) -> None:
    file, found = parse(Source("test.ndl", f"model M:\n    state x = 1\n    {line}\n    x' = 1\n"))
    assert [d.code for d in found] == [code]
    assert (found[0].span.line, found[0].span.text) == (3, words)
    assert advice is None or advice in (found[0].help or "")
    model = file.items[0]
    assert isinstance(model, t.Model)
    assert isinstance(model.body[0], t.Declare) and isinstance(model.body[-1], t.Assign)
    assert model.body[-1].targets[0] == t.Name(model.span, "x", 1)


@pytest.mark.parametrize("line", ["const c = n > 3", "const c = 0 < n < 5", "state y: Bool = 1 > 0"])
def test_comparisons_that_are_meant(line: str) -> None:
    assert not errors(f"model M:\n    const n = 4\n    {line}\n")


def test_a_late_constraint_is_read_as_it_was_meant() -> None:
    file, found = parse(Source("test.ndl", "model M:\n    param a = 1.3 in 0..5\n"))
    right = parse(Source("test.ndl", "model M:\n    param a in 0..5 = 1.3\n"))[0]
    assert len(found) == 1 and file.items == right.items


FILES = [
    ("operator N(x: R[d]; n = 8 > 0) -> R[d]:\n    return x\n", "NDL120", 1),
    ("param k = 1\n", "NDL133", 1),
    ("x = 3\n", "NDL133", 1),
    ("modle M:\n    state x = 1\n", "NDL135", 1),
    ("model M {\n    state x = 1\n}\n", "NDL129", 1),
    ("function f(x) = 2\n", "NDL130", 1),
    ("import foo\n", "NDL130", 1),
    ("fit M:\n    steps = 3\n", "NDL130", 1),
    ("domain Rod: x in 0..1\n", "NDL100", 1),
    ("class A:\n    x = 1\n", "NDL130", 1),
    ('model M:\n    test "t":\n        x = 1\n', "NDL133", 2),
    ("edition 2.5\n", "NDL119", 1),
    ("const a = 1\nedition 2026\n", "NDL119", 2),
    ("fn f(x):\n    return x\n  y = 3\n", "NDL105", 3),
    ("model M:\n    state x = 1\n        y = 2\n    z = 3\n", "NDL106", 3),
    ('model M:\n    """never\n', "NDL108", 2),
    ("solver s for ode:\n    tableau:\n        0 |\n", "NDL116", 2),
    ("solver s for ode:\n    tableau:\n        0 | y\n        -+-\n          | 1\n", "NDL116", 2),
    ("solver s for ode:\n    tableau:\n        0 | y\n        --+-\n          | 1\n", "NDL116", 3),
    ("test x:\n    assert true\n", "NDL100", 1),
]


@pytest.mark.parametrize(("text", "code", "line"), FILES, ids=[f[0].split("\n")[0] + f[1] for f in FILES])
def test_mistakes_of_files(text: str, code: str, line: int) -> None:
    found = errors(text)
    assert (found[0].code, found[0].span.line) == (code, line)


def test_independent_errors_are_all_reported() -> None:
    file, found = parse(
        Source(
            "test.ndl",
            "model A\n    state x = 1\n    x' = sin(x\n    y = 2*\n"
            "const k = = 3\n"
            "model B:\n    state y == 1\n    y' = -y\n    when y > 1:\n        y <- a b\n\tz = 1\n"
            "fn f(x) = x^2\n",
        )
    )
    assert [(d.code, d.span.line) for d in found] == [
        ("NDL104", 1),
        ("NDL103", 3),
        ("NDL132", 4),
        ("NDL132", 5),
        ("NDL124", 7),
        ("NDL134", 10),
        ("NDL102", 11),
    ]
    assert [type(i).__name__ for i in file.items] == ["Model", "Model", "Fn"]


def test_an_open_bracket_does_not_swallow_what_follows() -> None:
    text = (
        "model M:\n    x' = f(1,\n        g(2)\n    state y = 1\n"
        "model N:\n    state z = (\n\nmodel O:\n    state w = 1\n"
    )
    file, found = parse(Source("test.ndl", text))
    assert [(d.code, d.span.line, d.span.text) for d in found] == [("NDL103", 2, "("), ("NDL103", 6, "(")]
    assert len(file.items) == 3 and len(file.items[0].body) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "value",
    [
        "(" * 50_000 + "x" + ")" * 50_000,
        "[{(" * 30_000,
        "+".join(["x"] * 50_000),
        "^".join(["x"] * 50_000),
        "-" * 100_000 + "x",
        "not " * 20_000 + "x",
        "if a then b else " * 10_000 + "x",
        "x -> " * 20_000 + "x",
        "x" + ".y" * 50_000,
        "f" + "()" * 50_000,
    ],
    ids=lambda v: v[:12],
)
def test_depth_is_bounded(value: str) -> None:
    file, found = parse(Source("test.ndl", f"model M:\n    state x = 1\n    x' = {value}\n    state y = 1\n"))
    assert [d.code for d in found] == ["NDL109"] and found[0].span.line == 3
    assert "nested" in found[0].message
    assert len(file.items[0].body) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "line", ["?", ")", "x = f(", '"', "'", '"""', "\t x", "for i in x:", "     x = 1", "{", "#"]
)
def test_long_texts_of_nonsense_end(line: str) -> None:
    found = errors((line + "\n") * 5_000 + line * 5_000)
    assert len(found) <= 100 and (found or line == "#")


def test_long_flat_texts_are_no_error() -> None:
    file, found = parse(Source("test.ndl", "const a = [" + "1, " * 20_000 + "1]\n"))
    assert not found and len(file.items[0].items[0].value.items) == 20_001  # type: ignore[attr-defined]
