"""The parser and the checker answer any text with diagnostics, and never with an exception.

Mutations of whole programs: tokens and lines are deleted, doubled, swapped and replaced by those of other
programs, characters inserted. A failure prints the program; the seed is that of its batch.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from ndl.compiler.check import check_file, modules
from ndl.compiler.diagnostics import render, to_json
from ndl.compiler.source import Source

ROOT = Path(__file__).parents[2]
PROGRAMS = [
    p.read_text(encoding="utf-8")
    for p in sorted([*(ROOT / "tests" / "conformance").glob("*.ndl"), *(ROOT / "examples").glob("*.ndl")])
]
TOKEN = re.compile(r"\w+'*|\"[^\"\n]*\"|\.\.|->|<-|==|[<>!]=|//|\s+|.", re.DOTALL)
CHARACTERS = "()[]{}'\"\\\t\n#~^@:;,.0eλ²\u0302\u200b \0"
BATCHES, EACH = 20, 200


def mutate(text: str, chance: random.Random) -> str:
    """One to four small accidents."""
    for _ in range(chance.randint(1, 4)):
        kind = chance.randrange(8)
        if kind < 5:
            tokens = TOKEN.findall(text)
            k = chance.randrange(len(tokens))
            if kind == 0:
                del tokens[k]
            elif kind == 1:
                tokens.insert(k, tokens[k])
            elif kind == 2:
                j = chance.randrange(len(tokens))
                tokens[k], tokens[j] = tokens[j], tokens[k]
            elif kind == 3:
                tokens[k] = chance.choice(TOKEN.findall(chance.choice(PROGRAMS)))
            else:
                tokens.insert(k, chance.choice(CHARACTERS))
            text = "".join(tokens)
        else:
            lines = text.split("\n")
            k = chance.randrange(len(lines))
            if kind == 5:
                del lines[k]
            elif kind == 6:
                lines.insert(k, chance.choice(chance.choice(PROGRAMS).split("\n")))
            else:
                lines[k] = " " * chance.randrange(9) + lines[k].lstrip()
            text = "\n".join(lines)
        text = text or "\n"
    return text


@pytest.fixture(scope="module", autouse=True)
def library() -> Any:
    """The files of the library, which stay as they are, are parsed once."""
    parsed: dict[str, Any] = {}
    plain, folder = modules.parse, str(modules.stdlib_folder())

    def once(source: Source) -> Any:
        if not source.path.startswith(folder):
            return plain(source)
        if source.path not in parsed:
            parsed[source.path] = plain(source)
        return parsed[source.path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules, "parse", once)
        yield


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_mutated_program_gets_diagnostics(batch: int) -> None:
    chance = random.Random(batch)
    path = ROOT / "tests" / "conformance" / "mutated.ndl"
    for _ in range(EACH):
        text = mutate(chance.choice(PROGRAMS), chance)
        try:
            _, found = check_file(Source(str(path), text))
            for d in found:
                assert render(d) and to_json(d)["code"] == d.code
                assert not d.code.startswith("NDL9"), d.message
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n---- the program\n{text}") from error
