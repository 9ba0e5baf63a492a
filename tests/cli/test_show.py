"""`ndl show`, `compile`, `explain FILE`, `fix` and `cite`."""

from __future__ import annotations

import ast
import sys
import xml.etree.ElementTree as xml

import pytest

PROGRAM = """model Decay:
    param k > 0 = 1.0
    state x = 1.0
    x' = -k*x

solve Decay:
    span   = 0..1
    method = tsit5(rtol=1e-6, atol=1e-6)
"""


@pytest.fixture
def program(tmp_path):
    file = tmp_path / "decay.ndl"
    file.write_text(PROGRAM)
    return file


def test_the_tree_has_every_node_with_its_place(ndl, program) -> None:
    shown = ndl("show", "--tree", program)
    assert shown.code == 0
    lines = [line.strip() for line in shown.out.splitlines()]
    assert lines[0] == "Model name='Decay'  @1:1" or lines[0].startswith("Model name='Decay'")
    assert any(
        line.startswith("targets[0]: Name id='x' primes=1") and line.endswith("@4:5") for line in lines
    )


def test_equations_as_text_and_latex(ndl, program) -> None:
    assert "x' = -k*x" in ndl("show", program).out
    assert r"\begin{aligned}" in ndl("show", "--latex", program).out


def test_an_unknown_model_is_refused_with_the_nearest(ndl, program) -> None:
    refused = ndl("show", "--model", "Deca", program)
    assert refused.code == 2 and "did you mean `Decay`" in refused.err


def test_the_picture_is_well_formed_and_has_every_operation(ndl, program) -> None:
    shown = ndl("show", "--svg", program)
    assert shown.code == 0, shown.text
    root = xml.fromstring(shown.out)
    texts = {t.text for t in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"mul"} & {str(t).split(" = ")[-1] for t in texts} and "→ x" in texts


def test_ir_text_names_the_operations(ndl, program) -> None:
    shown = ndl("show", "--ir", program)
    assert shown.code == 0 and "mul" in shown.out


def test_the_compiled_module_is_python_that_imports_little(ndl, program, tmp_path) -> None:
    out = tmp_path / "decay.py"
    assert ndl("compile", program, "-o", out).code == 0
    text = out.read_text()
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    for module in imported:
        top = module.split(".")[0]
        assert top == "torch" or top in sys.stdlib_module_names or module.startswith("ndl.runtime"), module
    assert ndl("compile", program).out == text == ndl("show", "--code", program).out


def test_facts_are_shown(ndl, program) -> None:
    shown = ndl("explain", program)
    assert shown.code == 0, shown.text
    assert "model Decay" in shown.out and "linear" in shown.out


def test_fix_adds_the_edition_once(ndl, program) -> None:
    assert ndl("fix", program).code == 0
    assert program.read_text() == "edition 2026\n" + PROGRAM
    again = ndl("fix", program)
    assert again.code == 0 and "already" in again.out
    assert ndl("check", program).code == 0


def test_cite_knows_the_solver_of_the_file(ndl, program) -> None:
    shown = ndl("cite", program)
    assert shown.code == 0 and "tsit5" in shown.out and "Tsitouras" in shown.out


def test_a_module_of_the_library_is_named_as_in_use(ndl) -> None:
    shown = ndl("show", "std.models.dispersive", "--model", "KdV")
    assert shown.code == 0 and "= -6*u*dx(u) - dxxx(u)" in shown.out
    assert "KuramotoSivashinsky" not in shown.out
    several = ndl("show", "std.models")
    assert several.code == 2 and "std.models.dispersive" in several.err
    explained = ndl("explain", "std.models.steady")
    assert explained.code == 0 and "model Poisson" in explained.out


def test_what_is_diagonal_in_fourier_space_stands_below_the_equations(ndl) -> None:
    shown = ndl("show", "std.models.conservation").out
    assert "# Burgers in Fourier space: `dxx(u)` in the rate of `u`" in shown
    assert "# InviscidBurgers in" not in shown
    assert "Fourier" not in ndl("show", "std.models.conservation", "--latex").out


def test_the_kernel_of_a_field_is_refused_and_what_runs_it_told(ndl) -> None:
    shown = ndl("show", "std.models.conservation", "--kernel", "--model", "Burgers", "--grid", "uniform(64)")
    assert shown.code == 1 and "NDL578" in shown.err and "sweeps over the grid" in shown.err


def test_a_table_has_no_value_in_a_model(ndl, tmp_path) -> None:
    (tmp_path / "k.ndl").write_text(PROGRAM.replace("k > 0 = 1.0", 'k = table("k.csv")'))
    ran = ndl("run", "k.ndl")
    assert ran.code == 1 and "NDL577" in ran.err


def test_the_kernel_of_a_stochastic_equation(ndl, tmp_path) -> None:
    (tmp_path / "s.ndl").write_text(
        "model Walk:\n    noise W: wiener\n    state x = 1.0\n    dx = -x*dt + 0.1*x*dW\n"
    )
    for more in ([], ["--method", "milstein"]):
        shown = ndl("show", "s.ndl", "--kernel", *more)
        assert shown.code == 0 and "= normal_cos" in shown.out and "# -x\n" in shown.out
