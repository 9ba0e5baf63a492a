"""Nets in kernels: values and gradients against torch, threads, and the interpreter against machine code."""

from __future__ import annotations

import gc
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.kernels import interpret
from ndl.compiler.kernels.ir import Kernel
from ndl.runtime.kernels import lease, ode
from ndl.runtime.kernels.cpu_engine import Compiled, Program, load
from ndl.runtime.kernels.request import Request

import ndl
from ndl.host.kernels import Kernels

COUNT = 37

PLAIN = """
model Node:
    net f: R[8] -> R[8] = MLP(width={width}, depth=2, act={act})
    state x: R[8] = 0.5
    x' = f(x)
"""


def leaves(model: Any) -> list[torch.Tensor]:
    """The weights of its nets."""
    return [w for name, w in model.named_parameters() if "." in name]


def run(model: Any, x0: torch.Tensor, backend: str, method: str, **settings: Any) -> list[torch.Tensor]:
    """Saved values, and the gradients of a function of them with respect to the start and all weights."""
    x = x0.clone().requires_grad_(True)
    settings = {"span": (0, 1), "save": "end", "gradient": "discrete", **settings}
    s = ndl.solve(model.bind(x=x), method=method, backend=backend, **settings)
    values = s.x.values
    loss = (values**2).sum() + (s.final.x * torch.linspace(-1, 1, x0.shape[-1], dtype=x.dtype)).sum()
    return [values.detach(), *torch.autograd.grad(loss, [x, *leaves(model)])]


def start(count: int = COUNT, size: int = 8, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, size, dtype=dtype, generator=torch.Generator().manual_seed(1))


def compare(
    got: list[torch.Tensor], wanted: list[torch.Tensor], of_values: float, of_gradients: float
) -> None:
    for k, (a, b) in enumerate(zip(got, wanted)):
        bound = of_gradients if k else of_values
        assert float((a - b).abs().max()) <= bound * float(b.abs().max()), k


@pytest.mark.parametrize("act", ["tanh", "silu", "softplus", "relu", "sigmoid", "elu", "gelu", "sin"])
def test_activations(act: str) -> None:
    model = ndl.loads(PLAIN.format(width=24, act=act)).Node()
    pair = [run(model, start(), backend, "rk4(steps=3)") for backend in ("cpu", "torch")]
    compare(*pair, 1e-12, 1e-9)


@pytest.mark.parametrize("method", ["rk4(steps=5)", "dopri5(rtol=1e-6)"])
@pytest.mark.parametrize("save", ["end", "every 0.3"])
def test_methods(method: str, save: str) -> None:
    model = ndl.loads(PLAIN.format(width=64, act="tanh")).Node()
    pair = [run(model, start(), backend, method, save=save) for backend in ("cpu", "torch")]
    compare(*pair, 1e-12, 1e-9)


MIXED = """
operator Gated(x: R[In]; width = 20) -> R[Out]:
    \"\"\"A residual block with a gate, and an average of what it remembers.\"\"\"
    param scale: R[width] ~ normal(1, 0.1)
    h = tanh(Linear(Out=width)(x))
    g = sigmoid(Linear(Out=width)(h))
    r = (h + g*h) * scale + mean(h)
    return Linear(Out=Out, bias=false)(max(r, 0.1*r))

model Mixed:
    net f: R[4] -> R[3] = Gated()
    net g: R[3] -> R[1] = MLP(width=24, depth=1, act=softplus)
    param k = 0.7
    param pull: R[20, 3] = 0.1
    state x: R[3] = 0.5
    drive = concat(x, [sin(t)])
    field = pull @ x
    x' = f(drive) - k*x*exp(-g(x)[0]) + 0.05*(field @ pull)
"""


@pytest.mark.parametrize(
    ("method", "kink"),
    [
        ("rk4(steps=4)", "max(r, 0.1*r)"),
        ("tsit5(rtol=1e-6)", "r + abs(r)^3"),
        ("rk4(steps=4)", "r^2 / (1 + r^2)"),
    ],
)
def test_nets_in_formulas(method: str, kink: str) -> None:
    """Two nets, gates, means, time as an input, a matrix from both sides, plain parameters beside them."""
    model = ndl.loads(MIXED.replace("max(r, 0.1*r)", kink)).Mixed()
    pair = [run(model, start(size=3), backend, method) for backend in ("cpu", "torch")]
    assert len(pair[0]) > 10
    compare(*pair, 1e-12, 1e-9)


def test_parameters_of_each_trajectory_beside_a_net() -> None:
    found = []
    for backend in ("cpu", "torch"):
        model = ndl.loads(MIXED).Mixed()
        k = torch.linspace(0.2, 1.2, COUNT, dtype=torch.float64, requires_grad=True)
        s = ndl.solve(
            model.bind(k=k), method="rk4(steps=4)", backend=backend, span=(0, 1), gradient="discrete"
        )
        found.append(
            [s.final.x.detach(), *torch.autograd.grad(s.final.x.square().sum(), [k, *leaves(model)])]
        )
    compare(*found, 1e-12, 1e-9)


