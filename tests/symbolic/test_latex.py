"""Expressions and equations as LaTeX: hand-made trees against what a textbook prints."""

import pytest
from ndl.compiler.source import Source, Span
from ndl.compiler.symbolic.equations import equations_latex, equations_text
from ndl.compiler.symbolic.latex import expr_latex
from ndl.compiler.symbolic.latex_names import name_latex
from ndl.compiler.syntax.tree import (
    Arg,
    Assign,
    Attr,
    Binary,
    Binder,
    Call,
    Compare,
    Comprehension,
    Conditional,
    Declare,
    DeclItem,
    Index,
    Lambda,
    ListExpr,
    Logical,
    Model,
    Name,
    Noise,
    Num,
    Pattern,
    Range,
    Reset,
    Slice,
    TypeName,
    Unary,
    When,
)

S = Span()


def n(name, primes=0):
    return Name(S, name, primes)


def k(text):
    return Num(S, float(text), text)


def op(left, sign, right):
    return Binary(S, sign, left, right)


def call(name, *args):
    return Call(S, n(name), tuple(Arg(S, "positional", None, a) for a in args))


x, y, t = n("x"), n("y"), n("t")


@pytest.mark.parametrize(
    "name, latex",
    [
        ("x", "x"),
        ("alpha", r"\alpha"),
        ("σ", r"\sigma"),
        ("ρ̂", r"\hat{\rho}"),
        ("x1", "x_{1}"),
        ("k_on", r"k_{\mathrm{on}}"),
        ("x_1_2", "x_{1,2}"),
        ("prey", r"\mathrm{prey}"),
        ("alpha0", r"\alpha_{0}"),
        ("_", r"\_"),
    ],
)
def test_names(name, latex):
    assert name_latex(name) == latex


@pytest.mark.parametrize(
    "expr, latex",
    [
        (op(n("alpha"), "*", n("prey")), r"\alpha\,\mathrm{prey}"),
        (op(op(x, "+", y), "*", x), r"\left(x + y\right)\,x"),
        (op(x, "-", op(y, "-", t)), r"x - \left(y - t\right)"),
        (op(op(x, "-", y), "-", t), "x - y - t"),
        (op(op(x, "+", y), "/", k("2")), r"\frac{x + y}{2}"),
        (op(op(x, "/", y), "^", k("2")), r"\left(\frac{x}{y}\right)^{2}"),
        (Unary(S, "-", op(x, "^", k("2"))), "-x^{2}"),
        (op(Unary(S, "-", x), "^", k("2")), r"\left(-x\right)^{2}"),
        (op(x, "*", Unary(S, "-", y)), r"x\,\left(-y\right)"),
        (op(k("2"), "*", k("3")), r"2 \cdot 3"),
        (op(x, "//", k("2")), r"\left\lfloor \frac{x}{2} \right\rfloor"),
        (k("1e-3"), "10^{-3}"),
        (k("2.5e4"), r"2.5 \times 10^{4}"),
        (op(k("2.5e4"), "^", x), r"\left(2.5 \times 10^{4}\right)^{x}"),
        (n("theta", 2), r"\theta''"),
        (call("sin", op(n("omega"), "*", t)), r"\sin\left(\omega\,t\right)"),
        (call("relu2", x), r"\operatorname{relu}_{2}\left(x\right)"),
        (call("sqrt", op(x, "+", y)), r"\sqrt{x + y}"),
        (call("abs", x), r"\left|x\right|"),
        (call("lap", n("u")), r"\Delta u"),
        (call("dx", n("u")), r"\partial_{x} u"),
        (call("diff", call("f", x), x, x), r"\partial_{x x} f\left(x\right)"),
        (
            call("integral", call("K", n("s"), t), Compare(S, ("in",), (n("s"), Range(S, k("0"), t)))),
            r"\int_{0}^{t} K\left(s, t\right) \,\mathrm{d}s",
        ),
        (call("sum", Index(S, x, (n("i"),)), Compare(S, ("in",), (n("i"), n("S")))), r"\sum_{i \in S} x_{i}"),
        (op(Attr(S, n("A"), "T"), "@", x), r"A^{\top}\,x"),
        (Index(S, x, (Slice(S, k("2"), None), k("0"))), "x_{2:,0}"),
        (ListExpr(S, (x, y)), r"\begin{pmatrix} x \\ y \end{pmatrix}"),
        (
            ListExpr(S, (ListExpr(S, (k("0"), k("1"))), ListExpr(S, (x, y)))),
            r"\begin{pmatrix} 0 & 1 \\ x & y \end{pmatrix}",
        ),
        (
            Conditional(S, Compare(S, ("<=", "<"), (k("0"), x, k("1"))), x, y),
            r"\begin{cases} x & \text{if } 0 \le x < 1 \\ y & \text{otherwise} \end{cases}",
        ),
        (Logical(S, "and", Logical(S, "or", x, y), t), r"\left(x \lor y\right) \land t"),
        (Lambda(S, Pattern(S, ("x", "y"), "("), op(x, "*", y)), r"\left(x, y\right) \mapsto x\,y"),
        (
            Comprehension(S, op(n("h"), "^", k("2")), (Binder(S, Pattern(S, ("h",)), n("H")),), None),
            r"\left(h^{2}\right)_{h \in H}",
        ),
    ],
)
def test_expressions(expr, latex):
    assert expr_latex(expr) == latex


def test_a_differential_is_upright():
    expr = op(op(n("sigma"), "*", x), "*", n("dW"))
    assert expr_latex(expr) == r"\sigma\,x\,\mathrm{dW}"
    assert expr_latex(expr, frozenset({"dW"})) == r"\sigma\,x\,\mathrm{d}W"


def located(text):
    """Model `M` with the equations of `text`, spans included."""
    source = Source("m.ndl", text)

    def at(piece, make):
        start = text.index(piece)
        return make(Span(source, start, start + len(piece)))

    body = (
        Declare(S, "state", (DeclItem(S, "prey", S),)),
        Noise(S, "W", S, TypeName(S, "wiener")),
        Assign(
            S,
            (at("dprey", lambda s: Name(s, "dprey")),),
            at("a*dt", lambda s: Binary(s, "*", n("a"), n("dt"))),
        ),
        When(
            S,
            at("falling(prey)", lambda s: Call(s, n("falling"), (Arg(S, "positional", None, n("prey")),))),
            (Reset(S, at("v", lambda s: Name(s, "v")), at("-v", lambda s: Unary(s, "-", n("v")))),),
        ),
    )
    return Model(S, "M", S, (), (), body)


def test_equations_of_a_model():
    model = located("dprey = a*dt\nwhen falling(prey): v <- -v")
    assert equations_text(model) == "dprey = a*dt\nv     <- -v   (when falling(prey))"
    assert equations_latex(model) == (
        "\\begin{aligned}\n"
        "  \\mathrm{d}\\mathrm{prey} &= a\\,\\mathrm{d}t \\\\\n"
        "  v &\\leftarrow -v && \\text{when falling(prey)}\n"
        "\\end{aligned}"
    )
