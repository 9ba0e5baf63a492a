"""Memory: kept between training steps, changed once after each, frozen otherwise, without a gradient."""

from __future__ import annotations

import torch
from programs import check, load, refused

NORM = """
operator Norm(x: R[c]; keep = 0.9) -> R[c]:
    state m: R[c] = 0
    state v: R[c] = 1
    m <- keep*m + (1 - keep)*batch_mean(x)
    v <- keep*v + (1 - keep)*batch_var(x)
    return if training then (x - batch_mean(x))/sqrt(batch_var(x) + 1e-5) else (x - m)/sqrt(v + 1e-5)

operator Net(x: R[2]) -> R[1]:
    param w: R[1, 2] = 1
    return w @ Norm()(x)

net f: R[2] -> R[1] = Net()
"""


def test_memory_changes_after_a_training_step_only() -> None:
    program = load(NORM + '\ntest "t":\n    assert max(abs(f([1.0, 2.0]))) < 10\n')
    assert all(r.passed for r in program.test())
    net = next(iter(program.host.nets.values()))
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    still = net(x)
    net.train()
    y = net(x)
    assert torch.allclose(y, torch.tensor([[-2.0], [2.0]], dtype=torch.float64), atol=1e-4)
    assert torch.equal(net.norm.m, torch.zeros(2, dtype=torch.float64))
    net.settle()
    assert torch.allclose(net.norm.m, torch.tensor([0.2, 0.4], dtype=torch.float64))
    assert torch.allclose(net.norm.v, 0.9 + 0.1 * torch.tensor([1.0, 4.0], dtype=torch.float64))
    net.eval()
    moved = net(x)
    net.settle()
    assert not torch.equal(moved, still) and torch.equal(net(x), moved)
    assert "norm.m" in dict(net.named_buffers()) and "norm.m" not in dict(net.named_parameters())


BLOCK = """
model Decay:
    param k = 1.0
    state x = 1.0
    x' = -k*x

train Decay as first:
    data      = solve(Decay(k=2), span=0..1, save=every 0.5, method=rk4(h=0.5))
    state seen = 0.0
    state last: R[2] = 3.0
    loss      = mean((x - data.x)^2) + 0*sum(last)
    seen     <- seen + 1
    last     <- [seen, k]
    method    = rk4(h=0.5)
    optimizer = sgd(lr=0)
    steps     = 4
"""


def test_memory_of_a_block_reads_the_values_before_the_step() -> None:
    program = load(BLOCK)
    program.run()
    trained = next(iter(program.host.named.values()), None)
    found = trained.last.memory.values if trained is not None else None
    assert found is not None
    assert float(found["seen"]) == 4
    assert found["last"].tolist() == [3.0, 1.0]


def test_what_memory_cannot_do_is_said() -> None:
    model = "\nmodel M:\n    net g: R[2] -> R[2] = Norm()\n    state x: R[2] = 1\n    x' = g(x)\n"
    field = refused(NORM + model + '\ntest "t":\n    s = solve(M, span=0..1)\n')
    assert (field.code, field.span.text) == ("NDL432", "g(x)")
    stranger = "operator A(x: R) -> R:\n    param m = 0.0\n    m <- x\n    return x*m\n"
    other = refused(stranger + '\nnet a: R -> R = A()\n\ntest "t":\n    assert a(1.0) == 0\n')
    assert (other.code, other.span.text) == ("NDL433", "m")


def test_a_batch_of_one_sample_is_itself() -> None:
    check('test "t":\n    assert batch_mean(3.0) == 3\n    assert batch_var(3.0) == 0\n')
