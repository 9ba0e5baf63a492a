"""Trainings of field models: coefficients that are fields, recovered from runs; measurements of fields."""

import pytest
import torch

import ndl

TEXT = """
domain Rod = interval(x in 0..1)

model Measured:
    state u: R on Rod = sin(pi*x) + 0.5*sin(2*pi*x)
    u' = dx((0.02 + 0.02*x)*dx(u))
    on boundary(Rod): u = 0
    observe seen ~ normal(u, SIGMA)

solve Measured as records:
    grid   = uniform(17)
    span   = 0..1
    method = rk4(h=0.05)
    save   = every 0.25

model Heated:
    param K > 0: R on Rod = 0.03
    state u: R on Rod = sin(pi*x) + 0.5*sin(2*pi*x)
    u' = dx(K*dx(u))
    on boundary(Rod): u = 0

train Heated as found:
    data      = records
    grid      = uniform(17)
    method    = rk4(h=0.05)
    loss      = mean((u - data.seen)^2)
    fit       = K
    optimizer = lbfgs()
    steps     = 8
"""


def test_a_field_of_coefficients_is_fitted() -> None:
    program = ndl.loads(TEXT.replace("SIGMA", "1e-9"))
    _, trained = program.run()
    assert trained.history.loss[-1] < 1e-3 * trained.history.loss[0]
    K = trained.model.K.detach()
    gap = K - 0.02 - 0.02 * torch.linspace(0, 1, 17, dtype=K.dtype)
    # a central difference of a central difference hardly sees what alternates from point to point
    smooth = (gap[:-2] + 2 * gap[1:-1] + gap[2:]) / 4
    assert float(smooth[2:-2].abs().max()) < 2e-3


def test_measurements_of_fields_are_noisy_fields() -> None:
    (s,) = ndl.loads(TEXT.replace("SIGMA", "0.1")).run("records")
    gap = (s["seen"].values - s["u"].values).flatten()
    assert s["seen"].values.shape == (5, 17)
    assert 0.06 < float(gap.std()) < 0.14


def test_training_without_a_grid_names_the_setting() -> None:
    text = TEXT.replace("SIGMA", "0.1").replace("    grid      = uniform(17)\n", "")
    with pytest.raises(ndl.NDLError, match="need a grid"):
        ndl.loads(text).run("found")
