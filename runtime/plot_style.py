"""One restrained look for every figure, without touching matplotlib's global state.

Figures are 3.4 inches wide for one panel (a column of a two-column paper) and 6.8 for several; text is 8
points, curves are thin, axes have ticks inside the text's reach and no box. Colours are Okabe and Ito's,
which people with any common colour blindness tell apart, in an order whose neighbours differ in lightness.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5B5B5B", "#8C6D1F")
INK = "#222222"
FAINT = "#B8B8B8"
COLUMN = 3.4
PAGE = 6.8

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": True,
    "axes.formatter.limits": (-3, 4),
    "axes.xmargin": 0.02,
    "axes.ymargin": 0.06,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "lines.markersize": 3.6,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.minor.size": 1.6,
    "ytick.minor.size": 1.6,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "ndl",
    "path.simplify": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib's settings for the length of a block; what was set before comes back."""
    import matplotlib

    with matplotlib.rc_context(RC):
        yield


def color(k: int) -> str:
    """The k-th curve's colour."""
    return COLORS[k % len(COLORS)]


SMALL = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi"
)
GREEK = {
    name: f"\\{name}"
    for name in f"{SMALL} chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split()
}


def _letter(name: str) -> str:
    """The Greek letter itself; Unicode spells two of them its own way."""
    size = "SMALL" if name.islower() else "CAPITAL"
    return unicodedata.lookup(f"GREEK {size} LETTER {name.upper().replace('LAMBDA', 'LAMDA')}")


LETTERS = {_letter(name): code for name, code in GREEK.items()}
LETTERS |= {"ϕ": "\\phi", "φ": "\\varphi", "ϵ": "\\epsilon", "ε": "\\varepsilon", "ϑ": "\\vartheta"}
ACCENTS = {
    "\u0302": "hat",
    "\u0304": "bar",
    "\u0303": "tilde",
    "\u0307": "dot",
    "\u0308": "ddot",
    "\u20d7": "vec",
}


def typeset(name: str) -> str:
    """A program's name as a label: `theta'` as $\\theta'$, `x_max` as $x_{\\mathrm{max}}$, `z[0]` as $z_{0}$;
    a word such as `prey` stays one, upright."""
    base, _, index = name.partition("[")
    primes = len(base) - len(base.rstrip("'"))
    base = base.rstrip("'")
    stem, *below = [piece for piece in base.split("_") if piece] or [base]
    digits = stem[len(stem.rstrip("0123456789")) :]
    if digits and _symbol(stem[: -len(digits)]) is not None:
        stem, below = stem[: -len(digits)], [digits, *below]
    symbol = _symbol(stem)
    if symbol is None:
        text = _escape(base.replace("_", " ")) + "'" * primes
        return f"{text} [{index}" if index else text
    parts = [_symbol(b) or (b if b.isdigit() else f"\\mathrm{{{_formula(b)}}}") for b in below]
    if index:
        parts.append(index.rstrip("]").replace(" ", ""))
    sub = "_{" + ",".join(parts) + "}" if parts else ""
    return f"${symbol}{chr(39) * primes}{sub}$"


def _symbol(stem: str) -> str | None:
    """A single letter, with accents, or the name of a Greek letter, as mathtext; else None."""
    if stem in GREEK:
        return GREEK[stem]
    pieces = unicodedata.normalize("NFD", stem)
    letters = [c for c in pieces if not unicodedata.combining(c)]
    marks = [ACCENTS.get(c) for c in pieces if unicodedata.combining(c)]
    if len(letters) != 1 or not letters[0].isalpha() or None in marks:
        return None
    found = LETTERS.get(letters[0], letters[0])
    for mark in marks:
        found = f"\\{mark}{{{found}}}"
    return found


def _escape(text: str) -> str:
    """Text that matplotlib prints as it is: outside of formulas only the dollar is special."""
    return text.replace("$", "\\$")


def _formula(text: str) -> str:
    """Letters and digits only: what else a name may hold has no place in a formula."""
    return "".join(c for c in text if c.isalnum())
