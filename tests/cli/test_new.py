"""`ndl new` makes a project that checks, passes its test and is worth its fit."""

from __future__ import annotations


def test_a_new_project_runs(ndl, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ndl("new", "my-growth").code == 0
    monkeypatch.chdir(tmp_path / "my-growth")
    assert ndl("check", "model.ndl").code == 0
    assert ndl("fmt", "--check", "model.ndl").code == 0
    done = ndl("test", "model.ndl")
    assert done.code == 0, done.text
    fitted = ndl("run", "model.ndl", "--json")
    assert fitted.code == 0, fitted.text
    values = fitted.json[0]["parameters"]
    assert abs(values["r"] - 0.42) < 0.03 and abs(values["K"] - 97) < 4


def test_an_existing_folder_is_not_touched(ndl, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    refused = ndl("new", "mine")
    assert refused.code == 2 and "exists" in refused.err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]
