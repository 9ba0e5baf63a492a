"""Stochastic equations: orders on the same path, calculi, kinds of noise, adaptivity, events, gradients."""

import math

import pytest
import torch
from library import method
from ndl.runtime.diffusion import NoisyField
from ndl.runtime.errors import SettingError
from ndl.runtime.solve import solve
from noisy_problems import GBM, OU, Additive, Arctan, GBMStratonovich, Reflected, Rotations, TwoGBM

STEPS = (1 / 16, 1 / 64)


def errors(model, name, steps=STEPS, members=1000, seed=3):
    found = []
    for h in steps:
        s = solve(model, span=(0, 1), method=method(name, h=h), save="end", ensemble=members, seed=seed)
        x = torch.stack([s.final[v.name] for v in model.STATES], -1)
        W = torch.cat([s.final[n.name].reshape(members, -1) for n in model.NOISES], -1)
        found.append(float((x - model.exact(1.0, W)).detach().abs().mean()))
    return found


def slope(e, steps=STEPS):
    return math.log(e[0] / e[-1]) / math.log(steps[0] / steps[-1])


@pytest.mark.parametrize(
    ("name", "model", "low", "high"),
    [
        ("euler_maruyama", GBM, 0.4, 0.65),
        ("euler_maruyama", GBMStratonovich, 0.4, 0.65),
        ("euler_maruyama", TwoGBM, 0.4, 0.65),
        ("euler_maruyama", Additive, 0.9, 1.1),
        ("milstein", GBM, 0.85, 1.15),
        ("milstein", GBMStratonovich, 0.85, 1.15),
        ("milstein", TwoGBM, 0.85, 1.15),
        ("milstein", Arctan, 0.85, 1.2),
        ("heun", GBM, 0.85, 1.15),
        ("heun", Arctan, 0.85, 1.2),
        ("heun for sde", GBM, 0.85, 1.15),
        ("euler_heun", TwoGBM, 0.85, 1.15),
        ("reversible_heun", GBM, 0.85, 1.15),
        ("sri", GBM, 1.25, 1.75),
        ("sri", TwoGBM, 1.25, 1.75),
        ("sri", Arctan, 1.25, 1.75),
        ("sra1", Additive, 1.35, 2.1),
    ],
)
def test_strong_orders_on_the_same_path(name, model, low, high):
    assert low < slope(errors(model(), name)) < high


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("euler_maruyama", 0.9, 1.1), ("heun", 0.9, 1.2), ("reversible_heun", 0.9, 1.2), ("sra1", 1.4, 2.2)],
)
def test_orders_for_additive_noise_that_the_drift_feels(name, low, high):
    exact = OU.exact(3, 300, 2048)
    e = []
    for h in STEPS:
        s = solve(OU(), span=(0, 1), method=method(name, h=h), save="end", ensemble=300, seed=3)
        e.append(float((s.final.x - exact).abs().mean()))
    assert low < slope(e) < high


def test_the_tableau_of_heun_is_the_method_for_noise():
    a, b = (
        solve(Rotations(), span=(0, 1), method=method(name, h=1 / 16), save="end", ensemble=5, seed=1)
        for name in ("heun", "heun for sde")
    )
    assert float((a.final.y - b.final.y).abs().max()) < 1e-14


def test_general_noise_converges_to_a_fine_solution():
    """Rotations about two axes: three methods approach one process, at order 1/2."""
    fine = solve(
        Rotations(), span=(0, 1), method=method("heun", h=1 / 1024), save="end", ensemble=200, seed=1
    )
    top = torch.stack([fine.final[n] for n in "xyz"], -1)
    assert float((top.norm(dim=-1) - 1).abs().max()) < 0.02
    for name in ("euler_heun", "reversible_heun", "euler_maruyama"):
        e = []
        for h in (1 / 16, 1 / 128):
            s = solve(Rotations(), span=(0, 1), method=method(name, h=h), save="end", ensemble=200, seed=1)
            e.append(float((torch.stack([s.final[n] for n in "xyz"], -1) - top).norm(dim=-1).mean()))
        assert slope(e, (1 / 16, 1 / 128)) > 0.38, name


