"""The shipped LALR tables, and what reading a program costs in imports."""

from __future__ import annotations

import json
import subprocess
import sys

from ndl.compiler.syntax import tables


def test_shipped_tables_are_those_of_the_grammar() -> None:
    stored = json.loads(tables.SHIPPED.read_text("utf-8"))
    assert stored == json.loads(json.dumps(tables.generate()))


def test_parsing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ndl.compiler.syntax.parser import parse; from ndl.compiler.syntax import format;"
        "from ndl.compiler.source import Source; assert not parse(Source('a', 'const a = 1\\n'))[1];"
        "print([m for m in ('lark', 'torch', 'numpy', 'sympy', 'networkx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
