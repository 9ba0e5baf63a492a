"""What all tests share: the command line, called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ndl.cli import call


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-cell", action="store_true",
        help="every solver on every problem by every backend, Triton's interpreter in 24 portions",
    )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a command line left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def ndl(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """`ndl("check", file)` is the command line of that name, called in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Outcome:
        capsys.readouterr()
        code = call([str(a) for a in args])
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run
