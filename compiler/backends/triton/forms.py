"""How each operation is written in Triton, and the helper functions that some of them call.

An operation is written between its operands (`INFIX`), before its operand (`PREFIX`), or by a pattern
(`PATTERNS`). Patterns name every operand once, so that an operand's text may stand in for its value.
"""

from __future__ import annotations

from dataclasses import dataclass

ATOM = 9
"""The precedence of names and calls; Python's other precedences stand beside the operators below."""


@dataclass(frozen=True)
class Expr:
    """The text of a value; `level` is the precedence of its outermost operator. `literal`: a bare number,
    whose type Triton takes from what stands beside it."""

    text: str
    level: int = ATOM
    literal: bool = False

    def inside(self, level: int) -> str:
        """The text as an operand that binds at least as tightly as `level`."""
        return self.text if self.level >= level else f"({self.text})"


INFIX = {
    "add": ("+", 5), "sub": ("-", 5), "mul": ("*", 6), "div": ("/", 6),
    "lt": ("<", 0), "le": ("<=", 0), "gt": (">", 0), "ge": (">=", 0), "eq": ("==", 0), "ne": ("!=", 0),
    "and": ("&", 3), "or": ("|", 1), "bit_and": ("&", 3), "bit_or": ("|", 1), "bit_xor": ("^", 2),
    "shl": ("<<", 4),
}  # fmt: skip

PREFIX = {"neg": ("-", 7), "not": ("~", 7)}

PATTERNS = {
    "fma": "tl.fma({0}, {1}, {2})",
    "maximum": "_maximum({0}, {1})",
    "minimum": "_minimum({0}, {1})",
    "abs": "tl.abs({0})",
    "sqrt": "tl.sqrt({0})",
    "floor": "tl.floor({0})",
    "ceil": "tl.ceil({0})",
    "round": "_round({0})",
    "isfinite": "_isfinite({0})",
    "select": "tl.where({0}, {1}, {2})",
    "to_real": "{0}.to({real})",
    "to_i32": "_to_i32({0})",
    "to_bool": "_to_bool({0})",
    "from_bool": "{0}.to(tl.int32)",
    "bits_of": "{0}.to({bits}, bitcast=True)",
    "real_of": "{0}.to({real}, bitcast=True)",
    "widen": "{0}.to({bits})",
    "narrow": "{0}.to(tl.int32)",
    "shr": "_shr{width}({0}, {1})",
    "mulhi": "_mulhi({0}, {1})",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "erf": "tl.erf({0})",
    "tan": "_tan({0})",
    "sign": "_sign({0})",
    "relu": "_relu({0})",
    "sigmoid": "_sigmoid({0})",
    "silu": "_silu({0})",
    "gelu": "_gelu({0})",
}

HELPERS = {
    "_any": '''\
def _any(mask):
    """Whether some lane of the tile is set."""
    return tl.max(mask.to(tl.int32), axis=0) > 0
''',
    "_maximum": '''\
def _maximum(a, b):
    """The larger number; nan if one is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
''',
    "_minimum": '''\
def _minimum(a, b):
    """The smaller number; nan if one is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
''',
    "_round": '''\
def _round(x):
    """The nearest whole number, halves to the even one: what is left after adding 2^{fraction}."""
    size = tl.abs(x)
    whole = tl.where(size < {whole}, (size + {whole}) - {whole}, size)
    return tl.where(x < 0.0, -whole, whole)
''',
    "_isfinite": """\
def _isfinite(x):
    return tl.abs(x) < float("inf")
""",
    "_to_i32": '''\
def _to_i32(x):
    """Towards zero; the least integer for what does not fit."""
    return tl.where(tl.abs(x) < 2147483648.0, x, -2147483648.0).to(tl.int32)
''',
    "_to_bool": """\
def _to_bool(n):
    return n != 0
""",
    "_shr32": '''\
def _shr32(n, k):
    """A shift to the right that brings in zeros."""
    return (n.to(tl.uint32, bitcast=True) >> k).to(tl.int32, bitcast=True)
''',
    "_shr64": '''\
def _shr64(n, k):
    """A shift to the right that brings in zeros."""
    return (n.to(tl.uint64, bitcast=True) >> k).to(tl.int64, bitcast=True)
''',
    "_mulhi": '''\
def _mulhi(a, b):
    """The upper half of the product of two unsigned integers."""
    high = tl.umulhi(a.to(tl.uint32, bitcast=True), b.to(tl.uint32, bitcast=True))
    return high.to(tl.int32, bitcast=True)
''',
    "_tan": """\
def _tan(x):
    return tl.sin(x) / tl.cos(x)
""",
    "_sign": """\
def _sign(x):
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, x))
""",
    "_relu": """\
def _relu(x):
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
""",
    "_sigmoid": """\
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))
""",
    "_silu": """\
def _silu(x):
    return x / (1.0 + tl.exp(-x))
""",
    "_gelu": '''\
def _gelu(x):
    """x Φ(x), Φ the normal distribution function."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
''',
}

NATIVE = frozenset(
    {
        *INFIX, *PREFIX, *PATTERNS, "const", "member", "load", "store", "while", "when", "map", "pack",
        "element", "row", "total", "view", "collect", "dense", "dense_t", "outer", "accumulate",
    }
)  # fmt: skip
"""What the printer can write; other operations are expanded before."""


@dataclass(frozen=True)
class Precision:
    """The types of a kernel's numbers in Triton, and what depends on their width."""

    real: str
    bits: str
    width: int
    fraction: int

    def type(self, type: str) -> str:
        return {"real": self.real, "bits": self.bits, "i32": "tl.int32", "bool": "tl.int1"}[type]

    def helper(self, name: str) -> str:
        """A helper function's text."""
        text = HELPERS[name].replace("{fraction}", str(self.fraction))
        return "@triton.jit\n" + text.replace("{whole}", repr(float(2**self.fraction)))


PRECISIONS = {
    "f64": Precision("tl.float64", "tl.int64", 64, 52),
    "f32": Precision("tl.float32", "tl.int32", 32, 23),
}
