"""Weights for each step (`per step`) and for each visit of a splitting (`per use`): networks by depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from programs import check, load, refused
from torch import Tensor, nn

import ndl

RESIDUAL = """
model Residual:
    input u: R[3]
    net f: R[3] -> R[3] = MLP(width=5, depth=1) per step
    state x: R[3] = u
    x' = f(x)
"""

MACARON = """
model Macaron:
    input u: R[3]
    net attention: R[3] -> R[3] = MLP(width=5, depth=1) per step
    net feed: R[3] -> R[3] = MLP(width=4, depth=1) per use
    state x: R[3] = u
    term interaction = attention(x)
    term convection  = feed(x)
    x' = interaction + convection
"""

U = torch.tensor([[0.3, -1.0, 0.7], [1.1, 0.2, -0.4]], dtype=torch.float64)


def written(part: Any) -> nn.Module:
    """The same perceptron by torch's layers, with the same weights."""
    layers = [p for _, p in part.parts() if {i.name for i in p.PARAMETERS} == {"W", "b"}]
    made: list[nn.Module] = []
    for layer in layers:
        linear = nn.Linear(layer.W.shape[1], layer.W.shape[0], dtype=torch.float64)
        linear.weight, linear.bias = layer.W, layer.b
        made += [linear, nn.Tanh()]
    return nn.Sequential(*made[:-1])


def gradients(y: Tensor, weights: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad((y * torch.linspace(1, 2, y.numel()).reshape(y.shape)).sum(), weights))


def same(model: Any, found: Tensor, own: Tensor, sets: int) -> None:
    """Values and the gradients by every weight agree to rounding."""
    weights = list(model.weights().values())
    assert len(weights) == 4 * sets
    assert torch.allclose(found, own, rtol=1e-13, atol=1e-13)
    for a, b in zip(gradients(found, weights), gradients(own, weights)):
        assert b.abs().max() > 1e-6
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("gradient", ["discrete", "checkpoint(2)"])
@pytest.mark.parametrize("method", ["euler(h=0.5)", "euler(steps=4)"])
def test_euler_is_a_residual_network(method: str, gradient: str) -> None:
    model = load(RESIDUAL).models["Residual"]().bind(u=U)
    found = ndl.solve(model, span=(0, 2), method=method, gradient=gradient, save="end").final["x"]
    assert len(model.f) == 4
    x = U
    for block in map(written, model.f):
        x = x + 0.5 * block(x)
    same(model, found, x, 4)


def test_the_sets_differ_and_belong_to_the_seed() -> None:
    program = load(RESIDUAL)
    values = []
    for seed, steps in ((0, 4), (0, 6), (1, 4)):
        model = program.models["Residual"](seed=seed)
        ndl.solve(model.bind(u=U), span=(0, 1), method=f"euler(steps={steps})")
        values.append([part.weight_value(name) for part in model.f for name in list(part.values())[:1]])
    a, longer, other = values
    assert all(torch.equal(x, y) for x, y in zip(a, longer)) and len(longer) == 6
    assert not torch.equal(a[0], a[1]) and not torch.equal(a[0], other[0])


def test_every_stage_of_a_step_has_its_weights() -> None:
    model = load(RESIDUAL).models["Residual"]().bind(u=U)
    found = ndl.solve(model, span=(0, 2), method="rk4(steps=3)", gradient="discrete", save="end").final["x"]
    x, h = U, 2 / 3
    for f in map(written, model.f):
        k1 = f(x)
        k2 = f(x + h / 2 * k1)
        k3 = f(x + h / 2 * k2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(x + h * k3))
    same(model, found, x, 3)


def test_values_inside_steps_and_derived_quantities() -> None:
    text = RESIDUAL + "    rate = f(x)\n"
    model = load(text).models["Residual"]().bind(u=U[0])
    s = ndl.solve(model, span=(0, 1), method="euler(steps=2)", save=[0.25, 0.5, 0.75, 1.0])
    first, second = map(written, model.f)
    middle = U[0] + 0.5 * first(U[0])
    assert torch.allclose(s.get("x").values[1], middle)
    rates = s.get("rate").values
    for k, f in enumerate((first, first, second, second)):  # the end of a step is its own
        assert torch.allclose(rates[k], f(s.get("x").values[k]), atol=1e-12)


