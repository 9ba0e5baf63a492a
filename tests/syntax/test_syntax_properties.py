"""Random trees survive being written and read; damaged programs only ever give diagnostics."""

from __future__ import annotations

import os
import random
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ndl.compiler.diagnostics import Diagnostic, render
from ndl.compiler.source import NO_SPAN as S
from ndl.compiler.source import NOWHERE, Source
from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.format import format_file
from ndl.compiler.syntax.late import late_constraint, late_in_header
from ndl.compiler.syntax.parser import parse
from ndl_texts import GOOD, WHOLE, mutated, parsed

words = st.sampled_from(["x", "y", "alpha", "ρ̂", "σ_1", "T", "every", "initial", "state", "as", "order", "e"])
primes = st.sampled_from([0, 0, 0, 1, 2])
names = st.builds(lambda w, p: t.Name(S, w, p), words, primes)
numbers = st.sampled_from(["0", "1", "2.5", "1e-3", "10_000", "2i", "3.", "1.5i"]).map(
    lambda text: t.Num(
        S,
        (int if text.strip("i_").replace("_", "").isdigit() else float)(text.rstrip("i").replace("_", "")),
        text,
        text.endswith("i"),
    )
)
strings = st.text("ab \"\\\n\t'#é", max_size=5).map(lambda v: t.Str(S, v))
patterns = st.one_of(
    words.map(lambda w: t.Pattern(S, (w,))),
    st.lists(words, min_size=2, max_size=3).map(lambda ws: t.Pattern(S, tuple(ws), "(")),
    st.lists(words, min_size=1, max_size=3).map(lambda ws: t.Pattern(S, tuple(ws), "[")),
)


def tuples(items: st.SearchStrategy, least: int = 0, most: int = 3) -> st.SearchStrategy:
    return st.lists(items, min_size=least, max_size=most).map(tuple)


def compare(ops: list[str], operands: list[t.Expr], part: t.Expr | None) -> t.Compare:
    ends = list(operands[: len(ops) + 1])
    if part is not None and ops[-1] == "in":
        ends[-1] = t.Restrict(S, ends[-1], part)
    return t.Compare(S, tuple(ops), tuple(ends))


def not_member(value: t.Expr) -> bool:
    """`(x in S) if c` is read as `x in (S if c)`."""
    return not (isinstance(value, t.Compare) and value.ops[-1] == "in")


def extend(e: st.SearchStrategy) -> st.SearchStrategy:
    binary = st.sampled_from(["+", "-", "*", "/", "//", "@", "^"])
    relation = st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "in", "not in"])
    plain = e.filter(lambda v: not isinstance(v, t.Name) or v.id != "all")
    every = st.builds(lambda v: t.Every(S, v), e)
    arg = st.one_of(
        st.builds(lambda v: t.Arg(S, "positional", None, v), e),
        st.builds(
            lambda n, v, p: t.Arg(S, "keyword", n, v, None, p), words | st.just("if"), plain | every, primes
        ),
        st.builds(lambda n, v: t.Arg(S, "draw", n, v), words, e),
        st.builds(lambda n, v: t.Arg(S, "part", n, v), words, e),
    )
    binder = st.one_of(
        words.map(lambda w: t.Binder(S, t.Pattern(S, (w,)), None)),
        st.builds(lambda p, v: t.Binder(S, p, v), patterns, e),
        st.builds(lambda v: t.Binder(S, t.Pattern(S, ("i", "j")), v), e),
    )
    piece = st.builds(lambda a, b: t.Slice(S, a, b), st.none() | e, st.none() | e)
    return st.one_of(
        st.builds(lambda op, a, b: t.Binary(S, op, a, b), binary, e, e),
        st.builds(lambda op, a: t.Unary(S, op, a), st.sampled_from(["-", "+", "not"]), e),
        st.builds(lambda op, a, b: t.Logical(S, op, a, b), st.sampled_from(["and", "or"]), e, e),
        st.builds(
            compare,
            st.lists(relation, min_size=1, max_size=3),
            st.lists(e, min_size=4, max_size=4),
            st.none() | e,
        ),
        st.builds(lambda a, b, c: t.Conditional(S, a, b, c), e, e, e),
        st.builds(lambda p, b: t.Lambda(S, p, b), patterns, e),
        st.builds(lambda a, b, c: t.Range(S, a, b, c), e, e, st.none() | e),
        st.builds(lambda v, n, p: t.Attr(S, v, n, p), e, words | st.just("for"), primes),
        st.builds(lambda f, a: t.Call(S, f, a), e, tuples(arg)),
        st.builds(lambda v, i: t.Index(S, v, i), e, tuples(e | piece, 1)),
        tuples(e).map(lambda i: t.ListExpr(S, i)),
        tuples(e, 1).map(lambda i: t.TupleExpr(S, i)),
        st.builds(lambda b, f, c: t.Comprehension(S, b, f, c), e, tuples(binder, 1, 2), st.none() | e),
        tuples(st.tuples(e, e), 1, 2).map(lambda i: t.DictExpr(S, i)),
        st.builds(lambda n, c: t.SetBuilder(S, n, c), tuples(words, 1), e),
        st.builds(lambda v, c: t.Restrict(S, v, c), e.filter(not_member), e),
    )


