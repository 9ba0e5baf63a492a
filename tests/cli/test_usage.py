"""The command line itself: usage, versions, exit codes that need no program."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ndl import __version__
from ndl.cli import COMMANDS


def shell(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ndl", *args], capture_output=True, text=True, env={**os.environ, **env}
    )


def test_python_dash_m_prints_the_version() -> None:
    done = shell("--version")
    assert (done.returncode, done.stdout) == (0, f"ndl {__version__}\n")


def test_help_lists_every_command(ndl) -> None:
    shown = ndl("--help")
    assert shown.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in shown.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(ndl, name) -> None:
    shown = ndl(name, "--help")
    assert shown.code == 0 and f"ndl {name}" in shown.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["chek"], "did you mean `check`"),
        (["model.ndl"], "ndl run model.ndl"),
        (["run", "nowhere.ndl"], "nowhere.ndl"),
        (["check"], "FILES"),
        (["check", "--format", "xml", "x"], "xml"),
        (["explain", "NDL9999"], "NDL9999"),
        (["explain", "NDL199"], "no error NDL199"),
    ],
)
def test_wrong_usage_exits_with_2(ndl, args, words) -> None:
    refused = ndl(*args)
    assert refused.code == 2 and words in refused.err


def test_set_wants_a_name_and_a_value(ndl, tmp_path) -> None:
    model = tmp_path / "m.ndl"
    model.write_text("model M:\n    state x = 1.0\n    x' = -x\n")
    for wrong in ("span", "=1", "M..span=1", "M.span="):
        refused = ndl("run", model, "--set", wrong)
        assert refused.code == 2 and "--set" in refused.err


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(ndl, name) -> None:
    made = ndl("--completion", name)
    assert made.code == 0 and "_NDL_COMPLETE" in made.out


def test_a_closed_pipe_is_quiet(tmp_path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m ndl explain NDL101 | true", shell=True, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_a_poor_terminal_encoding_is_no_failure(tmp_path) -> None:
    model = tmp_path / "m.ndl"
    model.write_text("model M:\n    state ρ = 1.0\n    ρ' = -ς\n", encoding="utf-8")
    done = shell("check", str(model), PYTHONIOENCODING="ascii")
    assert done.returncode == 1 and "Traceback" not in done.stderr + done.stdout
