"""`linearize(M, x)` as a map: against matrices by derivatives, NumPy, SciPy, closed forms and differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.source import Source
from ndl.compiler.syntax.parser import parse_expression
from ndl.runtime import map_functions
from ndl.runtime.map_functions import Kind
from ndl.runtime.matrix_free import LinearOperator, Scaled

import ndl
from ndl.host.maps import HostMap

MODELS = """
domain Box = interval(x in 0..1, y in 0..1)
domain Ring = periodic(x in 0..1)

model Plate:
    param k = 1.3
    state p: R on Box = 0
    0 = -div((1 + k*x*y)*grad(p)) + p^2 - 1
    on boundary(Box): p = 0

model Mixed:
    param k = 1.3
    state p: R on Box = 0
    0 = k*lap(p) - 1
    on left(Box): p = 2
    on right(Box): dn(p) = 0
    on bottom(Box): dn(p) = 0
    on top(Box): dn(p) + p = 0

model Carried:
    param k = 1.3
    state p: R on Box = 0
    p' = k*lap(p) + 5*dx(p)
    on boundary(Box): p = 0

model Wave:
    param k = 1.3
    state p: R on Ring = sin(2*pi*x)
    p' = k*lap(p) - p^3

model Vector:
    param k = 1.3
    state p: R[3] = [1, 2, 0.5]
    state q = 2.0
    p' = [k*p[0]*p[1], p[2]^2 - q, exp(p[0])]
    q' = p[0]
"""
CASES = [
    ("Plate", "uniform(7, 6)"),
    ("Mixed", "uniform(6, 5)"),
    ("Mixed", "fem(size=0.3)"),
    ("Carried", "uniform(6, 6)"),
    ("Carried", "chebyshev(6, 6)"),
    ("Wave", "fourier(9)"),
    ("Vector", ""),
]


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(MODELS)


def operator(program: Any, name: str, grid: str, k: Any = None) -> LinearOperator:
    """The map of a model about its initial state, moved away from it a little."""
    more = f", grid={grid}" if grid else ""
    host, scope = program.host, program.checked.module.scope
    formula, _ = parse_expression(Source("t", f"linearize({name}, p{more})"))
    map_ = host.ev.eval(formula, scope)
    assert isinstance(map_, HostMap)
    found: Any = map_.operator(None)
    n = torch.arange(len(found.x))
    found.x = found.x + 0.1 * torch.cos(n * n + 0.5).double()
    return found


def matrix(A: Any) -> tuple[np.ndarray, np.ndarray]:
    """The matrix of the free values by derivatives of the whole residual, and their places."""
    free = A.space.free.numpy()
    J = torch.func.jacrev(lambda x: A.model.vector_field(torch.zeros(()), x))(A.x).detach().numpy()
    at = np.arange(A.state.places.start, A.state.places.stop)[free]
    inside = J[np.ix_(at, at)]
    return (np.linalg.solve(A.space.matrix.toarray(), inside) if A.tested else inside), free


@pytest.mark.parametrize(("name", "grid"), CASES)
def test_products_transposes_and_inverses_are_those_of_the_jacobian(
    program: Any, name: str, grid: str
) -> None:
    A: Any = operator(program, name, grid)
    J, free = matrix(A)
    v = A.space.vector(torch.cos(torch.arange(A.space.n, dtype=torch.float64) ** 2).reshape(A.space.shape))
    W = A.space.matrix.toarray()
    inside = v[free].numpy()
    adjoint = np.linalg.solve(W, J.T @ W)
    near = {"rtol": 1e-8, "atol": 1e-9 * np.abs(J).max()}
    np.testing.assert_allclose(A.act(v)[free].detach().numpy(), J @ inside, **near)
    np.testing.assert_allclose(A.transposed().act(v)[free].detach().numpy(), adjoint @ inside, **near)
    with torch.no_grad():
        np.testing.assert_allclose(A.act(v)[free].numpy(), J @ inside, **near)
    for B, M in ((A, J), (A.transposed(), adjoint)):
        found = B.inverse.act(v)
        np.testing.assert_allclose(
            found[free].detach().numpy(), np.linalg.solve(M, inside), rtol=1e-7, atol=1e-8
        )
        assert not bool(found[~A.space.free].any())
    found = map_functions.apply(Scaled(0.01, A), Kind("exp"), v)
    wanted = scipy.linalg.expm(0.01 * J) @ inside
    np.testing.assert_allclose(found[free].detach().numpy(), wanted, rtol=1e-9, atol=1e-10)
    assert A.symmetric == bool(np.abs(J - adjoint).max() < 1e-9 * np.abs(J).max())


def test_powers_and_eigenvalues_by_scipy(program: Any) -> None:
    A: Any = operator(program, "Plate", "uniform(7, 6)")
    J, free = matrix(A)
    v = A.space.vector(torch.cos(torch.arange(A.space.n, dtype=torch.float64)).reshape(A.space.shape))
    for s in (0.5, -0.7):
        found = map_functions.apply(A, Kind("^", s), v)[free].detach().numpy()
        np.testing.assert_allclose(
            found, scipy.linalg.fractional_matrix_power(J, s) @ v[free].numpy(), rtol=1e-9
        )
    values, vectors = map_functions.eigenpairs(A, 3)
    np.testing.assert_allclose(values.detach().numpy(), np.sort(np.linalg.eigvals(J).real)[:3], rtol=1e-11)
    large = operator(program, "Mixed", "uniform(13, 13)")
    J, free = matrix(large)
    values, vectors = map_functions.eigenpairs(large, 4)
    exact = np.linalg.eigvals(J).real
    np.testing.assert_allclose(values.detach().numpy(), exact[np.argsort(np.abs(exact))][:4], rtol=1e-9)
    torch.testing.assert_close(large.act(vectors), values[:, None] * vectors, rtol=0, atol=1e-8)


@pytest.mark.parametrize("what", ["product", "inverse", "power", "exponential", "carried", "values"])
def test_gradients_are_those_of_differences(program: Any, what: str) -> None:
    A: Any = operator(program, "Carried" if what == "carried" else "Plate", "uniform(6, 5)")
    model, n = A.model, A.space.n
    w = torch.sin(torch.arange(n, dtype=torch.float64))

    def value(k: torch.Tensor, v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        B = type(A)(model.bind(k=k), A.state, A.x, A.space)
        if what == "values":
            return map_functions.eigenpairs(B, 3)[0] @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        found = {
            "product": lambda: B.act(v),
            "inverse": lambda: 100 * B.inverse.act(v),
            "power": lambda: map_functions.apply(B, Kind("^", s), v),
            "exponential": lambda: map_functions.apply(Scaled(-0.02 * s, B), Kind("exp"), v),
            "carried": lambda: map_functions.apply(Scaled(0.02 * s, B), Kind("exp"), v),
        }[what]()
        return found @ w

    at = [
        torch.tensor(1.3),
        A.space.vector(torch.cos(torch.arange(n, dtype=torch.float64)).reshape(A.space.shape)),
        torch.tensor(0.4),
    ]
    leaves = [x.double().requires_grad_() for x in at]
    slopes = torch.autograd.grad(value(*leaves), leaves, allow_unused=True)
    turned = A.space.vector(torch.sin(torch.arange(n, dtype=torch.float64) ** 2).reshape(A.space.shape))
    for j, way in enumerate((torch.tensor(1.0), turned, torch.tensor(1.0))):
        with torch.no_grad():
            ends = [
                value(*(x + e * way if i == j else x for i, x in enumerate(leaves))) for e in (1e-5, -1e-5)
            ]
        slope = slopes[j]
        mine = 0.0 if slope is None else float((slope * way).sum())
        assert mine == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=2e-6, abs=1e-7)


def test_maps_in_a_program() -> None:
    text = (
        MODELS
        + """
