"""Small programs run from their text: the tests of a program, and the error of a wrong one."""

from __future__ import annotations

from typing import Any

import pytest
from ndl.compiler.diagnostics import Diagnostic, NDLError
from ndl.compiler.source import Source

from ndl.session import Program


def load(text: str, **settings: Any) -> Program:
    return Program.load(Source("features.ndl", text), **settings)


def check(text: str, **settings: Any) -> None:
    """Every `test` block of a program passes."""
    results = list(load(text, **settings).test())
    assert results
    for result in results:
        assert result.passed, f"{result.title}: {result.message}"


def refused(text: str, **settings: Any) -> Diagnostic:
    """The first error of a program, found when it is checked or when its tests run."""
    with pytest.raises(NDLError) as caught:
        for result in load(text, **settings).test():
            if result.diagnostic is not None:
                raise NDLError([result.diagnostic])
    return caught.value.diagnostics[0]
