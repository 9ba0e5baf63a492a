"""The documentation names what there is: commands, solvers, exit codes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ndl import exits
from ndl.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((ROOT / "examples").glob("*.ndl"))


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_command_and_exit_code_is_described() -> None:
    text = page("cli.md")
    for name in COMMANDS:
        assert f"`ndl {name} " in text
    for name, code in vars(exits).items():
        if name.isupper():
            assert f"| {code} | " in text, name


def test_every_solver_of_the_library_is_in_the_table() -> None:
    table = page("solvers.md")
    names = set()
    for file in (ROOT / "stdlib" / "solvers").glob("*.ndl"):
        names |= set(re.findall(r"^solver (\w+)", file.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert len(names) > 25
    public = {n for n in names if not n.startswith("_")}
    assert not {n for n in public if f"`{n}`" not in table and f"`{n}(" not in table}


def with_few_steps(text: str) -> str:
    """The program with at most three steps in a training, one seed, and two values of what is varied."""
    text = re.sub(r"^( +seeds *= *)\d+$", r"\g<1>1", text, flags=re.MULTILINE)
    text = re.sub(r"^( +vary *= *\w+ in \[[^,\]]+, [^,\]]+), [^\]]+\]", r"\1]", text, flags=re.MULTILINE)
    return re.sub(r"^( +steps *= *)(\d+)$", lambda m: f"{m[1]}{min(int(m[2]), 3)}", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_an_example_is_formatted_and_checks(path, ndl) -> None:
    assert ndl("fmt", "--check", path).code == 0
    found = ndl("check", path)
    assert found.code == 0, found.text


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_an_example_runs_and_leaves_a_picture(path, ndl, tmp_path) -> None:
    """Trained for a few steps only: what the training reaches is told in docs/models, with its command."""
    shutil.copytree(path.parent / "data", tmp_path / "data")
    short = tmp_path / path.name
    short.write_text(with_few_steps(path.read_text(encoding="utf-8")), encoding="utf-8")
    done = ndl("run", short, "--out", tmp_path / "out", "-q")
    assert done.code == 0, done.text
    assert list((tmp_path / "out").rglob("*.png")) and list((tmp_path / "out").rglob("*.svg"))


def test_the_readme_program_is_the_example() -> None:
    shown = re.search(r"```ndl\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    example = (ROOT / "examples" / "lynx_hare.ndl").read_text(encoding="utf-8")

    def statements(text: str) -> list[str]:
        lines = (line.partition("#")[0].split() for line in text.partition("model ")[2].splitlines())
        return [" ".join(words) for words in lines if words]

    assert shown and statements(shown[1]) == statements(example)


def test_the_functions_that_the_reference_lists_exist() -> None:
    from ndl.compiler.check.builtins import make_builtins

    known = set(make_builtins().names)
    text = page("language.md")
    listed: set[str] = set()
    for heading in ("Functions of components", "Functions of tensors", "Making tensors", "Distributions"):
        words = re.search(rf"\*\*{heading}\*\*: `(.*?)`", text, re.DOTALL)
        assert words, heading
        listed |= set(re.sub(r"\([^)]*\)", "", words[1]).split())
    assert len(listed) > 70
    assert not listed - known
