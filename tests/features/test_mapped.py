"""Operators under bound indices, operators without types, and functions in the dimensions of a header."""

from __future__ import annotations

import torch
from programs import check, load, refused

ROWS = """
operator Rows(x: R[T, d]; act = tanh) -> R[T, Out]:
    net f: R[d] -> R[Out] = MLP(width=5, act=act)
    return [f(x[i]) for i]

operator Pairs(x: R[T, d]) -> R[T, T]:
    net f: (R[d], R[d]) -> R = MLP(width=3)
    return [f(x[i], x[j]) for i, j]

operator Noisy(x: R[T, d]) -> R[T, d]:
    keep = Dropout(p=0.5)
    return [keep(x[i]) for i]

net rows: R[4, 3] -> R[4, 2] = Rows()
net pairs: R[3, 2] -> R[3, 3] = Pairs()
net noisy: R[50, 3] -> R[50, 3] = Noisy()
net one: R[3] -> R[2] = MLP(width=5)

const x = [[0.1, 1.0, -0.5], [0.4, -1.0, 0.2], [0.2, 0.5, 0.1], [1.0, 2.0, 3.0]]

model Field:
    net f: R[3, 2] -> R[3, 2] = Rows()
    state z: R[3, 2] = [[1, 2], [2, 3], [3, 4]]
    z' = f(z)
    y = sum(f(z))
    slope = y'

test "the same net is applied to every row":
    y = rows(x)
    swapped = rows([x[1], x[0], x[2], x[3]])
    assert max(abs(y[0] - swapped[1])) < 1e-14 and max(abs(y[1] - swapped[0])) < 1e-14
    assert max(abs(y[0] - y[1])) > 1e-6

test "in an expression of a run too":
    assert max(abs([one(x[i]) for i] - [one(x[k]) for k in 0..3])) < 1e-14

test "two indices":
    z = [[0.1, 1.0], [0.4, -1.0], [2.0, 0.3]]
    p, q = pairs(z), pairs([z[1], z[0], z[2]])
    assert abs(p[0, 2] - q[1, 2]) < 1e-14 and abs(p[0, 1] - q[1, 0]) < 1e-14

test "in a model, with kernels and derivatives":
    s = solve(Field, span=0..0.1, method=rk4(h=0.05), backend=cpu)
    t = solve(Field, span=0..0.1, method=rk4(h=0.05), backend=torch)
    assert max(abs(s.final.z - t.final.z)) < 1e-12
    h = 1e-4
    u = solve(Field, span=0..h, method=rk4(h=h), save=steps)
    assert abs((u.y[1] - u.y[0])/h - u.slope[0]) < 1e-3
"""


def test_operators_under_bound_indices() -> None:
    check(ROWS)


def test_each_row_draws_for_itself() -> None:
    net = load(ROWS).nets["noisy"].train()
    dropped = net(torch.ones(50, 3, dtype=torch.float64)) == 0
    assert 0 < int(dropped.sum()) < 150
    assert len({tuple(row) for row in dropped.tolist()}) > 4


def test_memory_under_an_index_is_refused() -> None:
    found = refused(
        "operator F(x: R[T, d]) -> R[T, d]:\n    n = BatchNorm()\n    return [n(x[i]) for i]\n\n"
        'net f: R[2, 3] -> R[2, 3] = F()\n\ntest "t":\n    assert max(f(zeros(2, 3))) == 0\n'
    )
    assert found.code == "NDL432"


OPEN = """
fn doubled(n) = 2*n

operator Twice(x; gain = 2.0):
    param w: R[len(x)] = 1
    return [gain*w[i]*x[i] for i]

operator Wide(x: R[n]) -> R[doubled(n)]:
    return concat(x, x)

operator Uses(x: R[n, m]) -> R[n, m]:
    return Twice()(x)

net vector: R[3] -> R[3] = Twice()
net matrix: R[2, 2] -> R[2, 2] = Twice(gain=3.0)
net wide: R[3] -> R[6] = Wide()
net uses: R[2, 5] -> R[2, 5] = Uses()

test "an operator without types takes any shape":
    assert vector([1.0, 2.0, 3.0]) == [2, 4, 6]
    assert matrix([[1.0, 2.0], [3.0, 4.0]]) == [[3, 6], [9, 12]]
    assert wide([1.0, 2.0, 3.0]) == [1, 2, 3, 1, 2, 3]
    assert shape(uses(zeros(2, 5))) == [2, 5]
"""


def test_operators_without_types() -> None:
    check(OPEN)
    wrong = refused(OPEN + "\nnet bad: R[3] -> R[7] = Wide()\n")
    assert wrong.code == "NDL309"
    inside = refused(OPEN + '\nnet late: R -> R = Twice()\n\ntest "x":\n    assert late(1.0) == 2\n')
    assert inside.code.startswith("NDL3")


WINDOWS = """
operator Slide(x: R[2, n]) -> R[2, n]:
    return convolve({kernel}, x, pad=same{more})

net f: R[2, 6] -> R[2, 6] = Slide()

test "t":
    assert max(f(ones(2, 6))) < 100
"""


def test_convolutions_that_do_not_fit() -> None:
    good = "[[[1.0, 2.0, 1.0], [0.0, 1.0, 0.0]], [[1.0, 2.0, 1.0], [0.0, 1.0, 0.0]]]"
    check(WINDOWS.format(kernel=good, more=""))
    channels = refused(WINDOWS.format(kernel="[[[1.0, 2.0, 1.0]]]", more=""))
    assert channels.code == "NDL301" and "takes 1 channels" in channels.message
    flat = refused(WINDOWS.format(kernel="[[1.0, 2.0]]", more=""))
    assert "one to three more axes" in flat.message
    border = refused(WINDOWS.format(kernel=good, more=", border=cosine"))
    assert "a border is one of" in border.message
    stride = refused(WINDOWS.format(kernel=good, more=", stride=0"))
    assert stride.code == "NDL345"


def test_initialisers_have_their_spread() -> None:
    laws = {"glorot": 2 / 90, "glorot_normal": 2 / 90, "he": 2 / 60, "he_uniform": 2 / 60, "lecun": 1 / 60}
    laws |= {"lecun_uniform": 1 / 60, "fan_uniform": 1 / 180, "glorot(2)": 8 / 90}
    text = "operator F(x: R[d]) -> R[1]:\n" + "".join(
        f"    param K{i}: R[10, 20, 3] ~ {law}\n" for i, law in enumerate(laws)
    )
    text += "    param Q: R[4, 6] ~ orthogonal(2)\n    return [x[0]]\n\nnet f: R[2] -> R[1] = F()\n"
    weights = load(text).nets["f"].weights()
    for i, wanted in enumerate(laws.values()):
        assert abs(float(weights[f"K{i}"].detach().var()) / wanted - 1) < 0.25
    Q = weights["Q"].detach()
    torch.testing.assert_close(Q @ Q.T, 4 * torch.eye(4, dtype=torch.float64))
