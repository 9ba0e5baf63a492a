"""What a model's class, an instance and `ndl.solve` say of arguments that they do not take."""

from typing import Any

import pytest
import torch
from ndl.runtime.errors import ArgumentsError

import ndl

TEXT = """
model Decay:
    param rate = 1.0
    state x = 1.0
    x' = -rate*x
"""


@pytest.fixture(scope="module")
def Decay() -> Any:
    return ndl.loads(TEXT).models["Decay"]


def test_a_misspelt_parameter_has_the_nearest_name(Decay: Any) -> None:
    with pytest.raises(TypeError, match="`rat` is no parameter") as caught:
        Decay(rat=2.0)
    assert "did you mean `rate`?" in str(caught.value)


def test_values_are_given_by_name(Decay: Any) -> None:
    with pytest.raises(ArgumentsError, match="by name"):
        Decay(2.0)


def test_a_text_is_no_number(Decay: Any) -> None:
    with pytest.raises(ArgumentsError, match="`rate` takes numbers, not 'fast'"):
        Decay(rate="fast")


def test_an_instance_is_not_called(Decay: Any) -> None:
    with pytest.raises(ArgumentsError, match="cannot be called"):
        Decay()(torch.zeros(1))


def test_a_view_names_what_it_does_not_know(Decay: Any) -> None:
    with pytest.raises(ArgumentsError, match="nothing called `rtae`") as caught:
        Decay().bind(rtae=1.0)
    assert "did you mean `rate`?" in str(caught.value)


def test_a_parameter_among_the_settings(Decay: Any) -> None:
    with pytest.raises(ndl.NDLError, match=r"solve `Decay\(rate=…\)`"):
        ndl.solve(Decay, span=(0, 1), rate=2.0)


def test_a_negative_period(Decay: Any) -> None:
    with pytest.raises(ndl.NDLError, match="followed by a positive number"):
        ndl.solve(Decay, span=(0, 1), save=-0.1)


def test_copies_and_pickles_need_no_arguments(Decay: Any) -> None:
    import copy

    twin = copy.deepcopy(Decay(rate=3.0))
    assert float(twin.rate.detach()) == 3.0


def test_an_attribute_that_is_missing_inside_of_a_property_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    program = ndl.loads(TEXT)
    monkeypatch.setattr(type(program), "class_of", lambda self, model: model.lost)
    with pytest.raises(AttributeError, match="lost"):
        _ = program.models
    with pytest.raises(AttributeError, match="declares no model `Decoy`"):
        _ = program.Decoy
