"""Threads of kernels: each job once, by OpenMP or by the pool, also in the child of a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ndl.runtime.kernels import team
from ndl.runtime.kernels.cpu_engine import Program, load, share

COUNT = """define void @count(ptr %place, i64 %by) {
  %old = atomicrmw add ptr %place, i64 %by monotonic
  ret void
}
"""


@pytest.fixture(params=["openmp", "pool"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    if request.param == "pool":
        monkeypatch.setattr(team, "_openmp", team._without_openmp)
    elif team._openmp() is None:
        pytest.skip("torch has another runtime here")
    yield 3


@pytest.mark.parametrize("jobs", [1, 2, 3, 100])
def test_each_job_is_done_once(threads: int, jobs: int) -> None:
    places = np.zeros(jobs, np.int64)
    rows = np.array([(places.ctypes.data + 8 * k, k + 1) for k in range(jobs)], np.int64)
    share(load(Program(COUNT, "count", ())).address("count"), rows, threads)
    np.testing.assert_array_equal(places, np.arange(jobs) + 1)


def test_torch_is_linked_with_openmp() -> None:
    """What NDL's kernels run by wherever torch says that it does."""
    if "OpenMP" not in torch.__config__.parallel_info() or sys.platform != "linux":
        pytest.skip("torch has another runtime here")
    assert team._openmp() is not None


POOL = "from ndl.runtime.kernels import team; team._openmp = lambda: None\n"
"""Before a program that is to do without OpenMP."""

MEET = """define void @meet(ptr %place) {
entry:
  %old = atomicrmw add ptr %place, i64 1 seq_cst
  br label %wait
wait:
  %here = load atomic volatile i64, ptr %place seq_cst, align 8
  %both = icmp sge i64 %here, 2
  br i1 %both, label %done, label %wait
done:
  ret void
}
"""

TOGETHER = """
import sys
import numpy as np
from ndl.runtime.kernels.cpu_engine import Program, load, share
sys.path.insert(0, {here!r})
from test_team import MEET

place = np.zeros(1, np.int64)
share(load(Program(MEET, "meet", ())).address("meet"), np.array([[place.ctypes.data]] * 2, np.int64), 2)
assert place[0] == 2
"""


@pytest.mark.parametrize("before", ["", POOL])
def test_jobs_are_done_at_the_same_time(before: str) -> None:
    """Each of two jobs waits for the other: one thread would wait for ever."""
    code = before + TOGETHER.format(here=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


FORK = """
import os, sys
import numpy as np
import torch
from ndl.runtime.kernels.cpu_engine import Program, load, share
sys.path.insert(0, {here!r})
from test_team import COUNT

torch.set_num_threads(2)
places = np.zeros(8, np.int64)
rows = np.array([(places.ctypes.data + 8 * k, 1) for k in range(8)], np.int64)
function = load(Program(COUNT, "count", ())).address("count")
share(function, rows, 2)
child = os.fork()
share(function, rows, 2)
assert list(places) == [2] * 8, places
if child:
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("before", ["", POOL])
def test_the_child_of_a_fork_has_threads_too(before: str) -> None:
    """The threads of OpenMP and of a pool stay with the parent; who waited for them would wait for ever."""
    code = before + FORK.format(here=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
