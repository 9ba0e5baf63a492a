"""How names are typeset: Greek spelt or written, accents, subscripts, words upright."""

from __future__ import annotations

import re
import unicodedata

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ϵ": "epsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "ϑ": "vartheta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu",
    "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "ς": "varsigma", "τ": "tau",
    "υ": "upsilon", "φ": "varphi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
    "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma",
    "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip

SPELT = frozenset(GREEK.values()) | {"varepsilon", "varphi"}

ACCENTS = {
    "\u0302": "hat",
    "\u0303": "tilde",
    "\u0304": "bar",
    "\u0307": "dot",
    "\u0308": "ddot",
    "\u20d7": "vec",
    "\u030c": "check",
}

SPECIAL = {"\\": r"\backslash ", "_": r"\_", "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&"}


def name_latex(name: str, primes: int = 0) -> str:
    """`alpha` → `\\alpha`, `x1` → `x_{1}`, `k_on` → `k_{\\mathrm{on}}`, `ρ̂` → `\\hat{\\rho}`."""
    head, subscripts = split_name(name)
    text = word_latex(head) + "'" * primes
    if subscripts:
        text += "_{" + ",".join(word_latex(s) for s in subscripts) + "}"
    return text


def split_name(name: str) -> tuple[str, list[str]]:
    """Head and subscripts: parts after `_`, and digits that end the head."""
    lead = len(name) - len(name.lstrip("_"))
    parts = [p for p in name[lead:].split("_") if p]
    if lead or not parts:
        return name, []
    head, subscripts = parts[0], parts[1:]
    match = re.fullmatch(r"(\D+)(\d+)", head)
    if match:
        head, subscripts = match[1], [match[2], *subscripts]
    return head, subscripts


def word_latex(word: str) -> str:
    """One part of a name: a letter in italics, a Greek letter by its command, a word upright."""
    if word.isascii() and word.isdigit():
        return word
    if word in SPELT:
        return f"\\{word}"
    letters = unicodedata.normalize("NFD", word)
    base, marks = letters[:1], letters[1:]
    if base and all(m in ACCENTS for m in marks):
        text = f"\\{GREEK[base]}" if base in GREEK else SPECIAL.get(base, base)
        for mark in marks:
            text = f"\\{ACCENTS[mark]}{{{text}}}"
        return text
    # Inside \mathrm a Greek letter still needs its command.
    return "\\mathrm{" + "".join(_letter(c) for c in word) + "}"


def _letter(c: str) -> str:
    return f"\\{GREEK[c]} " if c in GREEK else SPECIAL.get(c, c)
