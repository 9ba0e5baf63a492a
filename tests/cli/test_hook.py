"""`import ndl`, the import hook and the notebook magic."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import ndl as package

DECAY = "model Decay:\n    param k > 0 = 1.0\n    state x = 1.0\n    x' = -k*x\n"


def test_import_ndl_is_light() -> None:
    program = "import sys, ndl; print([m for m in ('torch', 'sympy', 'lark', 'click') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_a_model_is_imported_from_a_package_of_files(tmp_path, monkeypatch) -> None:
    import ndl.hook as hook

    folder = tmp_path / "ndl_test_models"
    folder.mkdir()
    (folder / "decay.ndl").write_text(DECAY)
    (folder / "broken.ndl").write_text(DECAY.replace("-k*x", "-q*x"))
    monkeypatch.syspath_prepend(str(tmp_path))
    hook.install()
    try:
        module = importlib.import_module("ndl_test_models.decay")
        assert module.Decay().vector_field is not None
        assert module.__file__ == str(folder / "decay.ndl")
        with pytest.raises(package.NDLError) as refused:
            importlib.import_module("ndl_test_models.broken")
        assert refused.value.diagnostics[0].span.line == 4
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("ndl_test_models.absent")
    finally:
        hook.uninstall()
        for name in [n for n in sys.modules if n.startswith("ndl_test_models")]:
            del sys.modules[name]


def test_the_magic_pushes_models_and_prints_diagnostics(capsys) -> None:
    from ndl.notebook import ndl_cell

    class Shell:
        def __init__(self) -> None:
            self.names: dict[str, object] = {}

        def push(self, names: dict[str, object]) -> None:
            self.names.update(names)

    shell = Shell()
    ndl_cell(shell, "decay", DECAY)
    assert set(shell.names) == {"Decay", "decay"}
    ndl_cell(shell, "", DECAY.replace("-k*x", "-q*x"))
    assert "`q`" in capsys.readouterr().out


def test_loads_solves_and_trains() -> None:
    import math

    program = package.loads(DECAY)
    s = package.solve(program.models["Decay"](k=2.0), span=(0, 1), method="dopri5(rtol=1e-10, atol=1e-12)")
    assert abs(float(s.final.x) - math.exp(-2)) < 1e-9
