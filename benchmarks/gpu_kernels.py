"""What the library's kernels take of a GPU that need not be there: registers, spills, shared memory.

`python -m benchmarks.gpu_kernels [--system NAME …] [--method NAME …] [--precision P …] [--limit SECONDS]`
compiles ahead of time and puts the rows into `docs/kernels-gpu.md`, those that it compiled in the place of
the old. A kernel takes seconds, one of sixteen states minutes: those beyond the limit are said to be so.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "kernels-gpu.md"
BEGIN, END = "<!-- kernels: begin -->\n", "<!-- kernels: end -->\n"
HEAD = (
    "| system | method | precision | kernel | sm_80 | spills | sm_90 | spills | shared | work |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)
ARCHITECTURES = (80, 90)
LATE = "–"
"""Stands for what was not compiled within the limit."""

OLD = "*"
"""Stands behind the workspace of a row that is to be compiled again."""


def chain(n: int) -> str:
    """Cells that react and diffuse to their neighbours: a Jacobian of three diagonals."""
    rates = [
        f"    u{i}' = d*({f'u{i - 1}' if i else '0'} - 2*u{i} + {f'u{i + 1}' if i < n - 1 else '0'}) - u{i}^3"
        for i in range(n)
    ]
    states = ", ".join(f"u{i} = 1.0" for i in range(n))
    return "\n".join(["model Chain:", "    param d = 0.1", f"    state {states}", *rates]) + "\n"


SYSTEMS = {
    "Lorenz": """model Lorenz:
    param sigma = 10.0, rho = 28.0, beta = 8/3
    state x = 1.0, y = 1.0, z = 1.0
    x' = sigma*(y - x)
    y' = x*(rho - z) - y
    z' = x*y - beta*z
""",
    "Robertson": """model Robertson:
    param k1 = 0.04, k2 = 3e7, k3 = 1e4
    state a = 1.0, b = 0.0, c = 0.0
    a' = -k1*a + k3*b*c
    b' = k1*a - k3*b*c - k2*b^2
    c' = k2*b^2
""",
    "Chain": chain(16),
    "Drifting": """model Drifting:
    param k = 1.0, s = 0.3
    state x = 1.0, y = 0.0, z = 0.0
    noise U: wiener
    noise V: wiener
    noise W: wiener
    dx = k*(y - x)*dt + s*dU
    dy = (x*z - y)*dt + s*dV
    dz = -x*y*dt + s*dW
