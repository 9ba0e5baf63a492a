"""Model order reduction: the checks of Lehtimäki, Paunonen, Linne (2024), and what the pass finds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.passes.reduction.structure import structure_of
from ndl.runtime.bases import Choice, amplification, deim, gappy, interpolation, pod, qdeim

import ndl

RING = (Path(__file__).parent / "ring.ndl").read_text(encoding="utf-8")
SMALL = """
model M:
    input u: R[2]
    input x0: R[5]
    param A: R[5, 5] ~ normal(0, 0.5)
    param c: R[5] ~ normal(0, 1)
    net g: R[5] -> R[5] = MLP(width=4, depth=2)
    net head: R[5] -> R = MLP(width=3)
    state x: R[5] = x0
    state q = 0.1
    x' = tanh(A @ x + c) - 0.3*x + g(x)^2/(1 + x^2) + u[0]*c + sin(t)*x + max(x, 0)*q
    q' = mean(x^2) - q
    y = head(x)

const x0 = [1.0, 0.5, -0.3, 0.2, 0.1], u = [0.3, -0.5]
solve M(x0=x0, u=u) as full:
    span   = 0..1
    method = rk4(h=0.05)

model Same = reduce(M, pod(rank=6), deim(points=5), snapshots=full)
model Galerkin = reduce(M, pod(rank=6), snapshots=full)
model Thin = truncate(M, rank=5)
model Kept = prune(M, keep=6, by=mean_size, snapshots=full)

test "full rank is exact":
    for N in [Same, Galerkin, Thin, Kept]:
        s = solve(N(x0=x0, u=u), span=0..1, method=rk4(h=0.05))
        assert norm(s.final.x - full.final.x) < 1e-12
        assert abs(s.final.q - full.final.q) < 1e-12
        assert abs(s.final.y - full.final.y) < 1e-12

test "coordinates and states":
    s = solve(Same(x0=x0, u=u), span=0..1, method=rk4(h=0.05))
    joined = concat(full.final.x, full.final.q)
    assert norm(Same.lift(s.final.z) - joined) < 1e-12
    assert norm(Same.project(joined) - s.final.z) < 1e-12
"""


def passes(program) -> None:
    for result in program.test():
        assert result.passed, result.message


def test_full_rank_is_exact_for_every_way_of_making_a_model_smaller() -> None:
    """Two states, a net, numbers that spread over places, time, a break: elementwise maps over affine
    ones."""
    passes(ndl.loads(SMALL))


@pytest.fixture(scope="module")
def ring():
    return ndl.loads(RING)


def test_no_work_of_the_full_size_is_left_in_the_rates(ring) -> None:
    sizes = [n for node in ring.ir("Fast8").drift.graph for n in node.type.extents]
    assert max(sizes) == 8


def test_the_ring_of_neurons_follows_with_the_errors_of_the_card(ring) -> None:
    """Mean relative error at the end of 20 held-out runs, within a factor of 2 of 5.3e-2, 6.9e-4, 2.5e-4."""
    passes(ring)


def test_the_bound_of_the_interpolation_is_a_fact(ring) -> None:
    facts = dict(ring.facts("Fast8"))
    found = re.search(r"\|\|\(P\^T U\)\^-1\|\| is ([\d.]+)", facts["map h"])
    assert found and 1 <= float(found[1]) < 15


def test_a_matrix_of_low_rank_is_where_truncation_wins() -> None:
    """A of rank 3 and white initial states: truncation is exact, POD poor. The counter-example of the
    card."""
    passes(
        ndl.loads("""
const L: R[24, 3] ~ normal(0, 0.3), W: R[3, 24] ~ normal(0, 0.3), x0: R[40, 24] ~ normal(0, 1)
model M:
    input x0: R[24]
    param A: R[24, 24] = 0
    state x: R[24] = x0
    x' = tanh(A @ x)
solve M(A=L @ W, x0=x0) as full:
    span = 0..1
    method = rk4(h=0.1)
    ensemble = 40
