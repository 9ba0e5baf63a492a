"""`ndl fmt`: files are rewritten whole or not at all."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

LOOSE = "model M:  # why\n    state   x=1.0\n    x'=-x\n"


def test_a_file_is_rewritten_in_place_with_its_permissions(ndl, tmp_path) -> None:
    file = tmp_path / "m.ndl"
    file.write_text(LOOSE)
    file.chmod(0o640)
    assert ndl("fmt", file).code == 0
    assert "state x = 1.0" in file.read_text() and "# why" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    assert ndl("fmt", "--check", file).code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["m.ndl"]


def test_check_and_diff_change_nothing(ndl, tmp_path) -> None:
    file = tmp_path / "m.ndl"
    file.write_text(LOOSE)
    assert ndl("fmt", "--check", file).code == 1
    shown = ndl("fmt", "--diff", file)
    assert shown.code == 0 and "-    state   x=1.0\n" in shown.out and "+    state x = 1.0\n" in shown.out
    assert file.read_text() == LOOSE


def test_a_broken_file_is_left_alone(ndl, tmp_path) -> None:
    file = tmp_path / "m.ndl"
    file.write_text("model M\n    state   x=1.0\n")
    refused = ndl("fmt", file)
    assert refused.code == 1 and "m.ndl:1" in refused.err
    assert file.read_text() == "model M\n    state   x=1.0\n"


def test_standard_input_goes_to_standard_output(ndl, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(LOOSE.encode())))
    done = ndl("fmt", "-")
    assert done.code == 0 and "    state x = 1.0\n" in done.out
