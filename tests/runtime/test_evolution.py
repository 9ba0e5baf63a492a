"""Symbolic regression: the engine by itself, and `expression` with `evolution` in programs."""

from __future__ import annotations

import numpy as np
import pytest
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.evolution import Found, Search, Settings, Squares, best_score, scores
from ndl.runtime.fitted_formulas import bfgs
from ndl.runtime.formulas import C, canonical, constants, number, size, text, values, with_slopes

import ndl

X, Y = ("x", 0), ("x", 1)
POINTS = np.random.default_rng(0).uniform(0.1, 3, (2, 100))


def search(target, primitives=("add", "mul", "div"), seed=0, rounds=8) -> Search:
    found = Search(
        Squares(POINTS, target, np.full(100, 0.01)),
        2,
        primitives,
        7,
        Settings(population=20, populations=4),
        seed,
    )
    for _ in range(rounds):
        found.round()
        if found.front()[-1].loss <= found.floor:
            break
    return found


@pytest.mark.parametrize("sign", [1, -1])
def test_the_fractions_of_the_card_are_found(sign) -> None:
    """y/(1 + y) and -x/(1 + x), of Kidger's thesis, section 6.1."""
    z = POINTS[1] if sign > 0 else POINTS[0]
    found = search(sign * z / (1 + z)).chosen()
    grid = np.linspace(0.2, 9, 50) * np.ones((2, 1))  # beyond the points of the search too
    assert np.allclose(
        values(found.genome[0], grid, found.constants), sign * grid[0] / (1 + grid[0]), atol=1e-12
    )
    assert all(float(c).is_integer() for c in found.constants)


def test_a_search_is_a_function_of_its_seed() -> None:
    target = -0.9 * POINTS[0] * POINTS[1]
    runs = [search(target, ("add", "mul"), seed=k, rounds=2) for k in (3, 3, 4)]
    fronts = [[(f.genome, tuple(f.constants), f.loss) for f in r.front()] for r in runs]
    assert fronts[0] == fronts[1]
    assert runs[0].known.keys() != runs[2].known.keys()


def test_constants_have_the_slopes_of_finite_differences() -> None:
    tree = ("div", ("mul", C, ("tanh", ("add", C, X))), ("add", C, ("exp", ("neg", ("mul", C, Y)))))
    c, h = np.array([0.7, -0.3, 1.4, 0.2]), 1e-6
    f, slopes = with_slopes(tree, POINTS, c)
    assert np.array_equal(f, values(tree, POINTS, c))
    for k, s in enumerate(slopes):
        step = h * np.eye(4)[k]
        difference = (values(tree, POINTS, c + step) - values(tree, POINTS, c - step)) / (2 * h)
        assert np.allclose(s, difference, atol=1e-8)


def test_equal_trees_share_a_form() -> None:
    assert canonical(("mul", Y, ("mul", C, ("mul", X, C)))) == canonical(("mul", ("mul", X, C), Y))
    assert canonical(("sub", X, X)) == canonical(("exp", C)) == C
    assert canonical(("neg", ("neg", X))) == X
    assert canonical(("div", X, ("mul", C, Y))) == ("div", ("mul", C, X), Y)
    assert size(("add", X, ("neg", C))) == 4 and constants(("add", C, C)) == 2


def test_text_reads_back() -> None:
    tree = ("sub", ("mul", C, ("div", X, ("add", C, Y))), ("sub", X, ("neg", ("tanh", Y))))
    shown = text(tree, ["x", "y"], [-0.5, 1.0])
    program = ndl.loads(f"""
fn f(x, y) = {shown}
test "the same":
    assert abs(f(0.3, 0.8) - {number(float(values(tree, np.array([0.3, 0.8]), [-0.5, 1.0])))}) < 1e-15
""")
    for result in program.test():
        assert result.passed, result


def test_the_score_is_the_fall_of_the_loss_for_a_node() -> None:
    front = [Found((X,), np.zeros(0), n, loss) for n, loss in ((1, 1.0), (3, 0.5), (5, 1e-6), (7, 0.9e-6))]
    assert np.allclose(scores(front, 1e-30), [0, np.log(2) / 2, np.log(5e5) / 2, np.log(1 / 0.9) / 2])
    assert best_score(front, 1e-30) == 2


