"""What people write at first, and what they are told: code, words under the caret, advice."""

from __future__ import annotations

import pytest
from ndl.compiler.diagnostics import NDLError

import ndl

IN_A_MODEL = [
    ("param a in 5..0 = 1", "NDL329", "5..0", "`in 0..5`"),
    ("param a in [0, 5] = 1", "NDL329", "[0, 5]", "`in lo..hi`"),
]


@pytest.mark.parametrize(("line", "code", "words", "advice"), IN_A_MODEL, ids=[c[0] for c in IN_A_MODEL])
def test_mistakes_in_a_model(line: str, code: str, words: str, advice: str) -> None:
    with pytest.raises(NDLError) as caught:
        ndl.loads(f"model M:\n    state x = 1\n    {line}\n    x' = -x\n")
    (told,) = caught.value.diagnostics
    assert (told.code, told.span.line, told.span.text) == (code, 3, words)
    assert advice in str(told.help)
