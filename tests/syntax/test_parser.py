"""Texts and their trees."""

from __future__ import annotations

import dataclasses
import inspect
from fractions import Fraction
from pathlib import Path

import pytest
from ndl.compiler.source import NO_SPAN, Source
from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.parser import load_source, parse, parse_expression
from ndl.compiler.syntax.show import show_stmt
from ndl_texts import CONFORMANCE, GOOD, WHOLE, expr, parsed, statement

S = NO_SPAN


def name(text: str) -> t.Name:
    return t.Name(S, text.rstrip("'"), text.count("'"))


def num(text: str) -> t.Num:
    return t.Num(S, float(text) if "." in text else int(text), text)


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.name)
def test_conformance_programs_parse(path: Path) -> None:
    source, unreadable = load_source(path)
    file, found = parse(source)
    assert not unreadable and not found
    assert file.items and file.doc


def test_every_kind_of_node_is_reached() -> None:
    seen: set[type] = set()

    def walk(node: object) -> None:
        if isinstance(node, t.Node | t.File):
            seen.add(type(node))
            for field in dataclasses.fields(node):
                walk(getattr(node, field.name))
        elif isinstance(node, tuple):
            for item in node:
                walk(item)

    walk(parsed(WHOLE + "    # a comment\n"))
    walk(expr("f(fit=all except a)"))
    walk(parsed("fn f(g: (R, (R, Z)) -> R) = 1\n"))
    kinds = {c for c in vars(t).values() if inspect.isclass(c) and issubclass(c, t.Node)}
    abstract = {t.Node, t.Expr, t.TypeExpr, t.Stmt, t.Decl}
    assert kinds - abstract - seen == set()


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("-x^2", "-(x^2)"),
        ("2^-x^2", "2^(-(x^2))"),
        ("a^b^c", "a^(b^c)"),
        ("a - b - c", "(a - b) - c"),
        ("a/b*c @ d//e", "(((a/b)*c) @ d)//e"),
        ("a + b*c", "a + (b*c)"),
        ("-a*b", "(-a)*b"),
        ("a..b + 1 by 2*c", "(a)..(b + 1) by (2*c)"),
        ("a < b..c", "a < (b..c)"),
        ("not a == b", "not (a == b)"),
        ("not a and b", "(not a) and b"),
        ("a or b and c", "a or (b and c)"),
        ("a and b and c", "(a and b) and c"),
        ("x -> y -> x + y", "x -> (y -> (x + y))"),
        ("if a then b else if c then d else e", "if a then b else (if c then d else e)"),
        ("x -> if a then b else c or d", "x -> (if a then b else (c or d))"),
        ("A.T @ x", "(A.T) @ x"),
        ("f(x)[0].y'", "((f(x))[0]).y'"),
        ("x'[0]", "(x')[0]"),
        ("e^(t + 1) - 1", "(e^(t + 1)) - 1"),
        ("a in S", "(a) in (S)"),
        ("[e for i in a if b]", "[(e) for i in (a) if (b)]"),
        ("every 2*h", "every(2*h)"),
    ],
)
def test_precedence(text: str, same: str) -> None:
    assert parsed(f"solve M:\n    v = {text}\n") == parsed(f"solve M:\n    v = {same}\n")


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("(-x)^2", "-x^2"),
        ("a - (b - c)", "a - b - c"),
        ("(a^b)^c", "a^b^c"),
        ("a < b < c", "(a < b) < c"),
        ("x''", "x'"),
        ("2i", "2"),
        ("(a,)", "a"),
    ],
)
def test_what_differs_stays_different(text: str, other: str) -> None:
    assert expr(text) != expr(other)


def test_a_chain_of_comparisons_is_one_node() -> None:
    assert expr("0 < x <= 1 not in S") == t.Compare(
        S, ("<", "<=", "not in"), (num("0"), name("x"), num("1"), name("S"))
    )


def test_numbers_and_intervals() -> None:
    assert expr("0..1") == t.Range(S, num("0"), num("1"))
    assert expr("3..1 by -1").by == t.Unary(S, "-", num("1"))  # type: ignore[attr-defined]
    assert expr("1e-3") == t.Num(S, 0.001, "1e-3")
    assert expr("10_000") == t.Num(S, 10000, "10_000")
    assert expr("2i") == t.Num(S, 2, "2i", True)
    assert expr("2.5..3.5") == t.Range(S, num("2.5"), num("3.5"))


