"""Run folders are made when something is written, and never shared."""

from __future__ import annotations

import os

from ndl.runfolder import RunFolder, latest


def test_nothing_exists_until_the_path_is_used(tmp_path) -> None:
    folder = RunFolder(tmp_path / "runs", "sweep")
    assert not folder.exists and not (tmp_path / "runs").exists()
    assert folder.path.is_dir() and folder.path.parent == tmp_path / "runs" / "sweep"
    assert folder.exists and folder.path == folder.path


def test_a_fixed_folder_is_used_as_it_is(tmp_path) -> None:
    folder = RunFolder(tmp_path / "a" / "b", "sweep", fixed=True)
    assert not (tmp_path / "a").exists()
    assert folder.path == tmp_path / "a" / "b" and folder.path.is_dir()


def test_two_runs_at_once_have_two_folders_and_the_newer_is_the_latest(tmp_path) -> None:
    first, second = RunFolder(tmp_path, "a").path, RunFolder(tmp_path, "a").path
    assert first != second
    os.utime(first, (1, 1))
    assert latest(tmp_path, "a") == second
    os.utime(second, (0, 0))
    assert latest(tmp_path, "a") == first


def test_no_run_has_no_latest(tmp_path) -> None:
    assert latest(tmp_path, "a") is None
