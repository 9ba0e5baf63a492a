"""`ndl check`: exit codes, JSON, and what it must not import."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

GOOD = "model M:\n    param decay = 1.0\n    state x = 1.0\n    x' = -decay*x\n"
BAD = GOOD.replace("-decay*x", "-decy*x")


@pytest.fixture
def files(tmp_path):
    (tmp_path / "good.ndl").write_text(GOOD)
    (tmp_path / "bad.ndl").write_text(BAD)
    return tmp_path


def test_a_good_file_exits_with_0(ndl, files) -> None:
    fine = ndl("check", files / "good.ndl")
    assert fine.code == 0 and "no errors" in fine.out


def test_quiet_says_nothing_when_all_is_well(ndl, files) -> None:
    assert ndl("check", "-q", files / "good.ndl").text == ""


def test_a_bad_file_exits_with_1_and_underlines_the_word(ndl, files) -> None:
    found = ndl("check", files / "bad.ndl")
    assert found.code == 1
    lines = found.out.splitlines()
    quoted = next(i for i, line in enumerate(lines) if "x' = -decy*x" in line)
    assert lines[quoted + 1].index("^") == lines[quoted].index("decy")
    assert lines[quoted + 1].count("^") == len("decy")


def test_json_has_the_range_and_the_help(ndl, files) -> None:
    found = ndl("check", "--format", "json", files)
    assert found.code == 1
    (only,) = found.json
    assert only["code"].startswith("NDL2") and only["file"].endswith("bad.ndl")
    assert only["range"] == {"start": {"line": 4, "column": 11}, "end": {"line": 4, "column": 15}}
    assert "decy" in only["message"] and "decay" in only["help"]


def test_json_of_a_good_file_is_an_empty_list(ndl, files) -> None:
    fine = ndl("check", "--format", "json", files / "good.ndl")
    assert (fine.code, fine.json) == (0, [])


def test_all_independent_errors_are_reported_at_once(ndl, tmp_path) -> None:
    file = tmp_path / "two.ndl"
    file.write_text(BAD + "\nmodel N:\n    state y = 1.0\n    y' = -z\n")
    found = ndl("check", "--format", "json", file).json
    assert sorted(d["range"]["start"]["line"] for d in found) == [4, 8]


def test_standard_input(ndl, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(BAD.encode())))
    found = ndl("check", "--format", "json", "-")
    assert found.code == 1 and found.json[0]["file"] == "<stdin>"


@pytest.mark.parametrize("command", [["check"], ["fmt", "--check"], ["check", "--format", "json"]])
def test_nothing_heavy_is_imported(files, command) -> None:
    program = (
        "import json, sys; from ndl.cli import call; code = call(sys.argv[1:]); "
        "heavy = ['torch', 'sympy', 'networkx', 'numpy', 'matplotlib', 'rich']; "
        "print(json.dumps([code, [m for m in heavy if m in sys.modules]]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command, str(files / "good.ndl")], capture_output=True, text=True
    )
    code, heavy = json.loads(done.stderr.splitlines()[-1])
    assert code == 0 and heavy == []


def test_a_bug_of_ours_is_reported_with_a_reproducer(ndl, files, monkeypatch) -> None:
    import ndl.compiler.check as checker

    def broken(*args: object, **more: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(checker, "check_file", broken)
    monkeypatch.chdir(files)
    found = ndl("check", files / "good.ndl")
    assert found.code == 4 and "NDL901" in found.out and "Traceback" not in found.text
    (kept,) = files.glob("ndl-crash-*.txt")
    text = kept.read_text()
    assert "KeyError" in text and "x' = -decay*x" in text and kept.name in found.out


def test_colour_is_for_terminals(ndl, files, monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in ndl("check", files / "bad.ndl").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" in ndl("check", files / "bad.ndl").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in ndl("check", files / "bad.ndl").out
