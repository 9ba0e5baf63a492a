"""Python identifiers for users' names: the one place where names are escaped.

A user's name is kept where Python allows it. `theta'` becomes `theta_dot`, a keyword or a name that
torch or the runtime needs gets a trailing `_`, and names that would meet are told apart by numbers in
the order in which they are asked for.
"""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Iterable


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODULE_ATTRIBUTES = words(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule
    half ipu load_state_dict modules mtia named_buffers named_children named_modules named_parameters
    parameters register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
    to_empty train training type xpu zero_grad
    """
)
"""What `torch.nn.Module` calls its own."""

MODEL_ATTRIBUTES = words(
    """
    BREAKS CALCULUS DELAYS DERIVED DRAWS EQUATIONS EVENTS FIELDS FILE FOURIER GRIDS INPUTS INTEGRALS
    JACOBIAN_SPARSITY KERNELS KINDS NAME NETS NOISES NOISE_KIND OBSERVES OUTPUTS PACED PARAMETERS REQUIRES
    DIFFERENTIATED SERIES STATES TERMS bind
    breaks chance colours correction define drawn derived device diffusion dtype fit_initial forcing foreign
    forget guard info initial initial_parameters initial_state initial_values input jacobian kernel lags
    limits make member_shape nets parts path path_given path_value period place places observation pace
    prepared remember replace require reset seed series settle size start state state_jacobian store tensor
    term values vector_field weight_value weights
    """
)
"""What `ndl.runtime.model.Model` calls its own."""

GLOBALS = words(
    """
    Bank Constrained DelayInfo DerivedInfo DrawInfo EventInfo Extern FormulaNet FourierInfo GridInfo InputInfo
    IntegralInfo Model NoiseInfo ObserveInfo ParameterInfo Part RequireInfo Sequence State StepSolver
    Tableau Tensor TermInfo Value Any math ops torch
    """
)
"""What a generated module imports."""

LOCALS = frozenset({"self", "super", "bool", "int", "str", "dict", "tuple"}) | GLOBALS


def identifier(name: str) -> str:
    """A valid identifier for any name: primes spelt out, other strange characters replaced."""
    text = unicodedata.normalize("NFKC", name)
    base = text.rstrip("'")
    primes = len(text) - len(base)
    if primes:
        base += "_dot" if primes == 1 else "_ddot" if primes == 2 else f"_d{primes}"
    kept = "".join(c if ("a" + c).isidentifier() else "_" for c in base)
    kept = kept.lstrip("_") or "_" if kept.startswith("__") else kept  # `__x` is mangled in a class
    if not kept or not kept.isidentifier():
        kept = "_" + kept
    return kept + "_" if keyword.iskeyword(kept) or (keyword.issoftkeyword(kept) and kept == "_") else kept


class Names:
    """A name space: hands out an identifier for each user's name, each once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._given: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """The identifier of a user's name, the same at every asking."""
        if name not in self._given:
            self._given[name] = self.fresh(name)
        return self._given[name]

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def fresh(self, name: str, companions: Iterable[str] = ()) -> str:
        """A new identifier; `companions` are prefixes whose names are taken with it (`raw_`)."""
        base = identifier(name)
        candidate, number = base, 1
        prefixes = ("", *companions)
        while any(p + candidate in self._taken for p in prefixes):
            candidate = base + "_" if number == 1 else f"{base}_{number}"
            number += 1
        self._taken.update(p + candidate for p in prefixes)
        return candidate

    def claim(self, name: str, companions: Iterable[str]) -> str:
        """As `[name]`, with companions."""
        if name not in self._given:
            self._given[name] = self.fresh(name, companions)
        return self._given[name]


def attributes() -> Names:
    """The name space of a generated class's attributes."""
    return Names(MODULE_ATTRIBUTES | MODEL_ATTRIBUTES)


def class_name(name: str) -> str:
    """An identifier for a class: dots and brackets of a qualified name become underscores."""
    return identifier(name.replace(".", "_"))
