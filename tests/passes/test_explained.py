"""What `ndl explain` says of the conformance models, as one text.

`python tests/passes/test_explained.py` renews it.
"""

from pathlib import Path

from ndl.compiler.check import check_file
from ndl.compiler.check.values import ModelV
from ndl.compiler.diagnostics import Sink
from ndl.compiler.lower.models import lower_model
from ndl.compiler.passes.choose import choices
from ndl.compiler.passes.facts import derive, explain

HERE = Path(__file__).parent
GOLDEN = HERE / "explained.txt"
PROGRAMS = (
    "02_oscillator",
    "05_geometric_brownian",
    "06_controlled",
    "07_stiff",
    "09_integral",
    "12_lynx_hare",
)


def models(path):
    checked, found = check_file(path)
    assert checked is not None and checked.ok, found
    for name, value in checked.module.scope.names.items():
        if isinstance(value, ModelV) and value.decl.name == name:
            yield lower_model(value, Sink())


def told(model):
    facts = derive(model)
    lines = [f"model {model.name}"]
    entries = [*explain(facts), *((c.setting, c.why) for c in choices(facts))]
    for heading, text in entries:
        first, *rest = text.splitlines()
        lines.append(f"  {heading:<17}{first}")
        lines += [" " * 19 + line for line in rest]
    return "\n".join(lines) + "\n"


def everything():
    folder = HERE.parent / "conformance"
    return "\n".join(told(m) for name in PROGRAMS for m in models(folder / f"{name}.ndl"))


def test_explanations_are_as_agreed():
    assert everything() == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.write_text(everything(), encoding="utf-8")
