"""Small problems of every kind that the solvers of the library take, two states at most."""

from __future__ import annotations

TURNING = """
    param k = 1.3
    state x = 1.0
    state y = 0.2
    term spin = [-k*y, k*x]
    term push = [0.3*x, sin(x) + 0.1*cos(t)]
    x', y' = spin + push
"""
"""Two terms: a rotation, and what is not linear."""

SOURCE = f"""
model Plain:
    param k = 1.3
    state x = 1.0
    state v = 0.5
    x' = v
    v' = -k*sin(x) - 0.1*v*cos(t)

model Stiff:
    param k = 8.0
    state x = 1.5
    state v = 0.0
    x' = v
    v' = k*(1 - x^2)*v - x

model Tied:
    param k = 2.0
    state x = 1.0
    state z = 1.0
    x' = -k*z
    0 = z + 0.3*z^3 - sin(x) - 0.1*t

model Struck:
    param k = 1.2
    state x = 1.0
    state v = 0.0
    x' = v
    v' = -k
    when falling(x - 0.9):
        v <- -0.7*v
    when every 0.45:
        x <- x + 0.1*k

model Shaken:
    param k = 0.9
    z: R[2] ~ normal(0, k) per step
    state x = 1.0
    x' = -k*x + z[0]*sin(t) + z[1]

model Jolted:
    param k = 1.3
    z: R[2] ~ normal(0, k) per step
    state x = 1.0
    state y = 0.2
    term spin = [-k*y, k*x]
    term push = [0.3*x + z[0], sin(x) + 0.1*z[1]]
    x', y' = spin + push

model Learned:
    net f: R[2] -> R[2] = MLP(width=5, depth=1)
    state x: R[2] = [1.0, -0.5]
    x' = f(x) - x

model Turning:{TURNING}
model Swinging:
    param k = 1.3
    state q = 1.0
    state q' = 0.5
    q'' = -k*sin(q) + 0.1*cos(t)

model Additive:
    param k = 0.4
    state q = 1.0
    state p = 0.0
    noise W: wiener[2]
    dq = p*dt + 0.1*dW[0]
    dp = -sin(q)*dt + k*dW[1]

model Scalar:
    param k = 0.3
    state x = 1.0
    noise W: wiener
    dx = 0.1*x*dt + k*x*dW

model Diagonal:
    param k = 0.5
    state q: R[2] = [1.0, 2.0]
    noise W: wiener[2]
    dq = -q*dt + k*sin(q)*dW

model General:
    calculus stratonovich
    param k = 0.5
    state q = 1.0
    state p = 0.5
    noise V: wiener
    noise W: wiener
    dq = p*dt + k*sin(p)*dV + 0.1*q*dW
    dp = -q*dt + 0.2*cos(q)*dW + 0.3*q*dV

model Passing:
    param k = 0.6
    state x = 1.0
    noise W: wiener
    dx = -60*x*dt + k*dW
    when falling(x - 0.9998):
        x <- x + 0.001
    when every 3e-6:
        x <- x + 0.001*k

model Rapid:
    param k = 0.5
    state q: R[2] = [1.0, 2.0]
    noise W: wiener[2]
    dq = 8*(0.3*sin(t) - q)*dt + k*sin(q)*dW

model Drifting:
    net f: R[2] -> R[2] = MLP(width=5, depth=1)
    state x: R[2] = [1.0, -0.5]
    noise W: wiener[2]
    dx = (f(x) - x)*dt + 0.3*dW

model Bounced:
    param k = 2.0
    state q = 1.0
    state q' = 0.5
    q'' = -2*k - 0.1*q
    when falling(q - 0.6):
        q' <- -0.7*q'
    when every 0.45:
        q <- q + 0.1*k

model Braked:
    param k = 8.0
    state x = 1.0
    state y = 0.2
    term spin = [-k*x + y, -0.5*y]
    term push = [sin(y), cos(x) + 0.1*t]
    x', y' = spin + push

model Taught:
    net f: R[2] -> R[2] = MLP(width=5, depth=1)
    state x: R[2] = [1.0, -0.5]
    term spin = [-0.5*x[1], 0.5*x[0]]
    term push = f(x)
    x' = spin + push
"""

PROBLEMS = {
    "ode": ("Plain", "Stiff", "Tied", "Struck", "Shaken", "Learned"),
    "sde": ("Additive", "Scalar", "Diagonal", "General", "Rapid", "Passing", "Drifting"),
    "split": ("Swinging", "Turning", "Braked", "Bounced", "Jolted", "Taught"),
}
"""By kind of solver: equations, stiff ones, algebraic ones, events, draws for each step and nets; of those
with noise each kind of noise, of splittings Hamiltonians and parts."""

CHECKED = {"ode": ("Plain", "Stiff", "Struck"), "sde": ("Additive", "Diagonal", "Rapid", "Passing")}
"""What every adaptive solver is given, if it is not all."""

SPANS = {"Passing": 8e-6}
"""Lengths of spans, 1 elsewhere. Under noise the bracket of a root is halved down to 1e-7 units of time: a
short span makes that a few turns."""
