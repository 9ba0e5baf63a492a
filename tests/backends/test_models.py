"""Generated models: what they compute, how they start, what may be bound, and that they print the same."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ndl.compiler.backends.torch import compile_source, print_module
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.ir.model import ModelIR
from ndl.runtime.model import Model
from sample_models import built, everything, lotka_volterra
from torch import Tensor

ZERO = torch.tensor(0.0, dtype=torch.float64)


def numbers(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def path(t: Tensor, order: int = 0) -> Tensor:
    return torch.sin(t) if order == 0 else torch.cos(t)


def test_rates_are_those_of_the_interpreter() -> None:
    model = lotka_volterra()
    m = built(model)()
    x = numbers([33.0, 6.0], [20.0, 9.0], [1.0, 2.0])
    assert model.drift is not None
    for given, got in zip(x, m.vector_field(ZERO, x)):
        wanted = interpret(
            model.drift,
            {"t": ZERO, "prey": given[0], "predator": given[1]},
            {k: v for k, v in m.values().items()},
        )
        torch.testing.assert_close(got, torch.stack(list(wanted.values())))
    assert m.initial_state().tolist() == [33.0, 6.0]


def test_code_reads_as_the_model() -> None:
    source = print_module([lotka_volterra()], file="lynx.ndl")
    assert "prey, predator = state.unbind(-1)" in source
    assert "self.alpha*prey - self.beta*prey*predator," in source
    assert "prey' = alpha*prey - beta*prey*predator" in source
    imported = [line.split()[1] for line in source.splitlines() if line.startswith(("from ", "import "))]
    assert {name.split(".")[0] for name in imported} <= {"__future__", "typing", "torch", "ndl", "math"}
    assert all(name.startswith("ndl.runtime") for name in imported if name.startswith("ndl"))


def test_constrained_weights_start_exactly_and_stay_inside() -> None:
    m = built(lotka_volterra())(beta=1e-300, gamma=0.1 + 0.2)
    assert m.beta.item() == 1e-300
    assert m.gamma.item() == 0.1 + 0.2
    with torch.no_grad():
        m.raw_gamma -= 50.0
    assert 0 < m.gamma.item() < 1e-20
    with pytest.raises(ValueError, match="`alpha` must lie in 0"):
        built(lotka_volterra())(alpha=-1.0)


def test_a_start_on_the_bound_can_leave_it() -> None:
    m = built(lotka_volterra())(alpha=0.0)
    assert m.alpha.item() == 0.0
    (slope,) = torch.autograd.grad(m.alpha, m.raw_alpha)
    assert slope.item() == 1.0


def test_members_broadcast() -> None:
    cls = built(lotka_volterra())
    family = cls(alpha=numbers(0.5, 0.6, 0.7), prey=numbers(10.0, 20.0, 30.0))
    x = family.initial_state()
    assert x.tolist() == [[10.0, 6.0], [20.0, 6.0], [30.0, 6.0]]
    alone = cls(alpha=0.6, prey=20.0)
    torch.testing.assert_close(
        family.vector_field(ZERO, x)[1], alone.vector_field(ZERO, alone.initial_state())
    )
    with pytest.raises(ValueError, match="members differ in number"):
        cls(alpha=numbers(1.0, 2.0), beta=numbers(1.0, 2.0, 3.0)).initial_state()


def test_bind_is_a_view_through_which_gradients_flow() -> None:
    m = built(lotka_volterra())()
    alpha = numbers(0.5, 0.9).requires_grad_(True)
    start = numbers(12.0).squeeze().requires_grad_(True)
    view = m.bind(alpha=alpha, prey=start)
    y = view.vector_field(ZERO, view.initial_state())
    assert view.alpha.tolist() == [0.5, 0.9]
    assert m.alpha.item() == 0.55
    assert view.raw_beta is m.raw_beta
    by_alpha, by_start = torch.autograd.grad(y[:, 0].sum(), [alpha, start])
    assert by_alpha.tolist() == pytest.approx([12.0, 12.0])
    assert by_start.item() == pytest.approx(0.5 + 0.9 - 2 * 0.028 * 6)
    with pytest.raises(TypeError, match="did you mean `alpha`"):
        m.bind(alhpa=1.0)


def test_prepared_views_compute_constraints_once() -> None:
    m = built(lotka_volterra())()
    ready = m.prepared()
    assert ready.alpha is ready.alpha
    (slope,) = torch.autograd.grad(ready.alpha, m.raw_alpha)
    assert slope.item() == pytest.approx(0.55)
    assert ready.bind(alpha=2.0).alpha.item() == 2.0


def test_initial_values_may_be_fitted() -> None:
    m = built(everything())().bind(u=path)
    assert not any(p.requires_grad for p in m.initial_parameters().values())
    free = m.fit_initial(["x", "z"])
    assert sorted(free) == ["x", "z"]
    m.initial_state().sum().backward()
    assert free["x"].grad is not None and free["x"].grad.item() == 1.0


def test_jacobian_is_that_of_the_rates() -> None:
    m = built(lotka_volterra())()
    x = numbers([33.0, 6.0], [2.0, 5.0])
    wanted = [torch.autograd.functional.jacobian(lambda y: m.vector_field(ZERO, y), row) for row in x]
    torch.testing.assert_close(m.jacobian(ZERO, x), torch.stack(wanted))


def test_compiles_without_graph_breaks() -> None:
    for model in (lotka_volterra(), everything()):
        m = built(model)()
        m = m.bind(u=numbers(0.3).squeeze()) if model.inputs else m
        x = m.initial_state().expand(3, -1)
        fast = torch.compile(m.vector_field, fullgraph=True, backend="eager")
        torch.testing.assert_close(fast(ZERO, x), m.vector_field(ZERO, x))


def values(model: ModelIR, m: Model, x: Tensor, t: Tensor) -> dict[str, Tensor]:
    return {"t": t, "z": x[:2], "x": x[2], "x'": x[3]}


def test_every_method_is_its_function() -> None:
    model = everything()
    m = built(model)(seed=4).bind(u=path)
    t = numbers(0.3).squeeze()
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = {
        "vector_field": m.vector_field(t, x),
        "spin": m.term("spin", t, x),
        "diffusion": m.diffusion(t, x),
        "energy": m.derived("energy", t, x, {"B": noise}),
        "guard": m.guard(0, t, x),
        "reset": m.reset(0, t, x),
    }
    weights = m.values()
    for i, row in enumerate(x):
        given = {**values(model, m, row, t), "B": noise[i]}

        def run(function: Any, given: Any = given) -> dict[str, Tensor]:
            return interpret(function, given, weights, {"u": path})

        assert model.drift is not None and model.diffusion is not None
        rates = run(replace(model.drift, parts=model.parts))
        flat = torch.cat([rates["z"], rates["x"][None], rates["x'"][None]])
        torch.testing.assert_close(results["vector_field"][i], flat)
        torch.testing.assert_close(results["spin"][i], flat)
        pieces = run(model.diffusion)
        wanted = torch.zeros(4, 3, dtype=torch.float64)
        wanted[:2, :2], wanted[3, 2] = pieces["z,W"], pieces["x',B"]
        torch.testing.assert_close(results["diffusion"][i], wanted)
        torch.testing.assert_close(results["energy"][i], run(model.derived["energy"])["energy"])
        event = model.events[0]
        assert event.guard is not None and event.reset is not None
        torch.testing.assert_close(results["guard"][i], run(event.guard)["guard"])
        new = run(event.reset)
        torch.testing.assert_close(results["reset"][i], torch.cat([new["z"], row[2:3], new["x'"][None]]))


def test_drawn_weights_depend_on_seed_and_name_alone() -> None:
    cls = built(everything())
    a, b, c = cls(seed=1), cls(seed=1, lambda_=9.0), cls(seed=2)
    for name, value in a.values().items():
        if name not in ("lambda", "f.first.b", "f.second.b"):
            assert torch.equal(value, b.values()[name])
            assert not torch.equal(value, c.values()[name])
    assert a.f.first.W.abs().max() <= 0.5**0.5
    assert a.f.first.b.tolist() == [0.5] * 4


def test_awkward_names_are_attributes_and_keywords() -> None:
    m = built(everything())(lambda_=2.0)
    assert m.lambda_.item() == 2.0
    assert [s.name for s in m.STATES] == ["z", "x", "x'"]
    assert m.initial_state().tolist() == [1.0, -1.0, 4.0, 0.0]
    assert type(m).make({"lambda": 3.0, "x'": 5.0, "u": path}).initial_state().tolist() == [
        1.0,
        -1.0,
        6.0,
        5.0,
    ]
    shifted = m.bind(**{"f.first.b": torch.zeros(4)})
    assert shifted.f.first.b.tolist() == [0.0] * 4
    assert m.f.first.b.tolist() == [0.5] * 4


def test_precision_follows_the_module() -> None:
    m = built(everything())().to(torch.float32).bind(u=path)
    x = m.initial_state()
    assert x.dtype == torch.float32
    t = torch.tensor(0.1)
    assert m.vector_field(t, x).dtype == torch.float32
    assert m.diffusion(t, x[None]).dtype == torch.float32


def test_checkpoints_restore() -> None:
    cls = built(lotka_volterra())
    a, b = cls(alpha=0.9, prey=50.0), cls()
    b.load_state_dict(a.state_dict())
    assert b.alpha.item() == 0.9
    assert b.initial_state().tolist() == a.initial_state().tolist()


def test_tracebacks_show_generated_lines() -> None:
    import traceback

    m = built(everything())()
    with pytest.raises(ValueError, match="needs a path for its input `u`") as caught:
        m.vector_field(ZERO, m.initial_state())
    assert any('self.path_value("u", t, 0)' in (f.line or "") for f in traceback.extract_tb(caught.tb))


def test_same_text_under_every_hash_seed() -> None:
    program = "from sample_models import *; print(print_module([lotka_volterra(), everything()]))"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        for seed in ("1", "4242")
    ]
    outputs = {process.communicate()[0].strip() for process in running}
    assert outputs == {print_module([lotka_volterra(), everything()]).strip()}


def test_one_class_for_equal_operators() -> None:
    source = print_module([everything()])
    assert source.count("class Linear_2_4(Part)") == 1
    assert source.count("class Linear_4_2(Part)") == 1
    module = compile_source(source, "generated_twice")
    assert module.Net(seed=0).first.path == "first"