model Thin = truncate(M(A=L @ W), rank=3)
model Fast = reduce(M(A=L @ W), pod(rank=3), deim(points=3), snapshots=full)
test "truncation":
    a = solve(Thin(x0=x0), span=0..1, method=rk4(h=0.1), ensemble=40)
    b = solve(Fast(x0=x0), span=0..1, method=rk4(h=0.1), ensemble=40)
    assert rel_l2(a.final.x, full.final.x) < 1e-12
    assert rel_l2(b.final.x, full.final.x) > 0.5
""")
    )


def test_a_softmax_is_refused_by_name() -> None:
    program = ndl.loads("""
model M:
    param A: R[4, 4] ~ normal(0, 1)
    state x: R[4] = [1.0, 2, 3, 4]
    x' = softmax(A @ x)
solve M as full:
    span = 0..1
    method = rk4(h=0.1)
model Fast = reduce(M, pod(rank=2), deim(points=2))
""")
    with pytest.raises(NDLError) as trouble:
        _ = program.models
    assert trouble.value.diagnostics[0].code == "NDL670"
    assert "`softmax(A @ x)`" in trouble.value.diagnostics[0].message


def test_an_elementwise_chain_is_one_map_and_what_leads_out_of_it_is_not() -> None:
    program = ndl.loads("""
model M:
    param A: R[3, 3] ~ normal(0, 1)
    state x: R[3] = 1.0
    x' = -0.5*(2*tanh(A @ x) + 1)*x + 3*sigmoid(x)
""")
    found = structure_of(program.ir("M").drift, "M")
    assert sorted(found.graph[r.root.id].op for r in found.regions) == ["mul", "sigmoid"]


def basis(n: int, m: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(n, m, generator=g, dtype=torch.float64))[0]


@pytest.mark.parametrize("rule", [deim, qdeim])
def test_interpolation_is_exact_at_its_points_and_on_its_basis_and_keeps_its_bound(rule) -> None:
    u = basis(40, 7)
    p = rule(u)
    assert len(set(p.tolist())) == 7
    e = interpolation(u, p)
    f = torch.randn(40, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert (e @ f[p] - f)[p].abs().max() < 1e-13
    assert (e @ u[p] - u).abs().max() < 1e-13
    error = (e @ f[p] - f).norm(dim=0)
    assert bool((error <= amplification(u, p) * (f - u @ (u.mT @ f)).norm(dim=0) * (1 + 1e-12)).all())


def test_gappy_points_are_least_squares() -> None:
    """Twice as many points as vectors: the fit of NumPy's lstsq, exact on the basis, steadier than DEIM."""
    u = basis(40, 7)
    p = gappy(u, 14)
    assert len(set(p.tolist())) == 14 and set(qdeim(u).tolist()) <= set(p.tolist())
    e = interpolation(u, p)
    f = torch.randn(40, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fit = np.linalg.lstsq(u[p].numpy(), f[p].numpy(), rcond=None)[0]
    assert np.abs((e @ f[p]).numpy() - u.numpy() @ fit).max() < 1e-12
    assert (e @ u[p] - u).abs().max() < 1e-13
    assert amplification(u, p) < min(amplification(u, deim(u)), amplification(u, qdeim(u)))
    error = (e @ f[p] - f).norm(dim=0)
    assert bool((error <= amplification(u, p) * (f - u @ (u.mT @ f)).norm(dim=0) * (1 + 1e-12)).all())


def test_q_deim_has_the_pivots_of_scipy() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    u = basis(40, 7)
    _, _, pivots = linalg.qr(u.mT.numpy(), pivoting=True)
    assert qdeim(u).tolist() == pivots[:7].tolist()


def test_a_rank_by_energy_or_tolerance() -> None:
    """Singular values 1, 1e-1, 1e-2, 1e-3."""
    s = torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64)
    x = basis(8, 4) * s
    assert pod(x, Choice(energy=0.9999)).rank == 2
    assert pod(x, Choice(tol=2e-3)).rank == 3
    assert pod(x, Choice(rank=6)).vectors.shape == (8, 6)
    full = pod(x, Choice(rank=6)).vectors
    assert np.allclose(full.mT @ full, np.eye(6), atol=1e-13)
