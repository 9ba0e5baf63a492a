"""Root solvers of the library on equations without time."""

from typing import ClassVar

import pytest
import torch
from library import method
from ndl.runtime.errors import SettingError
from ndl.runtime.info import ParameterInfo
from ndl.runtime.solve import solve
from problems import Decay, Small, scalars


class Fixed(Small):
    """0 = f(z) - z with f a contraction of two unknowns."""

    NAME = "Fixed"
    STATES = scalars("x", "y", algebraic=("x", "y"))
    PARAMETERS = (ParameterInfo("a"),)
    DEFAULTS: ClassVar = {"a": 0.5}

    def vector_field(self, t, z):
        x, y = z.unbind(-1)
        return torch.stack([self.a * torch.cos(y) - x, 0.4 * torch.sin(x) + 1 - y], -1)


@pytest.mark.parametrize("name", ["newton", "broyden", "anderson"])
def test_a_root_is_found(name):
    s = solve(Fixed(), span=(0, 0), method=method(name))
    z = torch.stack([s.final.x, s.final.y], -1)[None]
    assert float(Fixed().vector_field(torch.zeros(1), z).detach().norm()) < 1e-10
    assert s.stats.steps < {"newton": 7, "broyden": 15, "anderson": 20}[name]


def test_anderson_is_faster_than_the_plain_iteration():
    plain = solve(Fixed(a=1.5), span=(0, 0), method=method("anderson", beta=0.3))
    z, count = torch.zeros(1, 2, dtype=torch.float64), 0
    model = Fixed(a=1.5)
    while float(model.vector_field(torch.zeros(1), z).detach().norm()) > 1e-10:
        z, count = (z + 0.3 * model.vector_field(torch.zeros(1), z)).detach(), count + 1
    assert plain.stats.steps < count / 2


@pytest.mark.parametrize("gradient", ["discrete", "adjoint"])
@pytest.mark.parametrize("name", ["newton", "broyden"])
def test_gradients_of_a_family(name, gradient):
    a = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)

    def x(a, gradient="none"):
        return solve(Fixed().bind(a=a), span=(0, 0), method=method(name), gradient=gradient).final.x

    (found,) = torch.autograd.grad(x(a, gradient).sum(), a)
    at = a.detach()
    torch.testing.assert_close(found, (x(at + 1e-5) - x(at - 1e-5)) / 2e-5, rtol=1e-5, atol=1e-7)


def test_a_model_with_rates_is_refused():
    with pytest.raises(SettingError, match="has a rate"):
        solve(Decay(), span=(0, 1), method=method("newton"))
