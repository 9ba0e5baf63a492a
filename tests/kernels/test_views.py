"""Views of arrays and what they give back: by NumPy, in every backend, and as each other's derivative."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from interpreted import by_triton
from ndl.compiler.backends.llvm.printer import print_llvm
from ndl.compiler.kernels import arrays, interpret
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.fuse import fuse
from ndl.compiler.kernels.ir import Instr, Kernel, KernelError
from ndl.compiler.kernels.reverse import pullback
from ndl.compiler.kernels.text import show
from ndl.compiler.kernels.verify import verify
from ndl.compiler.kernels.views import View, collect, disjoint, view
from ndl.runtime.kernels.cpu_engine import Program, load

COUNT = 37

VIEWS = {
    "repeats": (6, View((6, 4), (1, 0))),
    "repeats in turn": (6, View((3, 6), (0, 1))),
    "a transpose": (20, View((4, 5), (1, 4))),
    "a part": (20, View((3, 2), (5, 2), 6)),
    "a diagonal": (25, View((5,), (6,))),
    "backwards": (20, View((20,), (-1,), 19)),
    "an axis of three": (24, View((2, 4, 3), (12, 1, 4))),
    "one entry": (20, View((), (), 7)),
    "one entry, often": (20, View((17,), (0,), 7)),
}


def kernel(name: str, precision: str = "f64") -> Kernel:
    """y = the view of 2 x; z, what the view makes of 3 y; two parts in one."""
    extent, seen = VIEWS[name]
    code = Code(precision, [])
    code.buffer("x", "member", "in")
    code.buffer("out", "member", "out")
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        begin.yields = (code.const(0, "i32"),)
    with code.block(["i32"]) as step:
        x = arrays.pack(code, [code.load("x", i) for i in range(extent)])
        y = view(code, arrays.one_op(code, "mul", [x, code.const(2.0)], extent), seen)
        z = collect(code, [arrays.one_op(code, "mul", [y, code.const(3.0)], seen.size)], [seen], extent)
        both = collect(code, [y, x], [View((seen.size,), (2,)), View((extent,), (1,), 1)], width(name))
        made = [*arrays.elements(code, y), *arrays.elements(code, z), *arrays.elements(code, both)]
        for i, v in enumerate(made):
            code.store("out", i, v)
        step.yields = (step.params[0], code.op("ge", step.params[0], code.const(0, "i32")))
    with code.block(["i32"]) as finish:
        pass
    return verify(code.kernel("seen", entry, begin, step, finish, even=True))


def width(name: str) -> int:
    extent, seen = VIEWS[name]
    return max(2 * seen.size, extent + 1)


def wanted(name: str, x: np.ndarray) -> np.ndarray:
    """The rows of `out` by NumPy, from its indices alone."""
    extent, seen = VIEWS[name]
    index = np.indices(seen.extents).reshape(len(seen.extents), seen.size)
    places = seen.offset + (np.array(seen.strides, dtype=int)[:, None] * index).sum(0)
    y, both = 2 * x[places], np.zeros((width(name), x.shape[1]))
    z = np.zeros_like(x)
    np.add.at(z, places, 3 * y)
    both[: 2 * seen.size : 2] += y
    both[1 : extent + 1] += x
    return np.concatenate([y, z, both])


def buffers(name: str, precision: str) -> dict[str, np.ndarray]:
    real = np.float64 if precision == "f64" else np.float32
    extent, seen = VIEWS[name]
    x = np.random.default_rng(2).normal(size=(extent, COUNT)).astype(real)
    return {"x": x.reshape(-1), "out": np.zeros((seen.size + extent + width(name)) * COUNT, dtype=real)}


def close(found: np.ndarray, name: str, given: dict[str, np.ndarray], precision: str) -> None:
    right = wanted(name, given["x"].reshape(-1, COUNT).astype(np.float64))
    bound = 1e-14 if precision == "f64" else 1e-6
    np.testing.assert_allclose(found.reshape(-1, COUNT), right, rtol=0, atol=bound * np.abs(right).max())


@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("name", VIEWS)
def test_the_interpreter_and_machine_code(name: str, precision: str) -> None:
    made, given = kernel(name, precision), buffers(name, precision)
    for lanes in (4, 16):
        tensors = {k: torch.from_numpy(v.copy()) for k, v in given.items()}
        program = Program(print_llvm(fuse(made), lanes), made.name, ("x", "out"), lanes, ())
        load(program).run(tensors, COUNT)
        close(tensors["out"].numpy(), name, given, precision)
    interpret.run(made, given, COUNT)
    close(given["out"], name, given, precision)


def test_triton(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    by_triton("triton_views_worker.py", tmp_path)
    left = np.load(tmp_path / "views.npz")
    assert len(left.files) == 2 * len(VIEWS)
    for key in left.files:
        name, precision = key.split("/")
        close(left[key], name, buffers(name, precision), precision)


@pytest.mark.parametrize("name", VIEWS)
def test_either_is_the_derivative_of_the_other(name: str) -> None:
    """<view x, y> = <x, collect y>, and the pullback of each is the other."""
    extent, seen = VIEWS[name]
    code = Code("f64")
    with code.block(["real"] * (extent + seen.size)) as block:
        x = arrays.pack(code, block.params[:extent])
        y = arrays.pack(code, block.params[extent:])
        shown = code.pure("view", (x,), y.type, (("view", seen),))
        back = code.pure("collect", (y,), x.type, (("views", (seen,)),))
        body = list(code.visible())
        assert pullback(code, body, {shown: y}, [x]) == [collect(code, [y], [seen], extent)]
        assert pullback(code, body, {back: x}, [y]) == [view(code, x, seen)]
    random = np.random.default_rng(1)
    a, b = random.normal(size=extent), random.normal(size=seen.size)
    spread = np.zeros(extent)
    np.add.at(spread, seen.places, b)
    np.testing.assert_allclose((a[seen.places] * b).sum(), (a * spread).sum(), rtol=1e-13)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4).flatmap(
        lambda n: st.tuples(st.just(tuple(n)), st.permutations(range(len(n))), st.integers(0, len(n) - 1))
    )
)
def test_what_numpy_moves_is_a_view(shape: tuple[tuple[int, ...], list[int], int]) -> None:
    """Slices, transposes and repeats match; the plain form has the same places; `whole` is the identity."""
    extents, order, axis = shape
    numbers = np.arange(int(np.prod(extents))).reshape(extents)
    cut = np.take(numbers, range(extents[axis] // 2, extents[axis]), axis)
    for places in (numbers, cut, numbers.transpose(order), np.broadcast_to(cut, (3, *cut.shape))):
        seen = View.matching(places)
        assert seen is not None
        np.testing.assert_array_equal(seen.places, places.reshape(-1))
        np.testing.assert_array_equal(seen.plain.places, seen.places)
        assert seen.whole(numbers.size) == (
            places.size == numbers.size and bool((places.reshape(-1) == numbers.reshape(-1)).all())
        )
    assert View.matching(np.array([0, 1, 3])) is None and View.matching(np.array([], dtype=int)) is None


@pytest.mark.parametrize("name", ["repeats", "a transpose", "an axis of three"])
def test_they_compile_ahead_of_time(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from ndl.compiler.backends.triton.ahead import compiled
    from ndl.compiler.backends.triton.arrays import TILES

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for architecture in (80, 90):
        _, resources = compiled(fuse(kernel(name, "f32")), architecture, *TILES[0])
        assert resources.spills == 0, resources


def test_places_that_meet() -> None:
    assert disjoint([View((3,), (2,)), View((3,), (2,), 1)])
    assert disjoint([View((3, 4), (1, 0))]), "what an entry sums does not count"
    assert not disjoint([View((3,), (1,)), View((3,), (1,), 2)])


def test_the_text_and_what_is_refused() -> None:
    made = kernel("a part")
    text = show(made)
    assert "[6: 3 by 5 x 2 by 2]" in text and "collect %" in text
    seen = next(i for i in made.step.body if i.op == "view")
    seen_wrong = Instr("view", seen.args, seen.results, (("view", View((3, 2), (5, 2), 9)),))
    made.step.body[made.step.body.index(seen)] = seen_wrong
    with pytest.raises(KernelError, match="leaves an array of 20"):
        verify(made)
