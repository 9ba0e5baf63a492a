"""Arrays in the kernel IR: what is verified, how it reads, maps that are joined, every routine of LLVM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ndl.compiler.backends.llvm.printer import print_llvm
from ndl.compiler.kernels import arrays, interpret
from ndl.compiler.kernels.arrays import Matrix
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.fuse import fuse
from ndl.compiler.kernels.ir import Kernel, KernelError
from ndl.compiler.kernels.text import show
from ndl.compiler.kernels.verify import verify
from ndl.runtime.kernels.cpu_engine import Program, load


def kernel(rows: int, columns: int, precision: str = "f64", even: bool = True) -> Kernel:
    """y = W (2 x + b), its sum, z = W^T y + r, and G += y x^T, s += y."""
    code = Code(precision, [])
    code.buffer("x", "member", "in")
    code.buffer("w", "table", "in")
    code.buffer("grad", "sum", "out")
    code.buffer("out", "member", "out")
    matrix = Matrix("w", 3, rows, columns)
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        begin.yields = (code.const(0, "i32"),)
    with code.block(["i32"]) as step:
        x = arrays.pack(code, [code.load("x", i) for i in range(columns)])
        twice = arrays.one_op(code, "mul", [x, code.const(2.0)], columns)
        shifted = arrays.one_op(code, "add", [twice, arrays.row(code, "w", 0, columns)], columns)
        y = arrays.dense(code, matrix, shifted)
        z = arrays.dense_t(code, matrix, y)
        arrays.outer(code, Matrix("grad", 0, rows, columns), y, x)
        arrays.accumulate(code, "grad", rows * columns, y)
        code.store("out", 0, arrays.total(code, y))
        for i, v in enumerate(arrays.elements(code, z)):
            code.store("out", i + 1, v)
        step.yields = (step.params[0], code.op("ge", step.params[0], code.const(0, "i32")))
    with code.block(["i32"]) as finish:
        pass
    return verify(code.kernel(f"arrays_{rows}_{columns}", entry, begin, step, finish, even=even))


def buffers(rows: int, columns: int, count: int, precision: str) -> dict[str, np.ndarray]:
    real = np.float64 if precision == "f64" else np.float32
    random = np.random.default_rng(3)
    return {
        "x": random.normal(size=columns * count).astype(real),
        "w": random.normal(size=3 + rows * columns + columns).astype(real),
        "grad": np.zeros(rows * columns + rows, dtype=real),
        "out": np.zeros((columns + 1) * count, dtype=real),
    }


@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 3), (8, 8), (13, 17), (33, 10), (7, 40)])
def test_routines_of_all_shapes(rows: int, columns: int, even: bool, precision: str) -> None:
    for lanes, count in ((4, 7), (8, 21), (16, 16)):
        made, given = fuse(kernel(rows, columns, precision, even)), buffers(rows, columns, count, precision)
        tensors = {k: torch.from_numpy(v.copy()) for k, v in given.items()}
        tensors["grad"] = torch.zeros(99, tensors["grad"].numel(), dtype=tensors["grad"].dtype)
        names = tuple(b.name for b in made.buffers)
        load(Program(print_llvm(made, lanes), made.name, names, lanes, ("grad",))).run(tensors, count)
        interpret.run(kernel(rows, columns, precision, even), given, count)
        bound = 1e-12 if precision == "f64" else 1e-4
        for name, found in (("out", tensors["out"]), ("grad", tensors["grad"].sum(0))):
            size = float(np.abs(given[name]).max())
            np.testing.assert_allclose(found.numpy(), given[name], rtol=0, atol=bound * size)


def test_text() -> None:
    text = show(kernel(5, 3))
    assert "dense w[3: 5 x 3], %" in text and "array[5]" in text and "accumulate grad[15], %" in text
    assert "each(" in text and "row w[0]" in text and "buffer grad: sum out real" in text


def test_neighbouring_maps_are_one() -> None:
    before, after = kernel(5, 3), fuse(kernel(5, 3))
    assert [i.op for i in before.step.body].count("map") == 2
    (joined,) = [i for i in after.step.body if i.op == "map"]
    assert len(joined.results) == 1 and [i.op for i in joined.regions[0].body].count("mul") == 1
    verify(after)


def test_extents_must_fit() -> None:
    made = kernel(5, 3)
    code = Code("f64")
    with code.block(["real"]) as block:
        x = arrays.pack(code, [block.params[0]])
        arrays.dense(code, Matrix("w", 0, 5, 3), x)
    made.begin.params, made.begin.body = (), [*made.begin.body]
    made.step.body[-1:-1] = [i for i in block.body if i.op == "dense"]
    with pytest.raises(KernelError):
        verify(made)


def test_arrays_are_not_carried() -> None:
    code = Code("f64")
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        begin.yields = (arrays.pack(code, [code.const(1.0)]),)
    with code.block(["array[1]"]) as step:
        step.yields = (step.params[0], code.const(True, "bool"))
    with code.block(["array[1]"]) as finish:
        pass
    with pytest.raises(KernelError, match="carried"):
        verify(code.kernel("carries", entry, begin, step, finish))


def test_what_is_added_up_is_not_stored_in() -> None:
    made = kernel(5, 3)
    store = next(i for i in made.step.body if i.op == "store")
    made.step.body.append(type(store)("store", store.args, (), (("buffer", "grad"),)))
    with pytest.raises(KernelError, match="is a sum buffer"):
        verify(made)
