"""Kernels as machine code against the interpreter: every operation, loops, masks, refilled lanes, threads."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hand import buffers, elementwise, rotation
from ndl.compiler.backends.llvm.host import Registers
from ndl.compiler.backends.llvm.lanes import lanes_of
from ndl.compiler.backends.llvm.printer import FEW, NORMALS, print_llvm
from ndl.compiler.kernels import interpret
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Kernel
from ndl.compiler.kernels.ops import TABLE
from ndl.runtime.kernels import cpu_engine
from ndl.runtime.kernels.cpu_engine import Program, assembly, load, optimized
from triton_cases import lorenz, one_turn

from ndl.host.kernels import llvm_text

PRIMITIVES = [name for name, op in TABLE.items() if op.primitive]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 1e10, -1e10, 1e300, 1e-300, np.inf, -np.inf, np.nan]


def program(kernel: Kernel, lanes: int) -> Program:
    return Program(print_llvm(kernel, lanes), kernel.name, tuple(b.name for b in kernel.buffers))


def run(kernel: Kernel, lanes: int, given: dict[str, np.ndarray], count: int, threads: int = 1) -> dict:
    tensors = {k: torch.from_numpy(v.copy()) for k, v in given.items()}
    load(program(kernel, lanes)).run(tensors, count, threads)
    return {k: v.numpy() for k, v in tensors.items()}


def operands(op: str, types: tuple[str, ...], count: int, precision: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(len(op))
    real = np.float64 if precision == "f64" else np.float32
    first = next((t for t in types if t != "same"), "real")
    found = {}
    for i, type in enumerate(types):
        kind = first if type == "same" and op != "select" else type
        if kind in ("real", "same", "bits"):
            values = np.concatenate([random.normal(size=count - 14) * 10, random.permutation(SPECIAL)])
            with np.errstate(over="ignore"):
                found[f"a{i}"] = values.astype(real)
        elif kind == "bool":
            found[f"a{i}"] = random.integers(0, 2, count).astype(np.int32)
        else:
            wide = random.integers(-(2**31), 2**31, count)
            found[f"a{i}"] = (random.integers(0, 31, count) if op in ("shl", "shr") and i else wide).astype(
                np.int32
            )
    return found


def typed(op: str) -> list[tuple[str, ...]]:
    wanted = TABLE[op].operands
    choices = ("real", "i32") if op in ("add", "sub", "mul", "lt", "le", "gt", "ge", "eq", "ne") else ("i32",)
    choices = ("real", "i32", "bool") if op == "select" else choices
    if "same" not in wanted:
        return [wanted]
    return [tuple(c if w == "same" else w for w in wanted) for c in choices]


@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("op", PRIMITIVES)
def test_every_primitive_operation(op: str, precision: str) -> None:
    """Bit for bit, not-a-numbers and signs of zero included."""
    for types in typed(op):
        count = 45
        result = TABLE[op].type(types)
        kernel = elementwise(op, types, result, precision)
        given = operands(op, types, count, precision)
        if op == "to_i32":
            given["a0"] = np.clip(np.nan_to_num(given["a0"]), -(2.0**31), 2.0**31 - 200).astype(
                given["a0"].dtype
            )
        kind = {"bool": "i32", "bits": "real"}.get(result, result)
        out = np.zeros(count, dtype=np.int32 if kind == "i32" else given.get("a0", np.zeros(1)).dtype)
        if kind == "real":
            out = out.astype(np.float64 if precision == "f64" else np.float32)
        given["out"] = out
        found = run(kernel, 8, given, count)["out"]
        interpret.run(kernel, given, count)
        np.testing.assert_array_equal(found, given["out"])


@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(("lanes", "count"), [(4, 3), (8, 8), (8, 203), (16, 1), (2, 50)])
def test_loops_masks_and_refilled_lanes(precision: str, even: bool, lanes: int, count: int) -> None:
    kernel, given = rotation(precision, even), buffers(count, precision)
    found = run(kernel, lanes, given, count)
    interpret.run(kernel, given, count)
    close = {"rtol": 1e-11, "atol": 1e-12} if precision == "f64" else {"rtol": 2e-3, "atol": 1e-4}
    np.testing.assert_allclose(found["last"], given["last"], **close)
    np.testing.assert_array_equal(found["noted"], given["noted"])


def test_threads_and_lanes_do_not_change_a_trajectory() -> None:
    kernel, given = rotation(), buffers(1000)
    alone = run(kernel, 8, given, 1000)["last"]
    np.testing.assert_array_equal(run(kernel, 8, given, 1000, threads=3)["last"], alone)
    some = {k: v.reshape(-1, 1000)[:, 500:].reshape(-1) if v.size >= 1000 else v for k, v in given.items()}
    np.testing.assert_array_equal(
        run(kernel, 8, some, 500)["last"].reshape(2, 500), alone.reshape(2, 1000)[:, 500:]
    )


def test_the_text_is_the_same_every_time() -> None:
    assert print_llvm(rotation(), 8) == print_llvm(rotation(), 8)


def test_the_inner_loop_is_in_vector_registers() -> None:
    text = assembly(program(rotation(), 8))
    scalar = [line for line in text.splitlines() if "mulsd" in line or "addsd" in line]
    assert not scalar


@pytest.mark.parametrize(("size", "lanes"), [(64, (16, 32)), (32, (8, 16)), (16, (4, 8))])
def test_lanes_fill_two_registers(size: int, lanes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ndl.compiler.backends.llvm.lanes.registers", lambda: Registers(size, 32))
    assert tuple(lanes_of(rotation(precision), []) for precision in ("f64", "f32")) == lanes


def test_another_processor() -> None:
    """For arm64, whose registers have 128 bits: vector instructions, nothing called, few spills."""
    import llvmlite.binding as binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        target = binding.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this LLVM does not know arm64")
    machine = target.create_target_machine(cpu="neoverse-n1", opt=3)
    spills = {}
    for lanes in (4, 8):
        made = Program(llvm_text(lorenz("f64").kernel, lanes), "lorenz", ())
        text = str(machine.emit_assembly(optimized(made, machine))).splitlines()
        assert sum("fmla" in line and ".2d" in line for line in text) > 20 * lanes
        assert not [line for line in text if line.strip().startswith("bl\t")]
        spills[lanes] = sum("sp" in line and "q" in line and "tr\t" in line for line in text)
    assert spills[4] * 4 < spills[8], "the lanes of wider registers spill"


def test_a_kernel_is_compiled_once_and_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDL_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpu_engine, "_loaded", {})
    made = program(rotation(), 2)
    load(made)
    (file,) = (tmp_path / "cpu").iterdir()
    cpu_engine._sharing(4)
    monkeypatch.setattr(cpu_engine, "_loaded", {})
    monkeypatch.setattr(cpu_engine, "compile_object", lambda program: pytest.fail("compiled again"))
    given = buffers(5)
    tensors = {k: torch.from_numpy(v.copy()) for k, v in given.items()}
    load(made).run(tensors, 5)
    interpret.run(rotation(), given, 5)
    np.testing.assert_allclose(tensors["last"].numpy(), given["last"], rtol=1e-12)
    assert file in (tmp_path / "cpu").iterdir()


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "foreign"])
def test_a_damaged_file_is_compiled_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDL_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpu_engine, "_loaded", {})
    given = buffers(5)
    wanted = run(rotation(), 4, given, 5)["last"]
    file = tmp_path / "cpu" / f"{cpu_engine.key_of(program(rotation(), 4))}.obj"
    whole = file.read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    found = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "changed": bytes(broken),
        "foreign": b"\x7fELF" * 99,
    }
    file.write_bytes(found[damage])
    monkeypatch.setattr(cpu_engine, "_loaded", {})
    np.testing.assert_array_equal(run(rotation(), 4, given, 5)["last"], wanted)
    assert file.read_bytes() == whole, "the file is whole again"


def test_many_at_once_share_a_cache(tmp_path: Path) -> None:
    """Processes that compile the same kernel at the same time leave one whole file."""
    code = "from test_llvm import *\ngiven = buffers(5); print(run(rotation(), 4, given, 5)['last'].sum())\n"
    root = Path(__file__).parent
    env = {**os.environ, "NDL_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(
                subprocess.run,
                [sys.executable, "-c", code],
                cwd=root,
                env=env,
                capture_output=True,
                text=True,
            )
            for _ in range(2)
        ]
        outputs = [job.result() for job in jobs]
    assert all(o.returncode == 0 for o in outputs), outputs[0].stderr
    assert len({o.stdout for o in outputs}) == 1
    assert len(list((tmp_path / "cpu").iterdir())) == 2, "the kernel, and what shares it among threads"


def test_a_folder_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDL_CACHE_DIR", "/proc/no/such/place")
    monkeypatch.setattr(cpu_engine, "_loaded", {})
    given = buffers(3)
    found = run(rotation(), 4, given, 3)
    interpret.run(rotation(), given, 3)
    np.testing.assert_allclose(found["last"], given["last"], rtol=1e-12)


@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("sites", [1, 6])
def test_normals_are_the_same_in_place_and_in_a_function(sites: int, precision: str) -> None:
    """Few places where normals are made have the code there, many call one function for both of a pair."""
    kernel, count = normals(sites, precision), 37
    text = print_llvm(kernel, 8)
    assert ("noinline" in text) == (sites > FEW)
    assert text.count("call {") == sites
    words = np.random.default_rng(4).integers(-(2**31), 2**31, 4 * count).astype(np.int32)
    real = np.float64 if precision == "f64" else np.float32
    given = {
        "words": words,
        "keys": np.array([7, -11], dtype=np.int32),
        "out": np.zeros(2 * sites * count, real),
    }
    found = run(kernel, 8, given, count)["out"]
    interpret.run(kernel, given, count)
    close = {"rtol": 1e-14, "atol": 1e-15} if precision == "f64" else {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(found, given["out"], **close)
    assert len(np.unique(found)) == found.size


def normals(sites: int, precision: str) -> Kernel:
    """Pairs of normals of four words of each trajectory's own under a key for all."""
    code = Code(precision)
    code.buffer("words", "member", "in", "i32")
    code.buffer("keys", "table", "in", "i32")
    code.buffer("out", "member", "out")

    def write() -> None:
        words = [code.load("words", k) for k in range(4)]
        for k in range(sites):
            leaf = code.op("add", words[3], code.const(k, "i32"))
            given = (*words[:3], leaf, code.load("keys", 0), code.load("keys", 1))
            for j, name in enumerate(NORMALS):
                code.store("out", 2 * k + j, code.op(name, *given))

    return one_turn(code, write)
