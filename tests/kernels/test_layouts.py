"""Kernels of one-dimensional tiles are compiled without the search for layouts, and others are not."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from ndl.compiler.backends.triton import print_module
from ndl.compiler.backends.triton.ahead import compiled
from ndl.runtime.kernels import layouts
from triton_cases import collatz

pytest.importorskip("triton")
from triton._C.libtriton import passes


class Manager:
    """Takes the place of a pipeline; the real pass refuses it."""


def test_only_what_asks_for_it_goes_without_the_search() -> None:
    def add() -> bool:
        try:
            passes.ttgpuir.add_coalesce(Manager())
        except TypeError:
            return True
        return False

    with layouts.lane_by_lane():
        assert not add()
        with ThreadPoolExecutor(1) as other:
            assert other.submit(add).result()
        layouts._install()  # a second time changes nothing
        assert not add()
    assert add()


def test_the_code_is_that_with_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = collatz("f64").kernel
    assert "with lane_by_lane():" in print_module(kernel)
    quick = compiled(kernel, 90)
    monkeypatch.setattr("ndl.runtime.kernels.layouts.lane_by_lane", nullcontext)
    whole = compiled(kernel, 90)
    assert quick[1] == whole[1]
    layouts_of = re.compile(r"#ttg\.blocked<\{.*?\}>")
    assert "ttg.blocked" in quick[0].asm["ttgir"]
    found = {tuple(layouts_of.findall(made[0].asm["ttgir"])) for made in (quick, whole)}
    assert {len(set(f)) for f in found} == {1}, found
