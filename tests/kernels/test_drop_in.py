"""Runs by kernels inside other people's programs: casts, compilation, transforms, several processes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.errors import SettingError
from torch import Tensor, nn
from torch.autograd import forward_ad

import ndl

SOURCE = """
model Node:
    net f: R[4] -> R[4] = MLP(width=20, depth=1, act=tanh)
    param k = 0.3
    state x: R[4] = 0.5
    x' = f(x) - k*x
"""


def batch(count: int = 32, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 4, dtype=dtype, generator=torch.Generator().manual_seed(1))


def run(model: Any, x: Tensor, backend: str = "cpu", **settings: Any) -> Tensor:
    given = {"span": (0, 1), "save": "end", "gradient": "discrete", "method": "rk4(steps=3)", **settings}
    return ndl.solve(model.bind(x=x), backend=backend, **given).final.x  # type: ignore[no-any-return]


class Layer(nn.Module):
    """A run between two linear maps."""

    def __init__(self, program: Any, dtype: torch.dtype = torch.float64, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.after = (nn.Linear(4, 4, dtype=dtype) for _ in range(2))
        self.node, self.settings = program.Node(), settings

    def forward(self, x: Tensor) -> Tensor:
        return self.after(run(self.node, self.before(x), **self.settings))  # type: ignore[no-any-return]


def gradients(layer: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    layer.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_autocast_leaves_runs_alone(program: Any, backend: str) -> None:
    """What comes before may be in bfloat16; the run has the precision that its setting says."""
    model, x = program.Node(), batch(dtype=torch.bfloat16).requires_grad_()
    settings = {"precision": "float32", "backend": backend}
    plain = run(model, x, **settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run(model, x, **settings)
        assert torch.equal(plain, cast) and cast.dtype == torch.float32
        assert (x @ x.T).dtype == torch.bfloat16, "and afterwards all is as before"
        (inside,) = torch.autograd.grad(cast.sum(), x)
    (outside,) = torch.autograd.grad(plain.sum(), x)
    assert inside.dtype == torch.bfloat16
    torch.testing.assert_close(inside, outside, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("gradient", ["discrete", "checkpoint(2)"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_program_around_may_be_compiled(program: Any, backend: str, gradient: str) -> None:
    layer = Layer(program, gradient=gradient)
    wanted = gradients(layer, layer(batch()).square().mean())
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend=backend)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Dynamo")  # what it would say of code that it cannot trace
        for _ in range(2):
            got = gradients(layer, compiled(batch()).square().mean())
    assert len(got) > 6 and got.keys() == wanted.keys()
    for name, g in wanted.items():
        torch.testing.assert_close(got[name], g, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("method", "save", "gradient"),
    [
        ("rk4(steps=3)", "end", "discrete"),
        ("rk4(steps=3)", "steps", "checkpoint(2)"),
        ("dopri5(rtol=1e-9, atol=1e-9)", "[0.3, 1.0]", "discrete"),
    ],
)
def test_a_gradient_has_a_gradient(program: Any, method: str, save: str, gradient: str) -> None:
    """Second derivatives by start and weights, also mixed ones, against differences of first ones."""
    model = program.Node()
    settings = {"method": method, "save": save, "gradient": gradient, "backend": "cpu", "span": (0, 1)}
    weights = [p for p in model.parameters() if p.requires_grad]
    leaves = [batch(16).requires_grad_(), *weights]
    moves = [torch.randn(v.shape, dtype=v.dtype) for v in leaves]

    def first(x: Tensor, **more: bool) -> list[Tensor]:
        s = ndl.solve(model.bind(x=x), **settings)
        loss = s.final.x.square().sum() + (s.x.values.sin().sum() if save != "end" else 0.0)
        return list(torch.autograd.grad(loss, [x, *weights], **more))

    def squared() -> Tensor:
        return sum(g.square().sum() for g in first(leaves[0]))  # type: ignore[return-value]

    def moved(by: float) -> None:
        with torch.no_grad():
            for v, move in zip(leaves, moves):
                v.add_(move, alpha=by)

    second = torch.autograd.grad(sum(g.square().sum() for g in first(leaves[0], create_graph=True)), leaves)
    step = 1e-5
    moved(step)
    rate = squared()
    moved(-2 * step)
    rate = (rate - squared()) / (2 * step)
    exact = sum((g * move).sum() for g, move in zip(second, moves))
    assert float(exact) == pytest.approx(float(rate), rel=1e-6)


def test_what_torch_does_not_give_alike_has_no_second_derivative() -> None:
    program = ndl.loads("model Ball:\n    state h = 1.0\n    state v = 0.0\n    h' = v\n    v' = -9.8\n"
                        "    when falling(h): v <- -0.9*v\n")  # fmt: skip
    h = torch.linspace(1, 2, 16, dtype=torch.float64).requires_grad_()
    (g,) = torch.autograd.grad(run_ball(program, h).square().sum(), h, create_graph=True)
    with pytest.raises(SettingError, match="has no gradient itself") as found:
        torch.autograd.grad(g.square().sum(), h)
    assert "backend = torch" in (found.value.help or "")


def test_a_gradient_by_a_kernel_has_no_third_derivative(program: Any) -> None:
    x = batch().requires_grad_()
    found = run(program.Node(), x).square().sum()
    with pytest.raises((SettingError, NDLError), match="a gradient by a kernel has no gradient itself"):
        for _ in range(3):
            found = torch.autograd.grad(found, x, create_graph=True)[0].square().sum()


def run_ball(program: Any, h: Tensor) -> Tensor:
    settings = {"span": (0, 1), "save": "end", "gradient": "discrete", "method": "tsit5", "backend": "cpu"}
    return ndl.solve(program.Ball().bind(h=h), **settings).final.h  # type: ignore[no-any-return]


def test_gradients_in_python_go_by_kernels() -> None:
    """Who wants one wants many; of a large net a single trajectory leaves lanes empty, and goes by torch."""
    net = "net f: R[4] -> R[4] = MLP(width={}, depth=2)"
    source = f"model N:\n    {net}\n    state x: R[4] = 0.5\n    x' = f(x)\n"
    small, large = (ndl.loads(source.format(width)).N() for width in (8, 200))
    settings = {"span": (0, 1), "save": "end", "method": "rk4(steps=2)", "gradient": "discrete"}
    nodes = {model: ndl.solve(model, **settings).final.x for model in (small, large)}
    assert "Solve" in names_below(nodes[small].grad_fn) and "Solve" not in names_below(nodes[large].grad_fn)


def names_below(node: Any) -> str:
    """The names of a graph's operations."""
    return " ".join([type(node).__name__, *(names_below(n) for n, _ in node.next_functions if n)])


