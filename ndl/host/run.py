"""Running a block with its results written: settings, values, pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.plotted import Plot, plots_of
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import HostV, ListV, ModelV, TupleV, WordV
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host.objects import SolutionObject
from ndl.host.trained import VariedObject
from ndl.host.varied import write_varied


class TestContext:
    """Statements of a `test` block."""

    __test__ = False

    def __init__(self, host: Any) -> None:
        self.host = host

    def declared(self, name: str) -> Span | None:
        return None

    def statement(self, ev: Evaluator, stmt: tree.Stmt, scope: Scope) -> None:
        if isinstance(stmt, tree.Net):
            from ndl.compiler.check.operators import read_net

            scope.names[stmt.name] = read_net(ev, stmt, scope, owner=stmt)
            return
        if isinstance(stmt, tree.Draw):
            from ndl.compiler.check.covariances import covariance_of
            from ndl.compiler.check.typing import resolve_type
            from ndl.compiler.check.values import DistV
            from ndl.host.builder import lift
            from ndl.host.families import drawn_instance
            from ndl.runtime.laws import Law

            law = ev.eval(stmt.law, scope)
            type_ = resolve_type(ev, stmt.type, scope) if stmt.type is not None else None
            if isinstance(law, ModelV):
                scope.names[stmt.name] = drawn_instance(self.host, law, stmt.name, 0, 0, 0)
                return
            if covariance_of(law) is not None:
                what = f"the draw `{stmt.name}` has no grid in a test"
                hint = "draw it in a model, `M(f ~ normal(0, K))`, and solve that"
                raise fail("NDL585", what, stmt.law.span, help=hint)
            if isinstance(law, DistV):
                from ndl.host.block_draws import points_law

                law, own = points_law(ev, law, stmt.law.span)
                arguments = tuple(self.host.number(a) for a in law.args)
                shape = getattr(type_, "extents", own)
                scope.names[stmt.name] = lift(Law(law.law, arguments).sample(1, shape, stream=stmt.name)[0])
                return
        raise fail("NDL490", "this statement in a test is not yet lowered", stmt.span)


def run_block(host: Any, block: Any, out: Any, progress: bool, resume: bool) -> Any:
    """One block. `out` is a folder made when something is written, or None."""
    if block.kind == "solve":
        from ndl.host.portions import portioned, run_portioned

        plan = portioned(host, block.stmt)
        if plan is not None:
            return run_portioned(host, plan, block, out, progress)
        solution = host.run_solve(block.stmt)
        host.named[id(block.stmt)] = SolutionObject(solution)
        if out is not None:
            _write_solution(host, block, solution, out)
        return solution
    return _train(host, block, out, progress, resume)


def settings_text(host: Any, block: Any) -> dict[str, Any]:
    """The resolved settings as text, to be written beside the results."""
    from ndl.host.overrides import overridden

    found: dict[str, Any] = {}
    body = block.stmt.settings if block.kind == "solve" else block.stmt.body
    settings = {}
    for s in body:
        if isinstance(s, tree.Assign) and len(s.targets) == 1 and isinstance(s.targets[0], tree.Name):
            settings[s.targets[0].id] = (s.value, s.span)
    from ndl.compiler.syntax.format import show_expr

    for name, (value, _) in overridden(settings, block.name, host.overrides).items():
        found[name] = show_expr(value)
    return {"run": block.name, "kind": block.kind, "file": host.file, "settings": found}


def _write_solution(host: Any, block: Any, solution: Any, out: Any) -> None:
    from ndl.runtime import results

    folder = out.path
    results.write_settings(folder, settings_text(host, block))
    settings = host.settings_of(block.stmt.settings, block.name)
    if "write" in settings:
        written = host.ev.eval(settings["write"][0], host.module.scope)
        if isinstance(written, str):
            solution.save(host.policy.write(written))
    results.write_solution(folder, solution, "results.csv")
    write_figures(solution, settings, folder)


def write_figures(solution: Any, settings: Any, folder: Any) -> None:
    """The pictures of a solution."""
    from ndl.runtime import results

    for stem, figure in _figures(solution, settings):
        results.write_figure(folder, figure, stem)


def _figures(solution: Any, settings: Any) -> Iterator[tuple[str, Any]]:
    """The pictures that `plot` asks for, with the names of their files; without it, that of all states."""
    from ndl.host.failures import diagnostic_of
    from ndl.runtime.errors import SettingError
    from ndl.runtime.plots import plot

    if "plot" not in settings:
        if solution.problem.save.kind != "end" or solution.model.GRIDS:
            yield "plot", plot(solution)
        return
    seen: set[str] = set()
    for p in _apart(solution, plots_of(settings["plot"][0])):
        stem = STEMS[p.kind]
        if stem in seen:
            stem = "_".join([stem, *p.names])
        seen.add(stem)
        names = p.names
        if p.kind == "phase" and not names:
            names = solution.names(derived=False)[:2]
        try:
            figure = plot(solution, *names, kind="auto" if p.kind == "trajectories" else p.kind)
        except SettingError as error:
            raise NDLError([diagnostic_of(error, p.span)]) from error
        yield stem, figure


def _apart(solution: Any, wanted: Sequence[Plot]) -> Iterator[Plot]:
    """The figures, with fields and other quantities in figures of their own."""
    from ndl.runtime.plots import is_field

    for p in wanted:
        fields = tuple(n for n in p.names if n in solution.names() and is_field(solution, n))
        others = tuple(n for n in p.names if n not in fields)
        if p.kind != "trajectories" or not fields or not others:
            yield p
        else:
            yield replace(p, names=others)
            yield replace(p, names=fields)


STEMS = {
    "trajectories": "plot", "phase": "phase_portrait", "histograms": "histogram",
    "animation": "animation", "spectrum": "spectrum",
}  # fmt: skip


def _train(host: Any, block: Any, out: Any, progress: bool, resume: bool) -> Any:
    from ndl.host.training import run_train
    from ndl.runtime import results

    kind = "auto" if progress else "silent"

    def opened() -> Any:
        """The folder, made once the data is read: a run that cannot start leaves nothing."""
        results.write_settings(out.path, settings_text(host, block))
        return out.path

    folder = None if out is None else opened
    trained = run_train(host, block.stmt, {}, folder=folder, progress=kind, resume=resume)
    host.named[id(block.stmt)] = trained
    if isinstance(trained, VariedObject):
        if out is not None:
            write_varied(host, trained, out.path)
        return trained.result
    if out is not None:
        results.write_training(out.path, trained.result, _fitted(trained))
        _pictures(host, block, trained, out.path)
    return trained.result


def _fitted(trained: Any) -> dict[str, Any]:
    """The fitted values by the user's names."""
    from ndl.report import fitted

    model = getattr(trained.model, "instance", None)
    return dict(fitted(model)) if model is not None else {}