def test_the_two_calculi_describe_one_process():
    a = solve(GBM(), span=(0, 1), method=method("milstein", h=1 / 256), save="end", ensemble=200, seed=5)
    b = solve(
        GBMStratonovich(), span=(0, 1), method=method("milstein", h=1 / 256), save="end", ensemble=200, seed=5
    )
    assert float((a.final.x - b.final.x).abs().max()) < 1e-12
    assert float((a.final.W - b.final.W).abs().max()) == 0


def test_the_correction_is_half_the_sum_of_directional_derivatives():
    f = NoisyField(Rotations(), "ito")
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.zeros(4, dtype=torch.float64)
    expected = 0.5 * x @ (Rotations.A @ Rotations.A + Rotations.B @ Rotations.B).T
    torch.testing.assert_close(f(x, t), expected)
    f = NoisyField(TwoGBM(), "stratonovich")
    torch.testing.assert_close(f(x[:, :2], t), 0.1 * x[:, :2] - 0.5 * TwoGBM.S**2 * x[:, :2])


def test_the_derivative_of_the_diffusion_is_its_jacobian():
    g = NoisyField(Rotations(), "stratonovich").diffusion
    x, v = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
    J = g.jacobian(x, torch.zeros(2, dtype=torch.float64), v)
    torch.testing.assert_close(J, v[:, 0, None, None] * Rotations.A + v[:, 1, None, None] * Rotations.B)


def test_noise_is_recorded_exactly_at_any_time():
    fine = solve(GBM(), span=(0, 1), method=method("euler_maruyama", h=1 / 64), ensemble=3, seed=2)
    coarse = solve(
        GBM(), span=(0, 1), method=method("milstein", h=0.1), save=("every", 0.25), ensemble=3, seed=2
    )
    assert fine.W.shape == (3, 65)
    assert coarse.W.shape == (3, 5)
    assert float((fine.W[:, ::16] - coarse.W).abs().max()) < 1e-11
    assert float((fine.W(0.3) - solve(
        GBM(), span=(0, 0.3), method=method("heun", h=0.3), save="end", ensemble=3, seed=2
    ).final.W).abs().max()) < 1e-11  # fmt: skip


def test_values_inside_a_step_follow_the_path():
    """Interpolated values are nearer to the exact solution than a chord through the step's ends."""
    s = solve(GBM(), span=(0, 1), method=method("milstein", h=1 / 8), ensemble=300, seed=4)
    exact = GBM().exact(0.4375, s.W(0.4375))
    chord = 0.5 * (s.x[:, 3] + s.x[:, 4])
    assert float((s.x(0.4375) - exact).detach().abs().mean()) < 0.3 * float(
        (chord - exact).detach().abs().mean()
    )


def test_a_member_does_not_depend_on_the_batch():
    many = solve(GBM(), span=(0, 1), method=method("sri", h=0.05), save="end", ensemble=7, seed=8)
    few = solve(GBM(), span=(0, 1), method=method("sri", h=0.05), save="end", ensemble=2, seed=8)
    assert float((many.final.x[:2] - few.final.x).abs().max()) < 1e-15
    other = solve(GBM(), span=(0, 1), method=method("sri", h=0.05), save="end", ensemble=2, seed=9)
    assert float((other.final.x - few.final.x).abs().max()) > 1e-3


@pytest.mark.parametrize(("name", "model"), [("sri", GBM), ("sra1", Additive)])
def test_adaptive_steps_reject_and_follow_the_same_path(name, model):
    e, rejected = [], 0
    for tol in (1e-2, 1e-3):
        s = solve(
            model(), span=(0, 1), method=method(name, rtol=tol, atol=tol), save="end", ensemble=20, seed=6
        )
        e.append(float((s.final.x - model().exact(1.0, s.final.W)).detach().abs().mean()))
        rejected += int(s.stats.rejected.sum())
    assert rejected > 0
    assert e[1] < e[0] / 2
    assert e[1] < 1e-2


