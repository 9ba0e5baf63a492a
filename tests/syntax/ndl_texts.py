"""Programs that the tests of the syntax share, and ways to damage them."""

from __future__ import annotations

import random
from pathlib import Path

from ndl.compiler.source import Source
from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.parser import parse

CONFORMANCE = Path(__file__).parent.parent / "conformance"
GOOD = sorted([*CONFORMANCE.glob("*.ndl"), *CONFORMANCE.glob("modules/*.ndl")])

WHOLE = '''"""Every construct once."""

edition 2026
use std.nets: MLP, Linear as Dense
use std.solvers as s
use ../wells as w: double_well
const Node = "16x0e + 16x1o", seed ~ normal(0, 1)
extern net outside: R[64] -> R[64]
net shared: R[2] -> R[2] = MLP(width=32)
domain Torus = periodic(x in 0..1, y in 0..1)
domain Disc = {x, y | x^2 + y^2 < 1}
fn relu2(x) = max(x, 0)^2
fn longer(x: R[n]; k = 2) -> R:
    """A longer one."""
    return sum(x)*k
operator Layer(v: R[c] on Omega, w: R; modes = 16, act = gelu) -> R[c] on Omega:
    param K: C[c, c] on dual(Omega, modes) ~ complex_normal(1/c)
    param b: R[c] = 0 if bias
    param A: R[2, 2] as cp(3) = 1 per step
    state seen: R = 0 per sample
    seen <- 0.9*seen + 1
    for i in 1..3:
        v = act(v)
    m: R[c] ~ normal(0, 1) per step
    return if training then v else K @ v, x -> v(x)
operator Pair(u: R[d] on time) -> (R[d] on time, Z[m]):
    return u, [e for i, j]
model Full(h: R[d]; width = 64):
    """With a doc."""
    calculus stratonovich
    domain Rod = interval(x in 0..L)
    param g: R{m/s^2} = 9.81, k > 0 = 1.0
    param q in 0..1 = 0.5
    const V: R[m1, d] ~ uniform(sphere(d))
    state x: R[2] = [1, 0], y = 1.0
    state y' = 0
    input X: R[2] on time
    noise W: wiener[m](cov=S)
    noise U: white on Rod
    net f: (R[2], R) -> R[2] = MLP(width=64) per step
    term spin = A @ x
    x' = spin + f(x, t)
    dy/dt = -y
    dz = (A @ z)*dX[0] + 0.5*z*dX[1]
    0 = x - 1
    u(t) = t - integral(u(s), s in 0..t)
    a', b' = -a, -b
    pde ~ Poisson
    minimize integral(L(u, grad(u)), [x, y] in Omega)
    on boundary(Rod)*time: u + dn(u) = 0
    when falling(h): stop "down"
    when every 1:
        v <- -e*v
        w[0] <- 1
    require all(x >= 0), "why"
    observe y ~ normal(C @ x, r)
    part = Layer(n=256)(x).D
model Fast = reduce(Full, pod(rank=8))
solver broken(f; k = 2) for ode order 2(1):
    tableau:
        0 |
        1 | 1
        --+--------
          | 1/2 1/2
          | 1   0
solver own for linear order 1.5:
    state p = 0
    step(A, b, x, n):
        return x + h*f(x)
    until norm(b - A @ x) <= tol
    dense(theta) = x
    error = e
solve Full(rho ~ uniform(0, 28), x' = 3, z in [1, 2]) as sweep:
    span = 0..40 by 2
    save = every 0.01
    grid = {Rod: chebyshev(32), Torus: fourier(64, 64)}
    method = strang(diffusion: exact, reaction: rk4, h=0.25)
train A, B as both:
    fit = all, initial states
    tau ~ uniform(0, 1)
    minimize L wrt all except start, head.bias: every = 20
    maximize M wrt critic
    phase inner: fit = u
    phase outer:
        fit = c
test "a test":
    late = s.x[:, 100:][1][-1][2:5]
    assert 0 < x < 1 and not a or b not in S, "why"
    y = mean(h(y), y in ball(x, r) if y != x) + s.final.theta'
    z = (x, y) -> (1,)
    q = [[x, y] -> x, 2i, 1e-3, 10_000, "a \\"b\\"", [], f()]
    done
'''


def parsed(text: str) -> t.File:
    """The tree of a text that has no errors."""
    file, found = parse(Source("test.ndl", text))
    assert not found, found
    return file


def expr(text: str) -> t.Expr:
    """The tree of an expression."""
    stmt = parsed(f'test "t":\n    value = {text}\n').items[0]
    assert isinstance(stmt, t.Test) and isinstance(stmt.body[0], t.Assign)
    return stmt.body[0].value


def statement(text: str) -> t.Stmt:
    """The tree of a statement in a model."""
    model = parsed("model M:\n" + "".join(f"    {line}\n" for line in text.split("\n"))).items[0]
    assert isinstance(model, t.Model)
    return model.body[0]


PIECES = [*"()[]{}:=~'\"#.,;|<->+*/^@ \t\n0159aexR_∂²", '"""', "..", "<-", " if ", " for ", " in ", "\n    "]


def mutated(text: str, rng: random.Random) -> str:
    """The text with one to four small accidents: characters or lines lost, doubled, moved, put in."""
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.6:
            i = rng.randrange(len(text) + 1)
            here, after = text[i : i + 1], text[i + 1 :]
            piece = [after, rng.choice(PIECES) + here + after, here * 2 + after, after[:1] + here + after[1:]]
            text = text[:i] + rng.choice(piece)
        else:
            lines = text.split("\n")
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            match rng.randrange(4):
                case 0:
                    del lines[i]
                case 1:
                    lines.insert(i, lines[j])
                case 2:
                    lines[i], lines[j] = lines[j], lines[i]
                case _:
                    lines[i] = " " * rng.randrange(9) + lines[i].lstrip()
            text = "\n".join(lines)
    return text