@pytest.mark.parametrize("gradient", ["discrete", "checkpoint(2)"])
def test_a_macaron_net_has_weights_for_each_visit(gradient: str) -> None:
    model = load(MACARON).models["Macaron"]().bind(u=U)
    method = "strang(convection: euler, interaction: euler, h=1)"
    found = ndl.solve(model, span=(0, 3), method=method, gradient=gradient, save="end").final["x"]
    assert (len(model.attention), len(model.feed)) == (3, 6)
    x, feed = U, list(map(written, model.feed))
    for k, attention in enumerate(map(written, model.attention)):
        x = x + 0.5 * feed[2 * k](x)
        x = x + attention(x)
        x = x + 0.5 * feed[2 * k + 1](x)
    same(model, found, x, 9)


def test_a_transformer_is_the_same_model_split_by_lie() -> None:
    model = load(MACARON).models["Macaron"]().bind(u=U)
    method = "lie(interaction: euler, convection: euler, steps=2)"
    found = ndl.solve(model, span=(0, 2), method=method, gradient="discrete", save="end").final["x"]
    assert (len(model.attention), len(model.feed)) == (2, 2)
    x = U
    for attention, feed in zip(map(written, model.attention), map(written, model.feed)):
        x = x + attention(x)
        x = x + feed(x)
    same(model, found, x, 4)


def test_noise_with_weights_for_each_step() -> None:
    text = RESIDUAL.replace("x' = f(x)", "noise W: wiener[3]\n    dx = f(x)*dt + 0.3*dW")
    model = load(text).models["Residual"]().bind(u=U)
    s = ndl.solve(model, span=(0, 1), method="euler_maruyama(steps=4)", seed=2)
    x = U
    W = s.get("W").values
    for k, f in enumerate(map(written, model.f)):
        x = x + 0.25 * f(x) + 0.3 * (W[:, k + 1] - W[:, k])
    assert torch.allclose(s.final["x"], x, atol=1e-12)


def test_one_set_is_fitted_by_its_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", u=np.random.default_rng(1).normal(size=(8, 3)))
    lines = [
        RESIDUAL,
        "train Residual:",
        '    data      = table("d.npz", u="u")',
        "    span      = 0..1",
        "    method    = euler(steps=3)",
        "    loss      = sum((final.x - [data.u[1], data.u[2], data.u[0]])^2)",
        "    fit       = {fit}",
        "    optimizer = adam(lr=0.02)",
        "    steps     = 20",
    ]
    moved = {}
    for fit in ("all", "f", "f[1]"):
        file = tmp_path / "m.ndl"
        file.write_text("\n".join(lines).format(fit=fit), encoding="utf-8")
        program = ndl.load(file)
        program.run()
        (found,) = program.host.named.values()
        trained = found.model.instance
        fresh = program.models["Residual"]()
        fresh.f.grow(3)
        before = fresh.float().values()
        changed = {n for n, v in trained.values().items() if not torch.equal(v, before[n])}
        moved[fit] = {n.split(".")[0] for n in changed}
        assert float(found.result.history.loss[-1]) < float(found.result.history.loss[0])
    assert moved["all"] == moved["f"] == {"f[0]", "f[1]", "f[2]"} and moved["f[1]"] == {"f[1]"}


RUN = '\ntest "t":\n    s = solve({0}(u=[1, 2, 3]), span=0..1, {1})\n    assert s.final.x[0] < 1e9\n'


@pytest.mark.parametrize(
    "text, name, settings, words",
    [
        (RESIDUAL, "Residual", "method=tsit5(rtol=1e-6)", ["`tsit5`", "is not known before the run"]),
        (MACARON, "Macaron", "method=euler(h=0.1)", ["each visit of a splitting", "`euler` is none"]),
        (RESIDUAL + "    when falling(x[0]): stop\n", "Residual", "method=euler(h=0.1)", ["events"]),
    ],
)
def test_steps_that_cannot_be_counted(text: str, name: str, settings: str, words: list[str]) -> None:
    found = refused(text + RUN.format(name, settings))
    assert found.code == "NDL528"
    assert all(word in found.message for word in words), found.message