def test_reserved_words_are_names_in_their_places() -> None:
    assert expr("s.final.import.in.for'") == t.Attr(
        S, t.Attr(S, t.Attr(S, t.Attr(S, name("s"), "final"), "import"), "in"), "for", 1
    )
    call = expr("lie(step=1, in=2, on=3, test=4, if=5)")
    assert isinstance(call, t.Call) and [a.name for a in call.args] == ["step", "in", "on", "test", "if"]
    declared = statement("state import = 1.0, model = 2, order = 3, as = 4, per = 5, all = 6")
    assert isinstance(declared, t.Declare)
    assert [i.name for i in declared.items] == ["import", "model", "order", "as", "per", "all"]
    assert expr("state + test*on") == expr("(state) + ((test)*(on))")
    assert expr("every + all*initial") == t.Binary(
        S, "+", name("every"), t.Binary(S, "*", name("all"), name("initial"))
    )


def test_words_of_settings() -> None:
    solve = parsed(
        "solve M:\n    a = all, initial states\n    b = all except c.d, e\n"
        "    c = every 0.5\n    d = every(h)\n"
    ).items[0]
    assert isinstance(solve, t.Solve)
    both, but, each, call = (s.value for s in solve.settings if isinstance(s, t.Assign))
    assert both == t.TupleExpr(S, (t.Words(S, "all"), t.Words(S, "initial states")))
    assert but == t.Except(S, t.Words(S, "all"), (t.Attr(S, name("c"), "d"), name("e")))
    assert each == t.Every(S, num("0.5")) and call == t.Every(S, name("h"))
    assert expr("f(save=every 2, fit=all)") == expr("f(save=every(2), fit=all)")
    assert isinstance(expr("f(fit=all)").args[0].value, t.Words)  # type: ignore[attr-defined]
    assert isinstance(expr("f(all)").args[0].value, t.Name)  # type: ignore[attr-defined]
    assert isinstance(expr("every(2)"), t.Call)


def test_restriction_belongs_to_the_set() -> None:
    call = expr("mean(f(y), y in ball(x, r) if y != x)")
    assert isinstance(call, t.Call)
    member = call.args[1].value
    assert isinstance(member, t.Compare) and isinstance(member.operands[1], t.Restrict)
    assert isinstance(expr("f(S if c)").args[0].value, t.Restrict)  # type: ignore[attr-defined]


def test_binders() -> None:
    bare = expr("[e for i, j]")
    assert isinstance(bare, t.Comprehension)
    assert [b.pattern.names for b in bare.binders] == [("i",), ("j",)]
    pair = expr("[e for i, j in S for (k, l) in T if c]")
    assert isinstance(pair, t.Comprehension)
    assert [(b.pattern.names, b.pattern.bracket) for b in pair.binders] == [
        (("i", "j"), ""),
        (("k", "l"), "("),
    ]
    assert pair.cond == name("c")


def test_names_are_normalised_and_may_carry_marks() -> None:
    assert expr("ρ̂ + 𝛼₁") == t.Binary(S, "+", name("ρ̂"), name("α1"))
    assert parsed("fn ｆ(x) = x\n") == parsed("fn f(x) = x\n")


def test_clauses_of_a_declaration() -> None:
    item = statement("param W > 0: R[2, n] as cp(3) = 1 if bias per training step").items[0]  # type: ignore[attr-defined]
    assert item.constraint == t.Constraint(S, ">", num("0"))
    assert item.type == t.TypeName(S, "R", (num("2"), name("n")))
    assert item.format == expr("cp(3)") and item.value == num("1")
    assert item.cond == name("bias") and item.per == "training step"
    assert statement("const s ~ normal(0, 1)").items[0].law == expr("normal(0, 1)")  # type: ignore[attr-defined]


def test_units() -> None:
    def unit(text: str) -> object:
        item = statement(f"param k: R{{{text}}} = 1").items[0]  # type: ignore[attr-defined]
        return dict(item.type.unit.factors)

    assert unit("kg*m^2/s^3") == {"kg": 1, "m": 2, "s": -3}
    assert unit("1/s") == {"s": -1} and unit("1") == {}
    assert unit("m^(1/2)*K^-1") == {"m": Fraction(1, 2), "K": -1}