def kept_apart(expr: t.Expr) -> bool:
    """Bare binders in a row are written as one `for`, so `every(x)` in a setting is the only overlap left."""
    return not (isinstance(expr, t.Call) and isinstance(expr.func, t.Name) and expr.func.id == "every")


exprs = st.recursive(names | numbers | strings, extend, max_leaves=8).filter(kept_apart)
sets = st.recursive(names, lambda e: st.builds(lambda a, b: t.Binary(S, "*", a, b), e, names), max_leaves=3)
unit = tuples(
    st.tuples(st.sampled_from(["m", "s", "kg"]), st.sampled_from([1, -1, 2, -2, Fraction(1, 2)])), 0, 3
).map(lambda factors: t.UnitExpr(S, tuple((n, Fraction(p)) for n, p in factors)))
plain_types = st.builds(
    lambda n, d, u: t.TypeName(S, n, d, u),
    st.sampled_from(["R", "C", "Z", "wells.M"]),
    tuples(names | numbers | strings),
    st.none() | unit,
)
types = st.recursive(
    plain_types,
    lambda inner: st.one_of(
        st.builds(lambda v, s: t.FieldType(S, v, s), inner, sets),
        st.builds(lambda p, r: t.MapType(S, p, r), tuples(inner), inner),
        tuples(inner, 2).map(lambda i: t.TupleType(S, i)),
    ),
    max_leaves=5,
)
starts = st.sampled_from(["x", "y", "alpha", "ρ̂"])
constraints = st.builds(
    lambda op, b: t.Constraint(S, op, b), st.sampled_from([">", "<=", "in"]), names | numbers
)


def item(**parts: object) -> t.DeclItem:
    if parts.get("value") is not None:
        parts["law"] = None
    return t.DeclItem(S, name_span=S, **parts)  # type: ignore[arg-type]