def _pictures(host: Any, block: Any, trained: Any, folder: Any) -> None:
    """The loss, and the fit where the model was solved at the times of data."""
    from ndl.runtime import plots, results

    history = trained.result.history
    shown = {"validation": history.validation, "validation_steps": history.validation_steps}
    figure = plots.losses(history.loss, terms=history.terms, **(shown if len(history.validation) else {}))
    results.write_figure(folder, figure, "loss")
    if getattr(trained.result.model, "fronts", None):
        from ndl.runtime.atomic import write_text
        from ndl.runtime.plot_front import front

        found = trained.result.model
        results.write_figure(folder, front(found.fronts, found.found), "front")
        write_text(folder / "formula.txt", found.text + "\n")
    session, loss = trained.session, trained.last
    table = session.table
    if not loss.solves or table is None or table.time is None or table.samples is not None:
        return
    import torch

    with torch.no_grad():
        solution = dense_solution(host, session, loss)
    observed = {n: table[n] for n in table if n in solution.names()}
    if solution.model.GRIDS:
        for stem, figure in _field_pictures(solution, table.time, observed):
            results.write_figure(folder, figure, stem)
    elif observed:
        curves = {n: solution.get(n).values for n in observed}
        results.write_figure(folder, plots.fit(table.time, observed, solution.t, curves), "fit")


def _field_pictures(solution: Any, times: Any, observed: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields that were measured beside the model's, and fields among the fitted parameters."""
    from ndl.report import fitted
    from ndl.runtime import plot_fields
    from ndl.runtime.plots import array

    grids, t = solution.model.GRIDS, array(times)
    data = plot_fields.fields_of({n: array(v) for n, v in observed.items()}, grids)
    found = plot_fields.fields_of({n: array(solution(t)[n]) for n in observed}, grids)
    if data:
        yield "fit", plot_fields.fit(data, found, t)
    weights = {n: array(v)[None] for n, v in fitted(solution.model)["parameters"].items()}
    own = plot_fields.fields_of({n: v for n, v in weights.items() if v.ndim > 1}, grids)
    if own:
        yield "parameters", plot_fields.profiles(own)


def dense_solution(host: Any, session: Any, loss: Any) -> Any:
    """The fitted model on a fine grid over the data's span."""
    import torch

    from ndl.runtime.solve import solve

    model, instance = next(iter(session.models.values()))
    times = session.table.time
    method = session.value("method")
    from ndl.compiler.check.applications import as_method

    chosen = as_method(host.ev, method, session.block.span) if method is not None else None
    return solve(
        host.draws(instance, None, loss.seed),
        span=(float(times[0]), float(times[-1])),
        method=host.method(host.ev, model, chosen, {}, session.block.span),
        save=torch.linspace(float(times[0]), float(times[-1]), 400, dtype=torch.float64),
        seed=loss.seed,
        precision=loss.precision,
    )


__all__ = ["HostV", "ListV", "NDLError", "TestContext", "TupleV", "WordV", "run_block"]
