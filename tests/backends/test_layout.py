"""Long lines of generated code are broken without changing what they say."""

from __future__ import annotations

import ast

import pytest
from ndl.compiler.backends.torch.layout import WIDTH, broken

LONG = [f"value_{i}*factor_{i}" for i in range(12)]
LINES = [
    "    return torch.stack([" + ", ".join(LONG) + "], -1)",
    "    total = " + " + ".join(LONG),
    "        total = " + " - ".join(f"torch.exp({x})" for x in LONG) + "/2",
    "    chosen = torch.where((" + ") & (".join(f"{x} < 1" for x in LONG) + "), a, b)",
    "    return " + ", ".join(LONG),
    '    self.register_buffer("_array_0", torch.tensor([' + ", ".join(["1.0"] * 30) + "]), persistent=False)",
    "    return ops.matrix([[" + ", ".join(LONG[:3]) + "], [" + ", ".join(LONG[3:6]) + "]])",
    "    short = 1 + 2",
]


@pytest.mark.parametrize("line", LINES)
def test_meaning_is_kept(line: str) -> None:
    lines = broken(line)
    assert max(map(len, lines)) <= WIDTH
    source, again = ("def f():\n" + x for x in (line, "\n".join(lines)))
    assert ast.dump(ast.parse(source)) == ast.dump(ast.parse(again))