""",
}
"""Three states, three stiff ones, sixteen; three with noise."""

ODE = (
    "euler", "heun", "midpoint", "rk4", "ssprk2", "ssprk3", "ssprk54", "bosh3", "dopri5", "tsit5", "vern7",
    "dopri8", "implicit_euler", "trapezoidal", "sdirk", "kvaerno5", "rosenbrock23", "rodas5", "bdf", "taylor",
    "reversible_heun",
)  # fmt: skip
SDE = (
    "euler_maruyama", "milstein", "euler_heun", "heun", "sra1", "sri", "sosri", "sosri2", "reversible_heun",
)  # fmt: skip
"""The methods of the library that kernels have, splittings apart."""


@dataclass(frozen=True)
class Case:
    """A kernel: of a system by a method, forwards (`solve`) or its derivative (`adjoint`)."""

    system: str
    method: str
    precision: str
    what: str

    @property
    def key(self) -> tuple[str, ...]:
        return self.system, self.method, self.precision, self.what


def methods_of(system: str) -> tuple[str, ...]:
    return SDE if system == "Drifting" else ODE


def cases(
    systems: Sequence[str] = (), methods: Sequence[str] = (), precisions: Sequence[str] = ()
) -> Iterator[Case]:
    """All kernels, or those of some systems, methods and precisions."""
    for system in SYSTEMS:
        for method in methods_of(system):
            for precision in ("f32", "f64"):
                wanted = zip((system, method, precision), (systems, methods, precisions))
                if all(not some or one in some for one, some in wanted):
                    yield from (Case(system, method, precision, what) for what in ("solve", "adjoint"))


def kernel_of(case: Case) -> Any:
    """The kernel IR: steps that adapt where the method can, values saved at given times."""
    from ndl.compiler.check.values import MethodV
    from ndl.compiler.source import Source
    from ndl.runtime.kernels.request import Request

    from ndl.host.kernels import Kernels
    from ndl.session import Program

    program = Program.load(Source(f"{case.system}.ndl", SYSTEMS[case.system]))
    compilation = program.host.compilation
    compiled = compilation.model(program._model_values()[case.system])
    noise = bool(compiled.ir.noises)
    found: Any = program.checked.module.scope.find(case.method)
    solver = compilation.solver(compilation.choose(MethodV(found, {}), "sde" if noise else "ode"))
    step = isinstance(solver, type)
    embedded = solver.EMBEDDED if step else solver.b_hat
    request = Request(
        solver=solver,
        adaptive=embedded is not None and not noise,
        precision=case.precision,
        own=frozenset(),
        save=True,
        tape=False,
        backward=case.what == "adjoint",
        target="triton",
        options=tuple(sorted(solver.OPTIONS.items())) if step else (),
        noise=noise,
    )
    return Kernels(compiled.optimized).kernel(request)[0]


def row(case: Case, architectures: Sequence[int] = ARCHITECTURES) -> list[Any]:
    """Registers and spills on each architecture, then shared memory and workspace."""
    from ndl.compiler.backends.triton.ahead import resources

    found = resources([kernel_of(case)], architectures)
    numbers = [n for r in found for n in (r.registers, r.spills)]
    return [*numbers, max(r.shared for r in found), max(r.workspace for r in found)]


# ---------------------------------------------------------------- the page


def table(text: str) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The rows of the page by system, method, precision and kernel."""
    inside = text.partition(BEGIN)[2].partition(END)[0]
    cells = [[c.strip(" `") for c in line.strip("|").split("|")] for line in inside.splitlines()[2:]]
    return {tuple(c[:4]): tuple(c[4:]) for c in cells}


def current(case: Case) -> bool:
    """Whether the page has the row of a case as the compiler is now."""
    known = table(PAGE.read_text(encoding="utf-8")).get(case.key)
    return known is not None and not known[-1].endswith(OLD)


def written(text: str, rows: dict[tuple[str, ...], tuple[str, ...]]) -> str:
    """The page with other rows, in the order of the cases."""
    order = [c.key for c in cases() if c.key in rows]
    lines = [f"| {k[0]} | `{k[1]}` | {k[2]} | {k[3]} | {' | '.join(rows[k])} |\n" for k in order]
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{HEAD}{''.join(lines)}{END}{rest.partition(END)[2]}"


class Worker:
    """A process that compiles, and is replaced where it takes too long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.process: Any = None

    def row(self, case: Case) -> list[Any]:
        """The numbers of a case."""
        if self.process is None:
            self.pipe, theirs = multiprocessing.Pipe()
            self.process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
            self.process.start()
            theirs.close()
        self.pipe.send(case)
        late = not self.pipe.poll(self.seconds)
        try:
            return [LATE] * 6 if late else list(self.pipe.recv())
        except EOFError:
            raise RuntimeError(f"{case} could not be compiled") from None
        finally:
            if late:
                self.stop()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.process = None


def _serve(pipe: Any) -> None:
    while True:
        pipe.send(row(pipe.recv()))


def main() -> None:
    """Compile and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_kernels", description=__doc__)
    for name in ("system", "method", "precision"):
        parser.add_argument(f"--{name}", nargs="+", default=[])
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for a kernel")
    parser.add_argument("--missing", action="store_true", help="only what the page lacks or marks")
    chosen = parser.parse_args()
    worker = Worker(chosen.limit)
    for case in cases(chosen.system, chosen.method, chosen.precision):
        if chosen.missing and current(case):
            continue
        numbers = tuple(map(str, worker.row(case)))
        print(*case.key, *numbers, flush=True)
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(written(text, {**table(text), case.key: numbers}), encoding="utf-8")
    worker.stop()


if __name__ == "__main__":
    main()
