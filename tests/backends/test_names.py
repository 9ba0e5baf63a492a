"""Identifiers for users' names: valid, told apart, and clear of what torch and the runtime call their own."""

from __future__ import annotations

import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ndl.compiler.backends.torch.names import (
    MODEL_ATTRIBUTES,
    MODULE_ATTRIBUTES,
    Names,
    attributes,
    identifier,
)
from ndl.runtime.model import Model
from torch import nn

LETTERS = st.text(st.characters(categories=("L", "Mn", "Nd")) | st.sampled_from("_'"), max_size=12)


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("alpha", "alpha"),
        ("σ", "σ"),
        ("ρ̂", "ρ̂"),
        ("lambda", "lambda_"),
        ("theta'", "theta_dot"),
        ("theta''", "theta_ddot"),
        ("__secret", "secret"),
        ("captured 1", "captured_1"),
        ("2x", "_2x"),
    ],
)
def test_names_are_kept_where_python_allows(name: str, wanted: str) -> None:
    assert identifier(name) == wanted


@given(st.lists(LETTERS, unique=True, max_size=8))
def test_identifiers_are_valid_and_distinct(names: list[str]) -> None:
    scope = attributes()
    found = [scope[name] for name in names]
    assert len(set(found)) == len(found)
    assert all(f.isidentifier() and not keyword.iskeyword(f) for f in found)
    assert found == [scope[name] for name in names]
    assert not set(found) & (MODULE_ATTRIBUTES | MODEL_ATTRIBUTES)


def test_reserved_attributes_are_known() -> None:
    own = {n for n in dir(nn.Module) if not n.startswith("_")} | {"training"}
    assert own <= MODULE_ATTRIBUTES
    model = {n for n in dir(Model) if not n.startswith("_")} - own
    assert model <= MODEL_ATTRIBUTES


def test_companions_do_not_meet_other_names() -> None:
    scope = Names()
    assert scope["raw_k"] == "raw_k"
    assert scope.claim("k", ("raw_", "unit_")) == "k_"
    assert scope["unit_k_"] != "unit_k_"
