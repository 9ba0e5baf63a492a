"""The library's own tests: every module's identities hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from ndl.compiler.check.modules import stdlib_folder

from ndl.session import Program

MODULES = [p for p in sorted(stdlib_folder().rglob("*.ndl")) if 'test "' in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: f"{p.parent.name}.{p.stem}")
def test_a_module_is_what_it_says(path: Path) -> None:
    results = list(Program.load(path).test())
    assert results
    for result in results:
        assert result.passed, f"{result.title}: {result.message}"
