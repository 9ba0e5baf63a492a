"""What `ndl explain CODE` says: an entry for each error code, in a Markdown file for each hundred.

An entry is `# NDL201: title`, a paragraph that says why, and two fenced blocks: the mistake (`wrong`)
and its mending (`right`). Blocks of kind `ndl` are whole programs, which a test holds to their word:
`wrong` gives the code when it is checked, `right` is clean; of kind `ndl run` when they are run. Others
(`text`) are excerpts, tables or command lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ENTRY = re.compile(
    r"^# (?P<code>NDL\d{3}): (?P<title>[^\n]+)\n\n(?P<why>.*?)\n\n"
    r"```(?P<kind>ndl run|ndl|text) wrong\n(?P<wrong>.*?)\n```\n\n"
    r"```(?P=kind) right\n(?P<right>.*?)\n```\n",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Explanation:
    """What a code means, why NDL minds, and the mistake beside its mending."""

    code: str
    title: str
    why: str
    wrong: str
    right: str
    kind: str


def explanations() -> dict[str, Explanation]:
    """All explanations by code, sorted."""
    found: dict[str, Explanation] = {}
    for file in Path(__file__).parent.glob("*.md"):
        for m in ENTRY.finditer(file.read_text(encoding="utf-8")):
            found[m["code"]] = Explanation(m["code"], m["title"], m["why"], m["wrong"], m["right"], m["kind"])
    return dict(sorted(found.items()))
