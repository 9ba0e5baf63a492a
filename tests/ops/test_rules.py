"""Type rules: kinds, fields and units, and what a mistake is called."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
from ndl.compiler.ops.table import TypeRuleError, infer
from ndl.compiler.types import BOOL, INTEGER, SCALAR, Dim, Tensor, Type, tensor

M, S = (("m", Fraction(1)),), (("s", Fraction(1)),)
METRE, SECOND = Tensor(unit=M), Tensor(unit=S)
COMPLEX = tensor(kind="C")
FIELD = tensor(2, on="Omega")


def test_importing_the_rules_is_light() -> None:
    code = (
        "import sys, ndl.compiler.ops.families\n"
        "print([m for m in ('torch', 'sympy', 'networkx', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "op, types, attributes, wanted",
    [
        ("add", [INTEGER, SCALAR], {}, SCALAR),
        ("add", [INTEGER, INTEGER], {}, INTEGER),
        ("mul", [SCALAR, COMPLEX], {}, COMPLEX),
        ("div", [INTEGER, INTEGER], {}, SCALAR),
        ("exp", [INTEGER], {}, SCALAR),
        ("abs", [METRE], {}, METRE),
        ("lt", [METRE, METRE], {}, BOOL),
        ("real", [COMPLEX], {}, SCALAR),
        ("mul", [METRE, SECOND], {}, Tensor(unit=(("m", Fraction(1)), ("s", Fraction(1))))),
        ("div", [METRE, SECOND], {}, Tensor(unit=(("m", Fraction(1)), ("s", Fraction(-1))))),
        ("div", [METRE, METRE], {}, Tensor(unit=())),
        ("sqrt", [METRE], {}, Tensor(unit=(("m", Fraction(1, 2)),))),
        ("pow", [METRE, INTEGER], {}, SCALAR),
        ("mul", [METRE, SCALAR], {}, SCALAR),
        ("add", [METRE, SCALAR], {}, METRE),
        ("exp", [Tensor(unit=())], {}, SCALAR),
        ("add", [FIELD, tensor(2)], {}, FIELD),
        ("sin", [FIELD], {}, FIELD),
        ("matmul", [tensor("n", "m"), tensor("m")], {}, tensor("n")),
        ("concat", [tensor("n"), tensor(2)], {"axis": 0}, tensor(Dim.of("n") + 2)),
        ("slice", [tensor("n")], {"axis": 0, "start": 1, "stop": None}, tensor(Dim.of("n") - 1)),
        ("reshape", [tensor("n", 2)], {"shape": (Dim.of("n") * 2,)}, tensor(Dim.of("n") * 2)),
        ("expand", [tensor("n")], {"shape": (3, Dim.of("n")), "axes": (1,)}, tensor(3, "n")),
        ("const", [], {"value": ((1, 2.0), (3, 4))}, tensor(2, 2)),
        ("const", [], {"value": (True, False)}, tensor(2, kind="Bool")),
    ],
)
def test_types(op: str, types: list[Type], attributes: dict[str, Any], wanted: Type) -> None:
    assert infer(op, types, attributes) == wanted


@pytest.mark.parametrize(
    "op, types, attributes, message, operands",
    [
        ("add", [tensor(3), tensor(2)], {}, "shapes differ in an addition", (0, 1)),
        ("sub", [tensor("n"), tensor("m")], {}, "shapes differ in a subtraction", (0, 1)),
        ("lt", [tensor(3), tensor(2)], {}, "shapes differ in a comparison", (0, 1)),
        ("mul", [BOOL, SCALAR], {}, "a truth value cannot stand in a product", (0,)),
        ("lt", [COMPLEX, SCALAR], {}, "a comparison is not defined for complex numbers", (0,)),
        ("and", [BOOL, SCALAR], {}, "a logical `and` needs truth values, and this is R", (1,)),
        ("add", [METRE, SECOND], {}, "units differ in an addition: `m` and `s`", (0, 1)),
        ("maximum", [METRE, SECOND], {}, "units differ in a maximum: `m` and `s`", (0, 1)),
        ("exp", [METRE], {}, "`exp` needs a number without a unit", (0,)),
        ("pow", [SCALAR, METRE], {}, "an exponent has no unit", (1,)),
        ("add", [FIELD, tensor(2, on="Gamma")], {}, "a field on `Omega` with one on `Gamma`", (0, 1)),
        ("matmul", [tensor(2, 3), tensor(2)], {}, "the last axis of the left side (3)", (0, 1)),
        ("matmul", [SCALAR, tensor(2)], {}, "`@` contracts axes, and this is R", (0,)),
        ("select", [BOOL, tensor(2), tensor(3)], {}, "shapes differ in the branches", (1, 2)),
        ("index", [tensor(3)], {"axis": 0, "at": 3}, "index 3 is out of range for an axis of 3", (0,)),
        ("index", [SCALAR], {"axis": 0, "at": 0}, "a number has no axis to index", (0,)),
        ("gather", [tensor(3), tensor(2)], {"axis": 0}, "an index is a whole number", (1,)),
        ("sum", [tensor(3)], {"axes": (1,)}, "`sum` along axis 1, and the operand has 1 axes", (0,)),
        ("reshape", [tensor(2, 3)], {"shape": (5,)}, "R[2, 3] has 6 entries", (0,)),
        ("stack", [tensor(2), tensor(3)], {"axis": 0}, "shapes differ in a list", (0, 1)),
        ("concat", [tensor(2, 2), tensor(2, 3)], {"axis": 0}, "shapes differ in a concatenation", (0, 1)),
        ("solve", [tensor(2, 3), tensor(2)], {}, "`solve` needs a square matrix", (0,)),
        ("einsum", [tensor(2), tensor(3)], {"equation": "i,i->"}, "runs over 2 here and over 3", (0, 1)),
    ],
)
def test_mistakes(
    op: str, types: list[Type], attributes: dict[str, Any], message: str, operands: tuple[int, ...]
) -> None:
    with pytest.raises(TypeRuleError) as caught:
        infer(op, types, attributes)
    assert message in caught.value.message
    assert caught.value.operands == operands
    assert caught.value.code.startswith("NDL3")
