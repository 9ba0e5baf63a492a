"""Models whose fields have no grid yet: from Python, on the command line."""

import pytest
import torch
from click.testing import CliRunner

import ndl
from ndl.cli import cli

TEXT = """
domain Ring = periodic(x in 0..1)

model Heat:
    param nu = 0.1
    state u: R on Ring = sin(2*pi*x)
    u' = nu*lap(u)
"""


def test_a_model_becomes_a_class_on_a_grid() -> None:
    heat = ndl.loads(TEXT).models["Heat"]
    assert "need a grid" in repr(heat)
    made = heat.on("fourier(16)")(nu=0.2)
    assert isinstance(made, torch.nn.Module)
    x = made.initial_state()
    rate = made.vector_field(torch.tensor(0.0), x).detach()
    torch.testing.assert_close(rate, -0.2 * (2 * torch.pi) ** 2 * x.detach(), atol=1e-5, rtol=1e-5)


def test_solve_takes_the_grid_as_a_setting() -> None:
    heat = ndl.loads(TEXT).models["Heat"]
    found = [
        ndl.solve(m, span=(0, 0.1), method="tsit5(rtol=1e-9)", save="end", **more).final.u
        for m, more in (
            (heat(nu=0.3), {"grid": "uniform(32, order=4)"}),
            (heat(nu=0.3).on("uniform(32, order=4)"), {}),
        )
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_program_may_have_a_grid() -> None:
    assert ndl.loads(TEXT, grid="uniform(32)").models["Heat"]().initial_state().shape == (32,)


def test_without_a_grid_a_run_names_the_setting() -> None:
    heat = ndl.loads(TEXT).models["Heat"]
    with pytest.raises(ndl.NDLError, match="grid"):
        ndl.solve(heat, span=(0, 1))
    with pytest.raises(ndl.NDLError, match="chebyshev"):
        heat.on("chebyshev(16)")


def test_the_command_line_takes_a_grid(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "heat.ndl"
    file.write_text(TEXT)

    def said(*words: str) -> str:
        done = CliRunner().invoke(cli, [*words, str(file)])
        assert done.exit_code == 0, done.output
        return done.output

    assert "stands in" in said("explain")
    assert "256.0" in said("show", "--code", "--grid", "uniform(16)")
    assert "multiplier" in said("compile", "--grid", "fourier(16)")
