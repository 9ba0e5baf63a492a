"""Every error code in the sources has an explanation, and the explanations tell the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ndl.compiler import diagnostics
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.source import Source

import ndl as package
import ndl.explanations as explained
from ndl.explanations import explanations
from ndl.session import Program

FOLDERS = [Path(package.__file__).parent, Path(diagnostics.__file__).parent]
TABLE = explanations()


def codes() -> set[str]:
    """Codes that are written as a whole string: those that errors are made with."""
    import ndl.runtime as runtime

    folders = [*FOLDERS, Path(runtime.__file__).parent]
    found: set[str] = set()
    for folder in folders:
        for file in folder.rglob("*.py"):
            found |= set(re.findall(r'"(NDL\d{3})"', file.read_text(encoding="utf-8")))
    return found


def test_every_code_is_explained() -> None:
    assert len(codes()) > 30
    missing = codes() - set(TABLE)
    assert not missing, f"no explanation for {sorted(missing)}"


@pytest.mark.parametrize("code", sorted(TABLE))
def test_an_explanation_is_shown_whole(code, ndl) -> None:
    e = TABLE[code]
    assert e.wrong != e.right
    shown = ndl("explain", code.lower())
    assert shown.code == 0 and shown.out.startswith(f"{code}: {e.title}\n\n{e.why}")
    for line in (*e.wrong.splitlines(), *e.right.splitlines()):
        assert line in shown.out


@pytest.mark.parametrize("code", sorted(c for c, e in TABLE.items() if e.kind == "ndl"))
def test_a_mistake_gives_its_code_and_its_mending_is_clean(code, ndl, tmp_path) -> None:
    wrong, right = tmp_path / "wrong.ndl", tmp_path / "right.ndl"
    wrong.write_text(TABLE[code].wrong + "\n", encoding="utf-8")
    right.write_text(TABLE[code].right + "\n", encoding="utf-8")
    found = ndl("check", "--format", "json", wrong).json
    assert code in {d["code"] for d in found}, found
    mended = ndl("check", "--format", "json", right).json
    assert mended == []


def codes_of_a_run(text: str, folder: Path) -> list[str]:
    """The codes of all errors of a program that is checked, made and run."""
    try:
        program = Program.load(Source(str(folder / "page.ndl"), text))
        results = list(program.test())
        run = [] if program.runs else list(program.models)
        assert all(program.models[name] for name in run)
        program.run()
    except NDLError as error:
        return [d.code for d in error.diagnostics]
    return [r.diagnostic.code if r.diagnostic else "NDL660" for r in results if not r.passed]


@pytest.mark.parametrize("code", sorted(c for c, e in TABLE.items() if e.kind == "ndl run"))
def test_a_mistake_of_a_run_gives_its_code_and_its_mending_runs(code, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert code in codes_of_a_run(TABLE[code].wrong + "\n", tmp_path)
    assert codes_of_a_run(TABLE[code].right + "\n", tmp_path) == []


def test_no_entry_is_lost_to_its_layout() -> None:
    written = 0
    for file in Path(explained.__file__).parent.glob("*.md"):
        written += file.read_text(encoding="utf-8").count("\n# NDL") + 1
    assert written == len(TABLE)
