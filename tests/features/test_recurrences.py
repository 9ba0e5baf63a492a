"""Models whose states only events change, and their earlier values."""

from __future__ import annotations

from programs import check

PROGRAM = """
model Walk:
    state n = 0, total = 0, seen = 0
    when every 1:
        n <- n + 1
        total <- total + n
        seen <- prev(n)

model Logistic:
    param r = 3.2
    state x = 0.4
    when every 1: x <- r*x*(1 - x)

model Until:
    state k = 0
    when every 1:
        k <- k + 1
    when rising(k - 4.5): stop "enough"

model Fib:
    state a = 1
    when every 1: a <- a + prev(a)

model Back:
    state x = 0, y = 0
    when every 1:
        x <- x + 1
        y <- prev(x, 1) + prev(x, 2) - prev(x, 2)

test "recurrences":
    s = solve(Walk, span=0..5)
    assert s.final.n == 5
    assert s.final.total == 10
    l = solve(Logistic, span=0..3)
    x = 0.4
    for i in 1..3:
        x = 3.2*x*(1 - x)
    assert abs(l.final.x - x) < 1e-12
    u = solve(Until, span=0..50)
    assert u.final.k == 5
    assert u.final.t == 5

test "prev":
    f = solve(Fib, span=0..6)
    assert f.final.a == 21
    s = solve(Walk, span=0..5)
    assert s.final.seen == 3
    b = solve(Back, span=0..5)
    assert b.final.y == 3
"""


def test_recurrences() -> None:
    check(PROGRAM)
