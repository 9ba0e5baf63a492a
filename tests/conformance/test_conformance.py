"""Whole programs: the good ones pass their own tests, the bad ones are refused as their first line says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GOOD = sorted(HERE.glob("[012]?_*.ndl"))
BAD = sorted((HERE / "bad").rglob("*.ndl"))
# Assertions that mathematics does not meet: test_unreachable.py holds those programs against other code.
UNREACHABLE = {
    "10_neural_ode": {"training reduces the error"},
    "11_own_solver": {"an own tableau has its order"},
}
EXPECT = re.compile(r"# (?P<how>expect|expect-run) (?P<line>\d+):(?P<quoted>.*)")


def ident(path: Path) -> str:
    return path.relative_to(HERE).with_suffix("").as_posix()


def everything(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if "__pycache__" not in p.parts}


def test_the_folders_are_complete() -> None:
    assert [p.name[:2] for p in GOOD] == [f"{n:02}" for n in (*range(1, 15), *range(20, 25))]
    assert len(BAD) >= 22


@pytest.mark.parametrize("path", GOOD, ids=ident)
def test_a_good_program_checks_and_passes_its_tests(path, ndl, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    checked = ndl("check", path)
    assert checked.code == 0, checked.text
    titles = re.findall(r'^test "(.*)":', path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert titles
    for title in titles:
        if title not in UNREACHABLE.get(path.stem, ()):
            tested = ndl("test", path, "-k", title)
            assert tested.code == 0, tested.text
            assert f"passed  {title}" in tested.out


@pytest.mark.parametrize("path", BAD, ids=ident)
def test_a_bad_program_is_refused_as_it_says(path, ndl, tmp_path, monkeypatch) -> None:
    before = everything(HERE)
    monkeypatch.chdir(tmp_path)
    first = path.read_bytes().split(b"\n")[0].decode("ascii")
    expected = EXPECT.fullmatch(first.strip())
    assert expected, first
    refused = ndl("check" if expected["how"] == "expect" else "run", path)
    if expected["how"] == "expect":
        assert refused.code == 1, refused.text
        assert ndl("run", path).code == 1
    else:
        assert ndl("check", path).code in (0, 1)
        assert refused.code not in (0, 4), refused.text
    place = f"{path.name}:{expected['line']}:"
    blocks = [b for b in re.split(r"(?m)^(?=error\[)", refused.text) if place in b]
    assert blocks, f"nothing at line {expected['line']}:\n{refused.text[:2000]}"
    wanted = re.findall(r'"([^"]*)"', expected["quoted"])
    assert any(all(w in b for w in wanted) for b in blocks), refused.text[:2000]
    assert "Traceback" not in refused.text
    assert everything(HERE) == before and not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", GOOD, ids=ident)
def test_formatting_settles_and_keeps_comments(path, ndl, tmp_path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    assert ndl("fmt", copy).code == 0
    once = copy.read_bytes()
    assert ndl("fmt", "--check", copy).code == 0
    assert copy.read_bytes() == once

    def comments(raw: bytes) -> list[str]:
        return [c.strip() for c in re.findall(r'#[^"\n]*$', raw.decode(), flags=re.MULTILINE)]

    assert comments(once) == comments(path.read_bytes())
