"""Facts about a model, each derived by a pass of its own and each with a sentence that says why."""

from ndl.compiler.passes.facts.derive import derive
from ndl.compiler.passes.facts.explain import explain
from ndl.compiler.passes.facts.facts import Break, Fact, Facts

__all__ = ["Break", "Fact", "Facts", "derive", "explain"]
