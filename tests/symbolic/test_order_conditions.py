"""Orders of tableaux against published methods, and what a wrong coefficient is told."""

import math
import subprocess
import sys
from fractions import Fraction as F

import pytest
from ndl.compiler.source import Source, Span
from ndl.compiler.symbolic.order_conditions import Coefficients, check_tableau, coefficients, order_of
from ndl.compiler.symbolic.rooted_trees import condition_text, density, size, tree_text, trees
from ndl.compiler.syntax.tree import Tableau, TableauRow


def test_numbers_of_rooted_trees():
    # OEIS A000081
    assert [len(trees(n)) for n in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]
    assert all(size(t) == n for n in range(1, 9) for t in trees(n))
    assert len({t for n in range(1, 9) for t in trees(n)}) == 200


def test_densities_sum_as_hook_lengths_must():
    # n!/γ(t)/|Aut(t)| counts the increasing labellings of t; over all trees they are (n-1)!.
    for n in range(1, 8):
        assert sum(F(math.factorial(n), density(t) * automorphisms(t)) for t in trees(n)) == math.factorial(
            n - 1
        )


def automorphisms(t):
    total = 1
    for child in set(t):
        total *= math.factorial(t.count(child)) * automorphisms(child) ** t.count(child)
    return total


def test_a_condition_reads_as_in_a_textbook():
    assert condition_text(()) == "Σ b_i = 1"
    assert condition_text(((), ((),))) == "Σ b_i c_i a_ij c_j = 1/8"
    assert condition_text(((), ())) == "Σ b_i c_i^2 = 1/3"
    assert tree_text(((), ((),))) == "[τ, [τ]]"


def rows(text):
    """A tableau from lines `c | a…` and, after `--`, output rows."""
    above, below = text.split("--")
    read = lambda line: tuple(F(v) for v in line.split())  # noqa: E731
    stages = [line.split("|") for line in above.strip().splitlines()]
    return (
        [F(c) for c, _ in stages],
        [read(a) for _, a in stages],
        [read(line) for line in below.strip().splitlines()],
    )


def tableau(text):
    c, a, outputs = rows(text)
    source = Source("solver.ndl", "solver s for ode order 9(9):\n" + text)
    span = Span(source, 0, 6)
    return Tableau(
        span,
        tuple(TableauRow(span, ci, ai) for ci, ai in zip(c, a, strict=True)),
        tuple(TableauRow(span, None, b) for b in outputs),
    )


EULER = "0 |\n--\n1"
RK4 = "0|\n1/2|1/2\n1/2|0 1/2\n1|0 0 1\n--\n1/6 1/3 1/3 1/6"
BOSH3 = "0|\n1/2|1/2\n3/4|0 3/4\n1|2/9 1/3 4/9\n--\n2/9 1/3 4/9 0\n7/24 1/4 1/3 1/8"
DOPRI5 = """0|
1/5|1/5
3/10|3/40 9/40
4/5|44/45 -56/15 32/9
8/9|19372/6561 -25360/2187 64448/6561 -212/729
1|9017/3168 -355/33 46732/5247 49/176 -5103/18656
1|35/384 0 500/1113 125/192 -2187/6784 11/84
--
35/384 0 500/1113 125/192 -2187/6784 11/84 0
5179/57600 0 7571/16695 393/640 -92097/339200 187/2100 1/40"""
TRAPEZOIDAL = "0|0 0\n1|1/2 1/2\n--\n1/2 1/2"
RADAU2 = "1/3|5/12 -1/12\n1|3/4 1/4\n--\n3/4 1/4"
LOBATTO3C = "0|1/6 -1/3 1/6\n1/2|1/6 5/12 -1/12\n1|1/6 2/3 1/6\n--\n1/6 2/3 1/6"


