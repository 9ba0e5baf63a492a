"""A hook of mkdocs: formulas between dollar signs become MathML, which browsers show without any script."""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

FENCES = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page's text with its formulas converted, code left alone."""
    parts = FENCES.split(markdown)
    return "".join(part if k % 2 else with_formulas(part) for k, part in enumerate(parts))


def with_formulas(text: str) -> str:
    shown = DISPLAYED.sub(lambda m: _one_line(convert(m[1].strip(), display="block")), text)
    return INLINE.sub(lambda m: _one_line(convert(m[1])), shown)


def _one_line(html: str) -> str:
    return " ".join(html.split())