@pytest.mark.parametrize(
    ("before", "code", "words"),
    [("", "NDL528", "no run of this model has counted"), ("    s = RUN\n", "NDL320", "`f[0](…)`")],
)
def test_a_net_of_an_instance_by_its_name(before: str, code: str, words: str) -> None:
    run = "solve(m, span=0..1, method=euler(steps=3), save=end)"
    body = f"    m = Residual(u=[1, 2, 3])\n{before.replace('RUN', run)}    assert m.f([1, 0, 0])[0] < 9\n"
    (result,) = load(RESIDUAL + f'test "a set":\n{body}').test()
    assert result.diagnostic is not None and result.diagnostic.code == code
    assert words in str(result.diagnostic)


def test_another_number_of_steps_is_refused() -> None:
    model = load(RESIDUAL).models["Residual"]().bind(u=U)
    ndl.solve(model, span=(0, 1), method="euler(steps=4)")
    with pytest.raises(ndl.NDLError) as caught:
        ndl.solve(model, span=(0, 1), method="euler(steps=5)")
    assert "asks for 5 sets of weights of `f`, and there are 4" in str(caught.value)


def test_the_exact_solution_knows_no_steps() -> None:
    settings = "method=euler(h=0.1), gradient=adjoint"
    assert (
        "`gradient = adjoint` does not know the steps"
        in refused(RESIDUAL + RUN.format("Residual", settings)).message
    )


def test_kernels_decline_with_the_reason() -> None:
    found = refused(RESIDUAL + RUN.format("Residual", "method=euler(h=0.1), backend=cpu"))
    assert "no kernel serves this run: its nets have weights for each step" in found.message


def test_a_smaller_model_of_one_is_refused() -> None:
    text = RESIDUAL + (
        '\ntest "t":\n    s = solve(Residual(u=[1, 2, 3]), span=0..1, method=euler(steps=4))\n'
        "    m = reduce(Residual(u=[1, 2, 3]), pod(rank=2), snapshots=s)\n    assert s.final.x[0] < 1e9\n"
    )
    found = refused(text)
    assert found.code == "NDL672" and "nets with weights for each step" in found.message


NUMBERS = """
model M:
    param g: R[2] ~ normal(0, 1) per step
    param s > 0 = 0.5 per step
    state x: R[2] = [1.0, 2.0]
    x' = s*g*x
    rate = g + s
"""


@pytest.mark.parametrize("gradient", ["discrete", "checkpoint(2)"])
def test_numbers_for_each_step(gradient: str) -> None:
    """Euler's product, with the gradient of each of its numbers."""
    made = load(NUMBERS).models["M"](seed=1)
    found = ndl.solve(made, span=(0, 1), method="euler(steps=4)", save="end", gradient=gradient).final["x"]
    assert (len(made.g), len(made.s)) == (4, 4) and not torch.equal(made.g[0].value, made.g[1].value)
    product = torch.stack([1 + 0.25 * s.value * g.value for g, s in zip(made.g, made.s)]).prod(0)
    own = product * torch.tensor([1.0, 2.0], dtype=torch.float64)
    weights = list(made.weights().values())
    assert len(weights) == 8
    for a, b in zip(gradients(found, weights), gradients(own, weights)):
        assert b.abs().max() > 1e-6
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13)


def test_numbers_for_each_step_of_stages_visits_and_parts() -> None:
    made = load(NUMBERS).models["M"](seed=1)
    found = ndl.solve(made, span=(0, 1), method="midpoint(steps=3)", save="steps")
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for g, s in zip(made.g, made.s):
        a = s.value * g.value
        x = x * (1 + a / 3 + a * a / 18)
    assert torch.allclose(found.final["x"], x, atol=1e-13)
    assert torch.allclose(found.rate.values[-1], made.g[2].value + made.s[2].value)

    text = """
model Layer:
    param a: R = 0.5 per step
    param b: R ~ normal(0, 1) per use
    state x = 1.0
    term grow = a*x
    term kick = b
    x' = grow + kick

model Two:
    l = Layer()
    state y = 0.0
    y' = l.x + l.a
"""
    program = load(text)
    layer = program.models["Layer"](seed=3)
    s = ndl.solve(layer, span=(0, 1), method="strang(kick: euler, grow: euler, steps=2)")
    y, b = torch.tensor(1.0, dtype=torch.float64), [part.value for part in layer.b]
    for k, part in enumerate(layer.a):
        y = y + 0.25 * b[2 * k]
        y = y * (1 + 0.5 * part.value) + 0.25 * b[2 * k + 1]
    assert len(b) == 4 and torch.allclose(s.final["x"], y, atol=1e-13)


