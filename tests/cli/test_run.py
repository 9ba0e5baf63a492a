"""`ndl run` and `ndl test`: folders, JSON, overrides, failures."""

from __future__ import annotations

import math

import pytest

PROGRAM = """
model Decay:
    param k > 0 = 1.0
    state x = 1.0
    x' = -k*x

solve Decay as short:
    span   = 0..1
    method = tsit5(rtol=1e-9, atol=1e-11)
    save   = every 0.5

test "right":
    s = solve(Decay, span=0..1, method=rk4(h=0.01))
    assert abs(s.final.x - exp(-1)) < 1e-6

test "wrong":
    assert 1 + 1 == 3
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "decay.ndl").write_text(PROGRAM)
    return "decay.ndl"


def test_results_go_to_a_folder_of_the_run(ndl, program, tmp_path) -> None:
    done = ndl("run", program)
    assert done.code == 0, done.text
    (folder,) = (tmp_path / "runs" / "short").iterdir()
    assert f"runs/short/{folder.name}" in done.text
    assert list(folder.iterdir())


def test_json_has_the_numbers(ndl, program) -> None:
    done = ndl("run", program, "--json")
    assert done.code == 0, done.text
    (only,) = done.json
    assert only["name"] == "short" and only["kind"] == "solve"
    assert abs(only["final"]["x"] - math.exp(-1)) < 1e-8


def test_out_names_the_folder(ndl, program, tmp_path) -> None:
    assert ndl("run", program, "--out", "here", "-q").code == 0
    assert (tmp_path / "here").is_dir() and not (tmp_path / "runs").exists()


def test_a_setting_is_overridden(ndl, program) -> None:
    done = ndl("run", program, "--json", "--set", "short.span=0..2")
    assert done.code == 0, done.text
    assert abs(done.json[0]["final"]["x"] - math.exp(-2)) < 1e-8


def test_an_unknown_setting_is_refused_with_the_nearest(ndl, program, tmp_path) -> None:
    refused = ndl("run", program, "--set", "short.method.rtoll=1e-3")
    assert refused.code in (1, 2) and "rtoll" in refused.err and "rtol" in refused.err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_run_is_refused_with_the_nearest(ndl, program) -> None:
    refused = ndl("run", program, "shrt")
    assert refused.code == 2 and "did you mean `short`" in refused.err


def test_a_failed_run_exits_with_3_and_leaves_nothing(ndl, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = "model M:\n    state x = 1.0\n    x' = x^2\n"
    (tmp_path / "up.ndl").write_text(model + "solve M:\n    span = 0..2\n    method = tsit5(rtol=1e-8)\n")
    failed = ndl("run", "up.ndl")
    assert failed.code == 3, failed.text
    assert [p.name for p in tmp_path.iterdir()] == ["up.ndl"]


def test_tests_are_counted_and_a_failure_shows_both_sides(ndl, program) -> None:
    done = ndl("test", program)
    assert done.code == 1
    assert "passed  right" in done.out and "FAILED  wrong" in done.out
    shown = done.out.partition("FAILED")[2]
    assert "2" in shown and "3" in shown
    assert "1 passed, 1 failed" in done.out


def test_modules_of_the_library_are_named_as_in_use(ndl) -> None:
    done = ndl("test", "std.nets.dense", "-k", "affine")
    assert done.code == 0 and "1 passed, 0 failed" in done.out
    assert ndl("check", "std.nets").code == 0
    assert ndl("test", "std.nothing").code == 2


def test_a_title_chooses_tests(ndl, program) -> None:
    done = ndl("test", "-k", "righ", program)
    assert done.code == 0 and "1 passed, 0 failed" in done.out


def test_a_bug_of_ours_fails_one_test(ndl, program, tmp_path, monkeypatch) -> None:
    from ndl.host.host import Host

    def broken(*args: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(Host, "_sort", broken)
    bad = '\ntest "broken":\n    assert sort([2, 1])[0] == 1\n'
    (tmp_path / program).write_text(PROGRAM.partition("test ")[0] + bad + 'test "good":\n    assert 1 < 2\n')
    done = ndl("test", program)
    assert done.code == 4 and "passed  good" in done.out and "1 passed, 1 failed" in done.out
    assert "NDL901" in done.out.partition("FAILED  broken")[2]
    assert len(list(tmp_path.glob("ndl-crash-*"))) == 1
    assert [r["code"] for r in ndl("test", "--json", program).json["tests"]] == ["NDL901", ""]


def test_test_json(ndl, program) -> None:
    rows = ndl("test", "--json", program).json["tests"]
    assert [(r["title"], r["passed"], r["line"]) for r in rows] == [("right", True, 12), ("wrong", False, 16)]


PICTURES = """
model Spring:
    param c = 0.1
    state x = 1.0
    state x' = 0.0
    z = [x, 2*x]
    x'' = -x - c*x'

solve Spring as one:
    span  = 0..5
    write = "spring.npz"
    plot  = [z[1], phase_portrait(x, x'), phase_portrait(x', x), histogram(x)]

solve Spring(c in [0, 0.1, 0.2]) as many:
    span = 0..5
    plot = [x, x']
"""


def test_every_picture_that_is_asked_for(ndl, tmp_path) -> None:
    (tmp_path / "spring.ndl").write_text(PICTURES)
    done = ndl("run", "spring.ndl", "--set", 'one.write="other.npz"', "--set", "many.plot=histogram(x)")
    assert done.code == 0, done.text
    (one,), (many,) = ([*(tmp_path / "runs" / name).iterdir()] for name in ("one", "many"))
    stems = {"plot", "phase_portrait", "phase_portrait_x'_x", "histogram"}
    assert {p.stem for p in one.glob("*.png")} == {p.stem for p in one.glob("*.svg")} == stems
    assert {p.name for p in many.glob("*.png")} == {"histogram.png"}
    assert (tmp_path / "other.npz").exists() and not (tmp_path / "spring.npz").exists()


@pytest.mark.parametrize("plot", ["2*x", "phase_portrait(x)", "[x, sin(x)]", "x''"])
def test_what_cannot_be_drawn_is_refused_before_the_run(ndl, tmp_path, plot) -> None:
    (tmp_path / "spring.ndl").write_text(PICTURES.replace("[x, x']", plot))
    done = ndl("run", "spring.ndl")
    assert done.code == 1 and ("NDL522" in done.text or "NDL201" in done.text), done.text
    assert not (tmp_path / "runs").exists()