def test_types() -> None:
    real = t.TypeName(S, "R")
    assert statement("net f: (R, R) -> R -> R").signature == t.MapType(  # type: ignore[attr-defined]
        S, (real, real), t.MapType(S, (real,), real)
    )
    assert statement("net f: (R, R on time) -> (R, R)").signature == t.MapType(  # type: ignore[attr-defined]
        S, (real, t.FieldType(S, real, name("time"))), t.TupleType(S, (real, real))
    )
    assert statement("net f: ((R, R)) -> R").signature == t.MapType(  # type: ignore[attr-defined]
        S, (t.TupleType(S, (real, real)),), real
    )
    law = statement("noise W: wiener[m](cov=S)").law  # type: ignore[attr-defined]
    assert law.name == "wiener" and law.dims == (name("m"),) and law.args[0].name == "cov"


def test_tableaux_are_exact() -> None:
    solver = parsed(
        "solver s for ode order 2:\n    tableau:\n        0 |  # first\n        1/3 | 0.25 -1/12\n\n"
        "        0.1 | (2-sqrt(2))/2 2/3^2\n        --+--\n"
        "          | 1 1e-2 0.333333333333333333333\n    x = 1\n"
    ).items[0]
    assert isinstance(solver, t.Solver)
    table = solver.body[0]
    assert isinstance(table, t.Tableau)
    assert table.stages[1] == t.TableauRow(S, Fraction(1, 3), (Fraction(1, 4), Fraction(-1, 12)))
    assert table.stages[2].a == (pytest.approx(0.29289321881345254), Fraction(2, 9))
    third = Fraction(333333333333333333333, 10**21)
    assert table.outputs == (t.TableauRow(S, None, (Fraction(1), Fraction(1, 100), third)),)
    assert len(solver.body) == 2


def test_one_line_blocks_equal_their_long_form() -> None:
    assert parsed("model M:\n    when falling(h): stop\n") == parsed(
        "model M:\n    when falling(h):\n        stop\n"
    )
    assert parsed("train M:\n    minimize L wrt a: every = 2\n") == parsed(
        "train M:\n    minimize L wrt a:\n        every = 2\n"
    )


def test_lines_go_on_inside_brackets() -> None:
    assert parsed('test "t":\n    y = f(a,\n  b,  # why\n\n      c\n    )\n') == parsed(
        'test "t":\n    y = f(a, b, c)\n'
    )
    assert parsed("model M:\r\n    state x = 1\r\n    x' = -x\r\n") == parsed(
        "model M:\n    state x = 1\n    x' = -x\n"
    )


def test_docs_and_comments_are_kept() -> None:
    file = parsed('"""File."""\n# own\nmodel M:  # behind\n    """Model.\n    More."""\n    state x = 1\n')
    model = file.items[0]
    assert isinstance(model, t.Model)
    assert file.doc == "File." and model.doc == "Model.\n    More."
    assert [(c.text, c.own_line) for c in file.comments] == [("# own", True), ("# behind", False)]


def test_spans_are_exact() -> None:
    text = "model M:\n    state x = 1\n    x' = -k*sin(x)\n"
    model = parsed(text).items[0]
    assert isinstance(model, t.Model) and model.name_span.text == "M"
    assert model.span.text == text.rstrip()
    equation = model.body[1]
    assert isinstance(equation, t.Assign)
    assert equation.targets[0].span.text == "x'" and equation.value.span.text == "-k*sin(x)"
    assert (equation.span.line, equation.span.column) == (3, 5)


def test_expressions_from_outside() -> None:
    value, found = parse_expression(Source("--set", "tsit5(rtol=1e-9)"))
    assert value == expr("tsit5(rtol=1e-9)") and not found
    assert parse_expression(Source("--set", "every 0.1"))[0] == t.Every(S, num("0.1"))
    for bad in ("", "1 +", "a b", "x = 1", "(((", "\n\n", "1\n2", '"', "model M:"):
        value, found = parse_expression(Source("--set", bad))
        assert value is None and found, bad


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    source, found = load_source(CONFORMANCE / "bad" / "not_utf8.ndl")
    assert found[0].code == "NDL101" and found[0].span.line == 3 and "UTF-8" in found[0].message
    marked = tmp_path / "marked.ndl"
    marked.write_bytes(b"\xef\xbb\xbfconst a = 1\r\n")
    source, found = load_source(marked)
    assert not found and parse(source)[0] == parsed("const a = 1\n")


def test_one_line_of_any_statement() -> None:
    assert show_stmt(statement("when falling(h): v <- -e*v")) == "when falling(h): v <- -e*v"
    assert show_stmt(statement("when falling(h):\n    a <- 1\n    b <- 2")) == "when falling(h): …"
    for stmt in parsed(WHOLE).items:
        assert "\n" not in show_stmt(stmt)