def test_transforms_go_by_torch(program: Any) -> None:
    """`auto` takes torch there, `cpu` says why it does not serve."""
    model, x = program.Node(), batch(16)

    def loss(x: Tensor, backend: str = "auto") -> Tensor:
        return run(model, x, backend).square().sum()

    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(loss(leaf, "cpu"), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(x), wanted, rtol=1e-9, atol=1e-12)
    with forward_ad.dual_level():
        rate = forward_ad.unpack_dual(loss(forward_ad.make_dual(x, x.cos()))).tangent
    torch.testing.assert_close(rate, (wanted * x.cos()).sum(), rtol=1e-9, atol=1e-12)
    with pytest.raises(NDLError, match=r"transforms of `torch\.func`"):
        torch.func.grad(lambda x: loss(x, "cpu"))(x)


@pytest.mark.parametrize("gradient", ["none", "discrete"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_vmap_is_refused(program: Any, backend: str, gradient: str) -> None:
    model = program.Node()
    with pytest.raises(NDLError, match=r"`torch\.vmap` cannot batch a run") as found:
        torch.vmap(lambda x: run(model, x, backend, gradient=gradient))(batch(32).reshape(2, 16, 4))
    assert "as members" in (found.value.diagnostics[0].help or "")


def test_the_capture_of_a_graph_is_refused(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(NDLError, match="CUDA graph cannot record a run"):
        run(program.Node(), batch())


def test_two_processes_train_together(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients of each half of a batch, averaged, are those of the whole. A process that fails ends the
    other, and its error is that of the test."""
    from distributed_worker import train

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(train, (tmp_path,), nprocs=2)
    layer = Layer(program)
    wanted = gradients(layer, layer(batch()).square().mean())
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert got.keys() == wanted.keys()
        for name, g in wanted.items():
            torch.testing.assert_close(got[name], g, rtol=1e-12, atol=1e-14)
