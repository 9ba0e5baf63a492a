"""What may be read and written, and writing that is whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ndl.runtime.atomic import new_folder, replacing, write_json
from ndl.runtime.errors import PathError
from ndl.runtime.paths import PathPolicy, project_root


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a marker, a program two folders down, and things outside."""
    root = tmp_path / "project"
    (root / "models" / "bad").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "pyproject.toml").touch()
    (root / ".secret").mkdir()
    for file in (root / "data" / "a.csv", root / ".secret" / "key", tmp_path / "outside.csv"):
        file.write_text("x\n1\n")
    return root


def test_reading_reaches_the_whole_project_and_nothing_else(project: Path) -> None:
    policy = PathPolicy.for_file(project / "models" / "bad" / "m.ndl")
    assert policy.read("../../data/a.csv") == project / "data" / "a.csv"
    assert policy.read(str(project / "data" / "a.csv")) == project / "data" / "a.csv"
    for name in ("../../../outside.csv", "/etc/hostname", str(project.parent / "outside.csv")):
        with pytest.raises(PathError) as caught:
            policy.read(name)
        assert name in caught.value.message and "--allow-path" in (caught.value.help or "")
    for name in ("../../.secret/key", "", "a\0b"):
        with pytest.raises(PathError):
            policy.read(name)


def test_a_folder_whose_name_continues_the_projects_is_outside(project: Path) -> None:
    twin = project.parent / "project2"
    twin.mkdir()
    with pytest.raises(PathError):
        PathPolicy.for_file(project / "m.ndl").read("../project2/a.csv")


def test_links_are_followed_before_judging(project: Path) -> None:
    policy = PathPolicy.for_file(project / "models" / "m.ndl")
    (project / "data" / "escape.csv").symlink_to(project.parent / "outside.csv")
    (project / "data" / "up").symlink_to(project.parent)
    (project / "data" / "fine.csv").symlink_to(project / "data" / "a.csv")
    assert policy.read("../data/fine.csv") == project / "data" / "a.csv"
    for name in ("../data/escape.csv", "../data/up/outside.csv"):
        with pytest.raises(PathError, match=r"leads to|is /") as caught:
            policy.read(name)
        assert "--allow-path" in str(caught.value)


def test_writing_stays_below_the_files_own_folder(project: Path) -> None:
    policy = PathPolicy.for_file(project / "models" / "m.ndl")
    assert policy.write("out/r.csv") == project / "models" / "out" / "r.csv"
    for name in ("../data/a.csv", "/tmp/x.csv", "out/../../x.csv", ".git/hooks/pre-commit"):
        with pytest.raises(PathError, match="--allow-path"):
            policy.write(name)


def test_allowed_paths_are_folders_or_files(project: Path) -> None:
    folder = PathPolicy.for_file(project / "m.ndl", allow=[project.parent])
    assert folder.read("../outside.csv") == folder.write("../outside.csv") == project.parent / "outside.csv"
    file = PathPolicy.for_file(project / "m.ndl", allow=[project.parent / "outside.csv"])
    assert file.read("../outside.csv") == project.parent / "outside.csv"
    with pytest.raises(PathError):
        file.read("../other.csv")


def test_without_a_marker_the_project_is_two_levels_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    assert project_root(deep) == tmp_path / "a" / "b"
    monkeypatch.setenv("HOME", str(tmp_path / "a" / "b"))
    assert project_root(deep) == tmp_path / "a" / "b" / "c"
    assert project_root(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert project_root(Path("/etc")) == Path("/etc")


def test_an_exception_midway_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "r.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".json"
        temporary.write_text("{")
        raise RuntimeError
    with pytest.raises(ValueError):
        write_json(target, {"a": float("nan")})
    assert json.loads(target.read_text()) == {"a": 1}
    assert [p.name for p in target.parent.iterdir()] == ["r.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with pytest.raises(RuntimeError), new_folder(target) as place:
        (place / "a").write_text("1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as place:
        (place / "a").write_text("1")
    with pytest.raises(FileExistsError), new_folder(target) as place:
        (place / "a").write_text("2")
    assert (target / "a").read_text() == "1" and [p.name for p in tmp_path.iterdir()] == ["run"]