const A = linearize(Vector, p)
const M = [[0.0, 1, 0], [2, 0, 0], [0, 0, 3]]
net U: R on Box -> R on Box = Scale()

operator Scale(v: R on S) -> R on S:
    param a = 0.0
    return a*v

train U as fitted:
    grid = uniform(9, 9)
    B = linearize(Plate(k=0), p)
    b = [[sin(pi*i/8)*sin(pi*j/8) for j in 0..8] for i in 0..8]
    loss = mean((B @ U(b) - b)^2)
    optimizer = lbfgs()
    precision = float64
    steps = 3

test "sums, products and functions":
    v = [1, -1, 2]
    J = [[1.3*2, 1.3, 0], [0, 0, 1], [e, 0, 0]]
    assert max(abs(A @ v - J @ v)) < 1e-12 and max(abs(A.T @ v - J.T @ v)) < 1e-12
    assert max(abs((A + 2*M) @ v - (J + 2*M) @ v)) < 1e-12
    assert max(abs((A @ A - 3*identity) @ v - J @ J @ v + 3*v)) < 1e-12
    assert max(abs(((A.T @ A)^0.5 @ ((A.T @ A)^0.5 @ v)) - J.T @ J @ v)) < 1e-10
    assert max(abs((A + (u -> 2*u[0]*[1, 1, 1]))^-1 @ v - (J + 2*outer([1, 1, 1], [1, 0, 0]))^-1 @ v)) < 1e-10
    assert abs(norm(v, A.T @ A) - norm(J @ v)) < 1e-12

test "eigenvalues of matrices":
    w, v = eig([[2, 1], [1, 3]])
    assert abs(w[0]*w[1] - 5) < 1e-12 and max(abs([[2, 1], [1, 3]] @ v[1] - w[1]*v[1])) < 1e-12
    w, v = eig([[0, 1], [-1, 0]])
    assert max(abs(w - [-1i, 1i])) < 1e-12

test "a loss with a map":
    r = train(fitted)
    b = [[sin(pi*i/8)*sin(pi*j/8) for j in 0..8] for i in 0..8]
    assert abs(r.model(b)[4, 4]*8*64*sin(pi/16)^2 - 1) < 1e-9
"""
    )
    for result in ndl.loads(text).test():
        assert result.passed, result.message


@pytest.mark.parametrize(
    ("formula", "code"),
    [
        ("linearize(Vector, r) @ [1, 2, 3]", "NDL470"),
        ("linearize(2, p) @ [1, 2, 3]", "NDL470"),
        ("linearize(Vector, p) @ [1, 2]", "NDL471"),
        ("linearize(Vector, p)^0.5 @ [1, 2, 3]", "NDL472"),
        ("eig(linearize(Carried, p, grid=uniform(5, 5)), 2)", "NDL472"),
        ("(linearize(Vector, p) - (v -> linearize(Vector, p) @ v))^-1 @ [1, 2, 3]", "NDL473"),
        ("eig(linearize(Plate, p, grid=uniform(5, 5)))", "NDL474"),
        ("eig(linearize(Plate, p, grid=uniform(5, 5)), 99)", "NDL474"),
        ("(linearize(Vector, p) + (v -> v^2)) @ [1, 2, 3]", "NDL475"),
        ("linearize(Plate, p) + 2", "NDL317"),
        ("eig(linearize(Plate, p), 2)", "NDL440"),
    ],
)
def test_what_has_no_meaning_says_so(formula: str, code: str) -> None:
    try:
        (result,) = ndl.loads(f'{MODELS}\ntest "it":\n    a = {formula}\n').test()
        said = result.message
    except NDLError as error:
        said = str(error)
    assert code in said
