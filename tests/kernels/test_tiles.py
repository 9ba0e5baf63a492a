"""The choice of a tile, by a clock that the tests turn: kept on disk, or the first where none is made."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from ndl.compiler.backends.triton import print_module
from ndl.compiler.backends.triton.ahead import compiled
from ndl.runtime.kernels import tiles, triton_engine
from ndl.runtime.kernels.tiles import CANDIDATES, SINGLE, Device, Tile, chosen, tile_for
from triton_cases import lorenz

GPU = Device("A Card", (9, 0), "3.6.0")


class Clock:
    """Milliseconds of each tile; what was asked."""

    def __init__(self, **times: float) -> None:
        self.times, self.asked = times, list[Tile]()

    def __call__(self, tile: Tile) -> float:
        self.asked.append(tile)
        return self.times.get(f"of_{tile.block}_{tile.warps}", 1.0)


@pytest.fixture(autouse=True)
def tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDL_TUNE", raising=False)


def test_the_fastest_is_chosen_once(tmp_path: Path) -> None:
    file, clock = tmp_path / "of" / "kernel.json", Clock(of_64_1=0.5)
    for count in (100, 2000, 999):
        assert tile_for(file, GPU, count, clock) == Tile(64, 1)
    assert clock.asked == [*CANDIDATES, *CANDIDATES], "three digits, four, three again"
    assert list(json.loads(file.read_text())) == [GPU.key(100), GPU.key(2000)]
    assert [p.name for p in file.parent.iterdir()] == ["kernel.json"]


def test_of_equal_ones_the_first(tmp_path: Path) -> None:
    assert tile_for(tmp_path / "k.json", GPU, 100, Clock()) == CANDIDATES[0]


@pytest.mark.parametrize(
    "other", [replace(GPU, name="B"), replace(GPU, capability=(8, 0)), replace(GPU, compiler="3.9.0")]
)
def test_a_choice_holds_for_its_device_and_compiler(other: Device, tmp_path: Path) -> None:
    file = tmp_path / "k.json"
    assert tile_for(file, GPU, 100, Clock(of_64_2=0.1)) == Tile(64, 2)
    assert tile_for(file, other, 100, Clock(of_128_4=0.1)) == Tile(128, 4)
    assert tile_for(file, GPU, 100, Clock(of_64_1=0.1)) == Tile(64, 2)


@pytest.mark.parametrize(("device", "setting"), [(None, ""), (GPU, "off"), (GPU, "0")])
def test_without_a_gpu_or_tuning_the_first(
    device: Device | None, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDL_TUNE", setting)
    clock = Clock(of_128_4=0.1)
    assert tile_for(tmp_path / "k.json", device, 100, clock) == CANDIDATES[0]
    assert not clock.asked and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "[1]", '{"x": 3}', '{"KEY": [7, 1, 1]}', '{"KEY": ["a"]}'])
def test_a_file_that_says_nothing_is_replaced(text: str, tmp_path: Path) -> None:
    """Of a tile that is no candidate any more, as well."""
    file = tmp_path / "k.json"
    file.write_text(text.replace("KEY", GPU.key(100)))
    assert tile_for(file, GPU, 100, Clock(of_64_1=0.5)) == Tile(64, 1)
    assert json.loads(file.read_text())[GPU.key(100)] == [64, 1, 1]


def test_many_may_choose_at_once(tmp_path: Path) -> None:
    file = tmp_path / "k.json"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: chosen(file, f"{k % 4}", Clock(of_64_1=0.5)), range(32)))
    assert set(found) == {Tile(64, 1)}
    assert json.loads(file.read_text()) and [p.name for p in tmp_path.iterdir()] == ["k.json"]


def test_a_choice_that_cannot_be_kept_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        clock = Clock(of_64_1=0.5)
        assert tile_for(tmp_path / "file" / "k.json", GPU, 100, clock) == Tile(64, 1) and clock.asked


def test_kernels_are_told_apart_by_their_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("NDL_CACHE_DIR", str(tmp_path))
    text = print_module(lorenz("f64").kernel)
    parked = print_module(lorenz("f64").kernel, limit=0, room=20)
    plain, small = triton_engine.TritonKernel(text), triton_engine.TritonKernel(parked)
    assert plain.id != small.id and plain.id == triton_engine.TritonKernel(text).id
    assert plain.candidates == CANDIDATES and small.candidates == SINGLE
    assert all(t.block == 32 * t.warps for t in SINGLE) and SINGLE[0] == CANDIDATES[0]


def test_stages_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Solves have no loop that Triton pipelines: that is why no candidate differs in stages."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    codes = {compiled(lorenz("f32").kernel, 90, stages=n)[0].asm["ptx"] for n in (1, 4)}
    assert len(codes) == 1
    assert {astuple(t)[2] for t in tiles.CANDIDATES} == {1}