def test_events_reset_each_member_by_itself():
    s = solve(Reflected(), span=(0, 4), method=method("euler_maruyama", h=1 / 8), ensemble=8, seed=1)
    fired = torch.isfinite(s.events.t).sum(-1)
    assert int(fired.sum()) > 5
    assert int(fired.min()) < int(fired.max())
    # between resets x + t/2 - W is constant: each reset adds 1 to it, and to it alone
    drift = s.x + 0.5 * s.t - s.W
    assert float((drift[:, -1] - 0.5 - fired).abs().max()) < 1e-8


@pytest.mark.parametrize("name", ["euler_maruyama", "milstein", "sri", "heun", "reversible_heun"])
@pytest.mark.parametrize("gradient", ["discrete", ("checkpoint", 3)])
def test_gradients_are_those_of_what_was_computed(name, gradient):
    def loss(mu, s, gradient="none"):
        model = GBM().bind(mu=mu, s=s)
        run = solve(model, span=(0, 1), method=method(name, h=0.1), save=[0.35, 1.0], ensemble=3, seed=2,
                    gradient=gradient)  # fmt: skip
        return (run.x**2).sum()

    at = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.1, 0.4)]
    found = torch.autograd.grad(loss(*at, gradient=gradient), at)
    mu, s = (v.detach() for v in at)
    step = 1e-6
    expected = [
        (loss(mu + step, s) - loss(mu - step, s)) / (2 * step),
        (loss(mu, s + step) - loss(mu, s - step)) / (2 * step),
    ]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def neural(gradient, name="reversible_heun", save="end", h=0.02):
    """A small neural drift and diffusion, its loss and all gradients."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 6)).double()

    class Neural(Rotations):
        NAME = "Neural"

        def __init__(self, **values):
            super().__init__(**values)
            self.net = net

        def vector_field(self, t, x):
            return self.net(x)[..., :3]

        def diffusion(self, t, x):
            return 0.3 * torch.stack([self.net(x)[..., 3:], torch.cos(x)], -1)

    x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    s = solve(Neural().bind(x=x), span=(0, 1), method=method(name, h=h), save=save, ensemble=4, seed=1,
              gradient=gradient)  # fmt: skip
    loss = (s.x**2).sum() + (s.final.y * s.final.z).sum()
    return loss.detach(), torch.autograd.grad(loss, [x, *net.parameters()])


@pytest.mark.parametrize("save", ["end", "steps", [0.0, 0.13, 0.5, 0.77]])
def test_undone_steps_give_the_discrete_gradient(save):
    a, b = neural("reversible", save=save), neural("discrete", save=save)
    assert abs(float(a[0] - b[0])) < 1e-10
    for left, right in zip(a[1], b[1], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-9)


def test_undone_steps_keep_nothing_of_the_way():
    """What the tape holds does not grow with the steps."""

    def held(h):
        count = 0

        def pack(tensor):
            nonlocal count
            count += tensor.numel()
            return tensor

        x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            solve(GBM().bind(x=x), span=(0, 1), method=method("reversible_heun", h=h), save="end", ensemble=4,
                  gradient="reversible")  # fmt: skip
        return count

    assert held(1 / 64) == held(1 / 8) > 0


def test_a_method_that_cannot_be_undone_is_refused():
    for name in ("heun", "milstein", "sri"):
        with pytest.raises(SettingError, match="cannot be undone"):
            solve(GBM(), span=(0, 1), method=method(name, h=0.1), gradient="reversible")


def test_what_a_method_does_not_serve_is_refused_before_it_runs():
    with pytest.raises(SettingError, match=r"needs commutative noise .* is general"):
        solve(Rotations(), span=(0, 1), method=method("milstein", h=0.1))
    with pytest.raises(SettingError, match="needs additive noise"):
        solve(GBM(), span=(0, 1), method=method("sra1", h=0.1))
    with pytest.raises(SettingError, match="does not solve equations with noise"):
        solve(GBM(), span=(0, 1), method=method("rodas5"))
    with pytest.raises(SettingError, match="backwards"):
        solve(GBM(), span=(1, 0), method=method("milstein", h=0.1))
    with pytest.raises(SettingError, match="needs a step"):
        solve(GBM(), span=(0, 1), method=method("milstein"))
