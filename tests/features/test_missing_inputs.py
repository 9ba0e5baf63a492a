"""An input that nobody gave is an error of the user's, which says how to give it."""

from __future__ import annotations

import pytest
from ndl.compiler.diagnostics import NDLError, near

import ndl

TEXT = """
model Driven:
    input u: R{kind}
    state x = 1.0
    x' = u - x
"""


@pytest.mark.parametrize(("kind", "wanted"), [("", "a value"), (" on time", "a path")])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_run_without_an_input(kind: str, wanted: str, backend: str) -> None:
    model = ndl.loads(TEXT.format(kind=kind)).Driven
    with pytest.raises(NDLError, match=rf"NDL575.*`Driven` needs {wanted} for its input `u`") as caught:
        ndl.solve(model, span=(0, 1), backend=backend)
    (found,) = caught.value.diagnostics
    assert found.help is not None and "Driven(u=" in found.help


def test_help_offers_no_name_of_the_compiler_s_own() -> None:
    assert near("every", ["every_", "ever"]) == "ever"
    assert near("every", ["every_", "_every"]) is None
