"""The code in the documentation: every NDL block checks, every runnable Python block runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(kind: str) -> list[object]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match["kind"].strip() == kind:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(match["text"], id=f"{page.name}:{line}"))
    return found


def test_the_pages_have_blocks() -> None:
    assert len(blocks("ndl")) >= 20 and blocks("python runnable")


@pytest.mark.parametrize("text", blocks("ndl"))
def test_an_ndl_block_checks_and_passes_its_tests(text, ndl, tmp_path) -> None:
    file = tmp_path / "block.ndl"
    file.write_text(text, encoding="utf-8")
    found = ndl("test" if 'test "' in text else "check", file)
    assert found.code == 0, found.text


@pytest.mark.parametrize("text", blocks("python runnable"))
def test_a_python_block_runs(text) -> None:
    exec(compile(text, "<documentation>", "exec"), {"__name__": "documentation"})