def test_numbers_for_each_step_that_cannot_be_counted() -> None:
    found = refused(NUMBERS + '\ntest "t":\n    s = solve(M, span=0..1, method=tsit5())\n')
    assert found.code == "NDL528" and "is not known before the run" in found.message
    found = refused(NUMBERS + '\ntest "t":\n    s = solve(M, span=0..1, method=euler(h=0.5), backend=cpu)\n')
    assert "weights for each step" in found.message


INSIDE = """
operator Gated(x: R[c]; width = 4) -> R[c]:
    net inner = MLP(Out=width, width=3, depth=1) {0}
    param gain: R[c] ~ normal(0, 1) {0}
    param W: R[c, width] ~ normal(0, 1)
    return gain*(W @ inner(x))

model M:
    input u: R[3]
    net f: R[3] -> R[3] = Gated()
    state x: R[3] = u
    term a = f(x)
    term b = -x
    x' = a + b
"""


@pytest.mark.parametrize("gradient", ["discrete", "checkpoint(2)"])
def test_numbers_and_nets_for_each_step_inside_an_operator(gradient: str) -> None:
    """What is said to be per step has its sets, and the rest of the net one."""
    model = load(INSIDE.format("per step")).models["M"](seed=2).bind(u=U)
    found = ndl.solve(model, span=(0, 1), method="euler(steps=4)", save="end", gradient=gradient).final["x"]
    gains, inner = [part.value for part in model.f.gain], list(map(written, model.f.inner))
    assert len(gains) == 4 and not torch.equal(gains[0], gains[1])
    x = U
    for gain, net in zip(gains, inner):
        x = x + 0.25 * (gain * (net(x) @ model.f.W.T) - x)
    weights = list(model.weights().values())
    assert len(weights) == 4 * (4 + 1) + 1 and "f.gain[3].value" in model.weights()
    assert torch.allclose(found, x, rtol=1e-13, atol=1e-13)
    for a, b in zip(gradients(found, weights), gradients(x, weights)):
        assert b.abs().max() > 1e-6
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13)


def test_sets_inside_an_operator_for_each_visit_and_members_in_different_steps() -> None:
    model = load(INSIDE.format("per use")).models["M"](seed=2).bind(u=U)
    found = ndl.solve(model, span=(0, 1), method="strang(a: euler, b: euler, steps=2)", save="end").final["x"]
    sets = [(g.value, written(n)) for g, n in zip(model.f.gain, model.f.inner)]
    assert len(sets) == 4
    x = U
    for k in (0, 2):
        for j, (gain, net) in enumerate(sets[k : k + 2]):
            x = x + 0.25 * gain * (net(x) @ model.f.W.T)
            x = x if j else x - 0.5 * x
    assert torch.allclose(found, x, rtol=1e-13, atol=1e-13)

    text = INSIDE.format("per step") + "    rate = f(x)\n"
    model = load(text).models["M"](seed=2).bind(u=U[0])
    s = ndl.solve(model, span=(0, 1), method="rk4(steps=2)", save=[0.25, 0.5, 0.75, 1.0])
    for k, x in enumerate(s.get("x").values):
        gain, net = model.f.gain[k // 2].value, written(model.f.inner[k // 2])
        assert torch.allclose(s.get("rate").values[k], gain * (model.f.W @ net(x)), atol=1e-12)


def test_sets_inside_an_operator_that_cannot_be() -> None:
    line = '\ntest "t":\n    s = solve(M(u=[1, 2, 3]), span=0..1, method={0})\n    assert s.final.x[0] < 9\n'
    text = INSIDE.format("per step")
    assert refused(text + line.format("tsit5()")).code == "NDL528"
    assert "weights for each step" in refused(text + line.format("euler(h=0.5), backend=cpu")).message
    found = refused(text + 'net g: R[2] -> R[2] = Gated()\ntest "t":\n    assert g([1, 2])[0] == 1\n')
    assert found.code == "NDL528" and "no weights before a run" in found.message
    twice = text.replace("= Gated()", "= Gated() per step")
    assert refused(twice + line.format("euler(h=0.5)")).code == "NDL455"


def test_a_value_that_is_given_starts_every_step() -> None:
    given = (
        NUMBERS
        + """
test "given":
    s = solve(M(g=[0.5, -0.25], s=2.0), span=0..1, method=euler(steps=4))
    assert max(abs(s.final.x - [1.25^4, 2*0.875^4])) < 1e-12
"""
    )
    check(given)