@pytest.mark.parametrize(
    "text, order, embedded",
    [
        (EULER, 1, None),
        (RK4, 4, None),
        (BOSH3, 3, 2),
        (DOPRI5, 5, 4),
        (TRAPEZOIDAL, 2, None),
        (RADAU2, 3, None),
        (LOBATTO3C, 4, None),
    ],
)
def test_exact_tableaux_have_their_published_orders(text, order, embedded):
    read = coefficients(tableau(text))
    assert isinstance(read, Coefficients)
    verdict = order_of(read.a, read.b)
    assert verdict.order == order
    assert size(verdict.violated.tree) == order + 1
    assert (read.b_hat is None) == (embedded is None)
    if embedded is not None:
        assert order_of(read.a, read.b_hat).order == embedded
    assert check_tableau("s", order, embedded, tableau(text), Span()) == []


def gauss(stages):
    """Collocation at the Gauss points, in floats: order 2s."""
    import numpy as np

    points, weights = np.polynomial.legendre.leggauss(stages)
    c = (points + 1) / 2
    powers = np.vander(c, increasing=True)
    a = (c[:, None] ** np.arange(1, stages + 1) / np.arange(1, stages + 1)) @ np.linalg.inv(powers)
    return a.tolist(), (weights / 2).tolist()


@pytest.mark.parametrize("stages, order", [(1, 2), (2, 4), (3, 6), (4, 8)])
def test_rounded_implicit_tableaux(stages, order):
    assert order_of(*gauss(stages)).order == order


def scipy_dop853():
    from scipy.integrate._ivp import dop853_coefficients as published

    return published.A[:12, :12].tolist(), published.B.tolist()


def test_order_eight_of_a_published_method():
    a, b = scipy_dop853()
    assert order_of(a, b).order == 8


@pytest.mark.parametrize("i, j", [(5, 3), (8, 0), (11, 10)])
def test_order_eight_notices_a_wrong_digit(i, j):
    a, b = scipy_dop853()
    a[i][j] *= 1 + 1e-8
    assert order_of(a, b).order < 8


def test_decimals_are_trusted_to_their_last_digit():
    third = F("0.333333333333")
    assert order_of([[0, 0], [F(2, 3), 0]], [F(1, 4), F(3, 4)]).order == 2
    assert order_of([[third]], [F(1)]).order == 1
    ralston = [[F(0), F(0)], [F("0.666666666667"), F(0)]], [F(1, 4), F(3, 4)]
    assert order_of(*ralston).order == 2
    ralston[0][1][0] = F("0.666666666767")
    assert order_of(*ralston).order == 1


def test_a_false_claim_names_both_orders_and_the_condition():
    broken = tableau("0|\n1|1\n1/2|1/2 0\n--\n1/6 1/6 2/3")
    span = Span(broken.span.source, 23, 24)
    (found,) = check_tableau("broken", 3, None, broken, span)
    assert found.code == "NDL450" and found.span == span
    assert found.message == "`broken` claims order 3 but its tableau has order 2"
    assert "Σ b_i a_ij c_j = 1/6" in found.notes[0] and "[[τ]]" in found.notes[0]
    assert check_tableau("broken", 2, None, broken, span) == []


def test_a_false_embedded_claim():
    (found,) = check_tableau("bosh3", 3, 3, tableau(BOSH3), Span())
    assert found.message == "`bosh3` claims embedded order 3 but the embedded row of its tableau has order 2"


def test_nodes_are_row_sums():
    (found,) = check_tableau("s", 1, None, tableau("0|\n1/2|1\n--\n1/2 1/2"), Span())
    assert found.code == "NDL451" and "sum to 1, the node is 1/2" in found.text


@pytest.mark.parametrize("text", ["0|\n1/2|\n--\n0 1", "0|\n1/2|1/2\n--\n1", "0|1 2 3\n--\n1"])
def test_a_misshapen_tableau_is_refused(text):
    (found,) = check_tableau("s", 1, None, tableau(text), Span())
    assert found.code == "NDL452"


def test_it_needs_neither_sympy_nor_torch():
    code = (
        "import sys, ndl.compiler.symbolic.order_conditions as o; o.order_of([[0]], [1]);"
        "sys.exit(any(m in sys.modules for m in ('sympy', 'torch', 'numpy', 'networkx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
