"""What kernels take of GPUs: the page has every method of the library, and the numbers of the compiler."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from agreement import Case, gap, solvers
from agreement_problems import PROBLEMS

ROOT = Path(__file__).parents[2]
CHECKED = (
    ("Lorenz", "tsit5", "f64", "solve"),
    ("Lorenz", "rk4", "f32", "adjoint"),
    ("Robertson", "rosenbrock23", "f32", "solve"),
    ("Robertson", "rodas5", "f64", "adjoint"),
    ("Drifting", "euler_heun", "f32", "solve"),
)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[tuple[str, ...], tuple[str, ...]], str]:
    """The module that writes the table, the table, and the whole page."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import gpu_kernels

    text = gpu_kernels.PAGE.read_text(encoding="utf-8")
    return gpu_kernels, gpu_kernels.table(text), text


def test_every_method_has_its_rows(page) -> None:
    module, table, text = page
    wanted = {c.key for c in module.cases()}
    assert len(wanted) > 200 and set(table) == wanted
    assert module.written(text, table) == text


def test_the_methods_are_those_of_the_library(page) -> None:
    """All that have kernels, but for splittings, whose kernels are those of their parts."""
    module, *_ = page
    for kind, named in (("ode", module.ODE), ("sde", module.SDE)):
        served = {
            s for k, s in solvers() if k == kind and any(gap(Case(k, s, p)) is None for p in PROBLEMS[k])
        }
        assert set(named) == served


def test_no_kernel_spills(page) -> None:
    module, table, _ = page
    assert not {k for k, row in table.items() if (row[1], row[3]) != ("0", "0")}
    assert not {k for k, row in table.items() if row[-1].endswith(module.OLD)}


@pytest.mark.parametrize("key", CHECKED, ids="-".join)
def test_the_numbers_are_the_compilers(key, page, tmp_path, monkeypatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module, table, text = page
    registers, spills, shared, work = module.row(module.Case(*key), (90,))
    said = table[key]
    assert (spills, shared) == (0, 0) and said[3:] == ("0", "0", str(work))
    if f"Triton {version('triton').rpartition('.')[0]}" in text:
        assert abs(registers - int(said[2])) <= 8, (registers, said)
