"""Settings that are worked out once a file: what they may not remember, and that they free what they read."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from ndl.compiler.diagnostics import NDLError

import ndl
from ndl.host import settled

PROGRAM = """
const size = 0.125

model Decay:
    param k = 0.5
    state x = 1
    x' = -x

model Noisy:
    noise W: wiener
    state x = 1
    dx = -x*dt + 0.1*dW
"""


def steps(model: object, method: str, span: tuple[float, float] = (0, 1)) -> int:
    return int(ndl.solve(model, span=span, method=method, save="end").stats.steps)


def test_a_method_follows_the_values_that_it_reads() -> None:
    models = ndl.loads(PROGRAM).models
    for k, count in ((0.5, 2), (0.25, 4), (0.5, 2)):
        assert steps(models["Decay"](k=k), "euler(h=k)") == count
    for text, count in (
        ("euler(h=size)", 8),
        ("euler(h=0.25)", 4),
        ("euler(h=0.5)", 2),
        ("euler(h=0.25)", 4),
    ):
        for _ in range(2):
            assert steps(models["Decay"](), text) == count
    assert steps(models["Decay"](), "euler(h=0.25)", (0, 3)) == 12


def test_a_kept_method_is_checked_for_each_model() -> None:
    models = ndl.loads(PROGRAM).models
    for _ in range(2):
        assert steps(models["Decay"](), "rk4(h=0.5)") == 2
        with pytest.raises(NDLError, match="cannot solve `Noisy`"):
            ndl.solve(models["Noisy"](), span=(0, 1), method="rk4(h=0.5)", save="end")


def test_what_is_kept_is_bounded_and_no_values_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "MOST", 8)
    program = ndl.loads(PROGRAM)
    k, x = torch.tensor(0.5, dtype=torch.float64), torch.ones(20, dtype=torch.float64)
    model = program.models["Decay"]().bind(k=k, x=x)
    for n in range(1, 12):
        kept = ndl.solve(model, span=(0, 1), method=f"rk4(steps={n})", save="end", gradient="discrete")
        assert int(kept.stats.steps[0]) == n
    assert 0 < len(program.host.settled._values) <= 8
    assert 0 < len(program.host.settled._methods) <= 8
    held = [weakref.ref(v) for v in (k, x, model)]
    del k, x, model, kept
    gc.collect()
    assert [v() for v in held] == [None] * 3


def test_times_are_kept_and_stay_apart() -> None:
    """Lists of numbers, however they come, and lists of what has other values."""
    model = ndl.loads(PROGRAM).models["Decay"]()
    for _ in range(2):
        for times in ([-1.0, -0.5, 0], [-1.0, -0.25, 0.0], torch.tensor([-1.0, -0.5, 0.0]), (-1, -0.5, 0)):
            s = ndl.solve(model, span=(-1, 0), method="tsit5(rtol=1e-9)", save=times)
            wanted = torch.as_tensor(times, dtype=torch.float64)
            assert torch.equal(s.t, wanted)
            torch.testing.assert_close(s.x.values, torch.exp(-1 - wanted), rtol=1e-8, atol=0)
    for k, last in ((0.5, 0.5), (0.25, 0.25)):
        s = ndl.loads(PROGRAM.replace("0.125", str(k))).models["Decay"]()
        assert float(ndl.solve(s, span=(0, 1), save="[size/2, size]").t[-1]) == last
    with pytest.raises(NDLError):
        ndl.solve(model, span=(0, 1), save=[0.5, "k"])