PROGRAM = """
model Truth:
    state x = 0.44, y = 4.63
    x' = 1.3*x - 0.9*x*y
    y' = -1.8*y + 0.8*x*y

model LV:
    net F: (R, R) -> R[2] = MLP(width=4)
    state x = 0.44, y = 4.63
    x', y' = [1.3*x, -1.8*y] + F(x, y)

solve Truth as truth:
    span   = 0..3
    method = tsit5(rtol=1e-9, atol=1e-9)
    save   = every 0.1

net formula: (R, R) -> R[2] = expression(size=5, primitives=[add, mul])

train formula as discovery:
    data = truth
    wanted = [[-0.9*data.x[i]*data.y[i], 0.8*data.x[i]*data.y[i]] for i in 0..30]
    loss = LOSS
    optimizer = evolution(population=10, populations=4)
    steps = 6

model Found = LV(F=discovery.model)

test "the formula takes the place of the net":
    s = solve(Found, span=0..3, method=tsit5(rtol=1e-9, atol=1e-9))
    assert abs(s.final.x - truth.final.x) < 1e-7
    assert abs(formula(2, 3)[0] + 5.4) < 1e-9 and abs(discovery.model(2, 3)[1] - 4.8) < 1e-9
"""


@pytest.mark.parametrize("loss", ["mean((formula(data.x, data.y) - wanted)^2) + 1e-7*size(formula)"])
def test_a_formula_is_found_and_stands_in_a_model(loss, tmp_path, ndl) -> None:
    path = tmp_path / "p.ndl"
    path.write_text(PROGRAM.replace("LOSS", loss), encoding="utf-8")
    done = ndl("test", path)
    assert done.code == 0, done.text
    shown = ndl("show", "--model", "Found", path)
    assert "x', y' = [1.3*x, -1.8*y] + [-0.9*x*y, 0.8*x*y]" in shown.out


def test_an_unknown_primitive_is_named() -> None:
    program = ndl.loads("""
net f: (R, R) -> R = expression(size=5, primitives=[add, gamma])
train f as search:
    loss = f(1.0, 2.0)^2
""")
    with pytest.raises(NDLError) as trouble:
        program.run()
    assert trouble.value.diagnostics[0].code == "NDL680"


WITHIN = """
model Truth:
    state x = 0.2
    x' = 1.5*x - 0.6*x*x

solve Truth as records:
    span   = 0..3
    method = tsit5(rtol=1e-8, atol=1e-10)
    save   = every 0.5

model Grow:
    param r: R = 1.0
    net F: R -> R = expression(size=5, primitives=[mul])
    state x = 0.2
    x' = r*x + F(x)

train Grow as search:
    data      = records
    method    = rk4(h=0.25)
    loss      = mean((x - data.x)^2)
    optimizer = evolution(population=8, populations=2, mutations=8, starts=1)
    steps     = 4
"""


def test_a_formula_is_found_inside_the_training_of_its_model() -> None:
    """With a parameter of the model fitted beside its constants; the result is a model like any other."""
    program = ndl.loads(
        WITHIN
        + """
test "found":
    s = solve(search.model, span=0..3, method=tsit5(rtol=1e-8, atol=1e-10))
    assert abs(s.final.x - records.final.x) < 0.01
    assert abs(search.model.r - 1.5) < 0.001 and abs(search.model.F(2.0) + 2.4) < 0.005
"""
    )
    for result in program.test():
        assert result.passed, result


def test_quasi_newton_steps_find_the_least_value() -> None:
    """Rosenbrock's valley from its usual start, with no value beyond x = 2."""

    def valley(x):
        if x[0] > 2:
            return float("inf"), np.zeros(2)
        a, b = 1 - x[0], x[1] - x[0] ** 2
        return a * a + 100 * b * b, np.array([-2 * a - 400 * b * x[0], 200 * b])

    least, where = bfgs(valley, np.array([-1.2, 1.0]), 60)
    assert least < 1e-12 and np.allclose(where, 1, atol=1e-5)


@pytest.mark.parametrize(
    "old, new, code",
    [
        ("    steps     = 4\n", "    batch     = 2\n", "NDL457"),
        ("expression(size=5, primitives=[mul])", "MLP(width=2)", "NDL457"),
        (
            "optimizer = evolution(population=8, populations=2, mutations=8, starts=1)",
            "optimizer = adam()",
            "NDL456",
        ),
    ],
)
def test_searches_that_cannot_be(old: str, new: str, code: str) -> None:
    with pytest.raises(NDLError) as trouble:
        ndl.loads(WITHIN.replace(old, new)).run()
    assert trouble.value.diagnostics[0].code == code and trouble.value.diagnostics[0].span.line