@pytest.mark.parametrize("count", [16, 17, 63, 130])
@pytest.mark.parametrize("method", ["rk4(steps=3)", "dopri5(rtol=1e-4)"])
def test_single_precision_and_batches(count: int, method: str) -> None:
    model = ndl.loads(PLAIN.format(width=33, act="tanh")).Node()
    x0 = start(count, dtype=torch.float32)
    pair = [run(model, x0, backend, method, precision="float32") for backend in ("auto", "torch")]
    assert pair[0][0].dtype == torch.float32
    compare(*pair, 1e-4, 1e-4)


@pytest.mark.parametrize("method", ["rk4(steps=3)", "dopri5(rtol=1e-5)"])
def test_threads_do_not_change_gradients(method: str) -> None:
    """Bit for bit."""
    model, x0 = ndl.loads(PLAIN.format(width=32, act="tanh")).Node(), start(300)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append(run(model, x0, "cpu", method))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("method", ["rk4(steps=2)", "tsit5(steps=2)", "bosh3(rtol=1e-3)"])
def test_the_interpreter_agrees(method: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every buffer that a kernel writes, forwards and backwards."""
    made: list[Kernel] = []
    between: dict[str, np.ndarray] = {}  # what the run keeps, in an order of the interpreter's own
    build = Kernels.kernel

    def noted(self: Kernels, request: Request, kept: Any) -> Any:
        found = build(self, request, kept)
        if kept is not None:
            made.append(found[0])
        return found

    def both(
        self: Compiled, tensors: dict[str, torch.Tensor], members: int, threads: int | None = None
    ) -> None:
        kernel = next(k for k in made if k.name == self.program.symbol)
        copies = {name: tensors[name].clone().numpy().reshape(-1) for name in self.program.buffers}
        for name in self.program.sums:
            copies[name] = np.zeros(tensors[name].shape[1], copies[name].dtype)
        copies |= between
        interpret.run(kernel, copies, members)
        between.update({name: copies[name] for name in copies if name == "kept"})
        compiled(self, tensors, members, threads)
        for b in kernel.buffers:
            if b.mode == "out" and b.kind != "kept" and not b.name.startswith("tape"):
                got = tensors[b.name].sum(0) if b.kind == "sum" else tensors[b.name].reshape(-1)
                bound = 1e-11 if precision == "float64" else 1e-4
                if b.name in ("last", "grad_x0", "grad_nets", "grad_weights"):
                    size = max(float(np.abs(copies[b.name]).max()), 1e-3)
                    np.testing.assert_allclose(got.numpy(), copies[b.name], rtol=0, atol=bound * size)

    compiled = Compiled.run
    monkeypatch.setattr(Kernels, "kernel", noted)
    monkeypatch.setattr(Compiled, "run", both)
    run(ndl.loads(MIXED).Mixed(), start(3, 3), "cpu", method, precision=precision)
    assert len(made) == 2 and "kept" in between


def sharp(seed: int = 5) -> Any:
    """A net whose steps are of many sizes, some rejected, and more of them for some starts."""
    model = ndl.loads(PLAIN.format(width=24, act="silu")).Node()
    normal = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in leaves(model):
            w.copy_(0.35 * torch.randn(w.shape, generator=normal, dtype=w.dtype))
    return model


ADAPTIVE = ["tsit5(rtol=1e-6)", "bosh3(rtol=1e-3)"]


@pytest.mark.parametrize("method", ["rk4(steps=4)", "tsit5(steps=4)", *ADAPTIVE])
def test_what_is_kept_and_what_is_computed_again(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sharp()
    kept = run(model, 2 * start(), "cpu", method, save="every 0.3")
    monkeypatch.setattr(ode, "KEPT", 0)
    again = run(model, 2 * start(), "cpu", method, save="every 0.3")
    compare(kept, again, 0, 1e-13)
    compare(kept, run(model, 2 * start(), "torch", method, save="every 0.3"), 1e-12, 1e-9)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_turns_for_which_there_is_little_room(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """First room for two turns, then for all; or for the first few alone, beyond which all is computed
    again. Some turns of a block are rejected by some trajectories and not by others."""
    ran: list[tuple[str, bool]] = []
    compiled = Compiled.run

    def noted(self: Compiled, *args: Any) -> None:
        ran.append((self.program.symbol.rpartition("_")[2], "kept" in self.program.buffers))
        compiled(self, *args)

    monkeypatch.setattr(Compiled, "run", noted)
    monkeypatch.setattr(ode, "_rooms", {})
    monkeypatch.setattr(ode, "FIRST_TURNS", 2)
    model, x0 = sharp(), 2 * start()
    s = ndl.solve(model.bind(x=x0), method=method, backend="cpu", span=(0, 1), save="end")
    steps, rejected = s.stats.steps, s.stats.rejected
    assert len(set(steps.tolist())) > 1 and 0 < int((rejected > 0).sum()) < COUNT
    ran.clear()
    kept = run(model, x0, "cpu", method)
    assert ran == [("adaptive", True)] * 2 + [("adjoint", True)]
    ran.clear()
    assert all(map(torch.equal, kept, run(model, x0, "cpu", method)))
    assert ran == [("adaptive", True), ("adjoint", True)]
    ran.clear()
    turns = int((steps + rejected).max())
    monkeypatch.setattr(ode.KernelRun, "most_kept", turns - 1)
    again = run(model, x0, "cpu", method)
    assert ran == [("adaptive", True), ("adjoint", False)]
    compare(again, kept, 0, 1e-13)


def test_a_step_fetches_all_that_the_next_one_keeps_or_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once more with marks, elsewhere, in the place of what is fetched: each line of memory has one."""
    calls: list[tuple[Program, dict[str, torch.Tensor]]] = []
    compiled = Compiled.run

    def noted(self: Compiled, tensors: dict[str, torch.Tensor], *args: Any) -> None:
        calls.append((self.program, tensors))
        compiled(self, tensors, *args)

    monkeypatch.setattr(Compiled, "run", noted)
    monkeypatch.setattr(lease, "_spare", {})
    model, steps = ndl.loads(PLAIN.format(width=20, act="tanh")).Node(), 3
    run(model, start(), "cpu", f"rk4(steps={steps})")
    size = calls[-1][1]["kept"].numel()
    for (program, tensors), some in zip(calls[-2:], (slice(1, None), slice(steps - 1)), strict=True):
        text = re.sub(r"call void @llvm.prefetch.p0\((ptr \S+),.*", r"store i8 1, \1", program.text)
        text = re.sub(r"(getelementptr \w+, ptr %buffer\.)kept", r"\1thetas", text)  # which nobody reads here
        padded = torch.zeros(3 * size, dtype=torch.float64)
        compiled(load(replace(program, text=text)), {**tensors, "thetas": padded[size : 2 * size]}, COUNT, 1)
        marks = padded[size : 2 * size].view(torch.uint8).reshape(steps, -1, 64)[:, :, 0]
        assert bool((marks[some] == 1).all()) and not bool(marks.all())


def test_memory_is_lent_on() -> None:
    """A run whose results are gone leaves its buffer to the next, without the collector's help."""
    model = ndl.loads(PLAIN.format(width=24, act="tanh")).Node()
    gc.disable()
    try:
        run(model, start(), "cpu", "rk4(steps=4)")
        spare = dict(lease._spare)
        run(model, start(), "cpu", "rk4(steps=4)")
        assert spare and all(lease._spare[kind] is buffer for kind, buffer in spare.items())
    finally:
        gc.enable()


@pytest.mark.parametrize("method", ["rk4(steps=4)", "tsit5()"])
def test_what_may_still_be_read_is_not_lent(method: str) -> None:
    """Of two runs at once each goes back by its own tape, whichever goes first."""
    model = ndl.loads(PLAIN.format(width=24, act="tanh")).Node()
    starts = [start(), 0.5 * start()]
    settings = {"span": (0, 1), "save": "end", "backend": "cpu", "gradient": "discrete"}

    def end(x0: torch.Tensor) -> torch.Tensor:
        return (ndl.solve(model.bind(x=x0), method=method, **settings).final.x ** 2).sum()

    alone = [torch.autograd.grad(end(x0), leaves(model)) for x0 in starts]
    both = [end(x0) for x0 in starts]
    for value, wanted in zip(both, alone, strict=True):
        for a, b in zip(torch.autograd.grad(value, leaves(model)), wanted, strict=True):
            assert torch.equal(a, b)


def test_auto_takes_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    compiled = Compiled.run

    def counted(self: Compiled, *args: Any) -> None:
        calls.append(self.program.symbol)
        compiled(self, *args)

    monkeypatch.setattr(Compiled, "run", counted)
    run(ndl.loads(PLAIN.format(width=64, act="tanh")).Node(), start(16), "auto", "rk4(steps=2)")
    assert calls == ["Node_rk4_fixed", "Node_rk4_fixed_adjoint"]


def test_a_net_of_which_each_trajectory_has_its_own_is_refused() -> None:
    model = ndl.loads(PLAIN.format(width=64, act="tanh")).Node()
    own = torch.randn(COUNT, 64, 64, dtype=torch.float64)
    with pytest.raises(NDLError, match="more than 2000 operations"):
        ndl.solve(model.bind(**{"f.linear_2.W": own}), method="rk4(steps=2)", backend="cpu", span=(0, 1))