items = st.builds(
    item,
    name=words,
    primes=primes,
    constraint=st.none() | constraints,
    type=st.none() | types,
    format=st.none() | names,
    value=st.none() | exprs,
    law=st.none() | exprs,
    cond=st.none() | exprs,
    per=st.sampled_from([None, "step", "training step"]),
)
simple = st.one_of(
    st.builds(
        lambda k, i: t.Declare(S, k, i),
        st.sampled_from(["param", "state", "const", "input"]),
        tuples(items, 1, 2),
        # a comparison there is refused: it is never meant
    ).filter(lambda d: not any(late_constraint(d.keyword, i) for i in d.items)),
    st.builds(lambda n, v, y: t.Assign(S, (t.Name(S, n),), v, y), starts, exprs, st.none() | types),
    st.builds(lambda a, b, v: t.Assign(S, (t.Name(S, a, 1), t.Name(S, b, 1)), v), starts, starts, exprs),
    st.builds(
        lambda n, v, y, p: t.Draw(S, n, S, v, y, p),
        starts,
        exprs,
        st.none() | types,
        st.sampled_from([None, "step"]),
    ),
    st.builds(lambda n, v: t.Reset(S, t.Name(S, n, 1), v), starts, exprs),
    st.builds(lambda n, y: t.Noise(S, n, S, y), words, types),
    st.builds(
        lambda n, y, v, p: t.Net(S, n, S, y, v, p),
        words,
        st.none() | types,
        st.none() | exprs,
        st.sampled_from([None, "use"]),
    ),
    st.builds(lambda n, v: t.Term(S, n, S, v), words, exprs),
    st.builds(lambda n, v: t.Observe(S, n, S, v), words, exprs),
    st.builds(lambda c, w: t.Assert(S, c, w), exprs, st.none() | st.text(max_size=3).filter(str.isprintable)),
    st.builds(lambda v: t.Return(S, v), tuples(exprs, 1)),
)
stmts = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(lambda c, b: t.When(S, c, b), exprs, tuples(inner, 1)),
        st.builds(lambda s, b: t.On(S, s, b), sets, tuples(inner, 1)),
        st.builds(lambda p, i, b: t.For(S, p, i, b), patterns, exprs, tuples(inner, 1)),
    ),
    max_leaves=4,
)
parameters = tuples(
    st.builds(lambda n, y, d: t.Parameter(S, n, y, d), words, st.none() | types, st.none() | exprs).filter(
        lambda p: late_in_header(p.default) is None
    )
)
# without options, what has a default and no type would be read as one
headers = st.tuples(parameters, parameters).filter(
    lambda h: bool(h[1]) or all(p.type is not None or p.default is None for p in h[0])
)
models = st.builds(lambda h, b: t.Model(S, "M", S, *h, b), headers, tuples(stmts, 1, 4))
functions = st.builds(
    lambda d, o, r, v: t.Fn(S, "f", S, d, o, r, (t.Return(S, (v,)),), True),
    parameters,
    parameters,
    st.none() | types,
    exprs,
)
files = tuples(models | functions, 1, 2).map(lambda i: t.File(NOWHERE, None, i))


def again(file: t.File) -> tuple[t.File, list[Diagnostic], str]:
    text = format_file(file)
    return *parse(Source("again.ndl", text)), text


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(exprs)
def test_a_random_expression_is_read_as_it_was(value: t.Expr) -> None:
    file = t.File(NOWHERE, None, (t.ModelAlias(S, "M", S, value),))
    read, found, text = again(file)
    assert not found and read == file, text


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(files)
def test_a_random_file_is_read_as_it_was(file: t.File) -> None:
    read, found, text = again(file)
    assert not found and read == file, text
    assert format_file(read) == text


@settings(max_examples=300, deadline=None)
@given(st.text("()[]{}:=~'\"#.,;|<->+*/^@ \t\n\r09.axefiormdl_∂²\x00\ud800", max_size=60))
def test_any_text_gives_diagnostics(text: str) -> None:
    file, found = parse(Source("any.ndl", text))
    assert isinstance(file, t.File)
    assert all(render(d) for d in found)


COUNT = 10_000 if os.environ.get("NDL_FUZZ") == "full" else 1_500


@pytest.mark.parametrize("part", range(10))
def test_damaged_programs_give_diagnostics(part: int) -> None:
    texts = [WHOLE, *(p.read_text("utf-8") for p in GOOD)]
    rng = random.Random(part)
    for _ in range(COUNT // 10):
        text = mutated(rng.choice(texts), rng)
        file, found = parse(Source("damaged.ndl", text))
        for d in found:
            assert d.code.startswith("NDL1") and 0 <= d.span.start <= d.span.end <= len(text), text
        if not found and rng.random() < 0.2:
            read = parsed(format_file(file))
            assert read == file and [c.text for c in read.comments] == [c.text for c in file.comments], text
            assert format_file(read) == format_file(file), text
