"""Matrices that have no inverse, root or solution: a run names the place, and others go on."""

from __future__ import annotations

import pytest
import torch
from ndl.runtime import ops

import ndl

MODEL = """
model Turns:
    param a = 1.0
    state x: R[2] = 0.5
    x' = {what} @ x
"""


@pytest.mark.parametrize("what", ["inv([[a - t, 0.0], [0.0, 1.0]])", "cholesky([[a - t, 0.0], [0.0, 1.0]])"])
@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_the_member_the_time_and_the_place_are_told(what: str, backend: str) -> None:
    model = ndl.loads(MODEL.format(what=what)).Turns()
    members = model.bind(a=torch.tensor([9.0, 1.25], dtype=torch.float64))
    with pytest.raises(ndl.RunFailed) as found:
        ndl.solve(members, span=(0, 2), method="euler(h=0.25)", backend=backend, save="end")
    assert "stopped near t = 1.25 (member 1)" in str(found.value)
    assert f"the first value that is not finite is `{what}` = nan, on line 5" in str(found.value)


def test_constants_without_a_value_are_told_where_they_stand() -> None:
    program = ndl.loads("const B = inv([[1, 1], [1, 1]])\n" + MODEL.format(what="B"))
    with pytest.raises(ndl.RunFailed, match=r"`inv\(\[\[1, 1\], \[1, 1\]\]\)` = nan, on line 1"):
        ndl.solve(program.Turns(), span=(0, 1), method="euler(h=0.5)")


def test_the_others_of_a_batch_are_as_they_were() -> None:
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(4, 3, 3, dtype=torch.float64, generator=generator)
    S = A @ A.mT + torch.eye(3)
    S[2, 0, 0] = -1.0
    A[1, 2] = A[1, 0]
    A = A.requires_grad_()
    for found, right, bad in (
        (ops.inverse(A), torch.linalg.inv_ex(A)[0], 1),
        (ops.solve_columns(A, S), torch.linalg.solve_ex(A, S)[0], 1),
        (ops.cholesky(S), torch.linalg.cholesky_ex(S)[0], 2),
    ):
        assert found[bad].isnan().all()
        rest = [k for k in range(4) if k != bad]
        assert torch.equal(found[rest], right[rest])
    (g,) = torch.autograd.grad(ops.inverse(A)[[0, 2, 3]].sum(), A)
    assert g[[0, 2, 3]].isfinite().all()
