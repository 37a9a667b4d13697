"""A trial: what the panel beside the front says, and the full detail below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dash import dcc, html

from bitfront.dashboard import texts
from bitfront.dashboard.axes import title_of
from bitfront.dashboard.figures import curve_figure
from bitfront.dashboard.network import NetworkView
from bitfront.dashboard.pages.drawing import drawing, sketch
from bitfront.dashboard.pages.parts import (
    Child,
    card,
    empty,
    facts,
    graph,
    mapping,
    table,
    trial_badge,
)
from bitfront.dashboard.routes import study_path
from bitfront.dashboard.trial import TrialView, spread
from bitfront.evaluators.cost import PJ_PER_MJ, Counts, Energy
from bitfront.evaluators.hardware.profile import profile_names
from bitfront.search.record import StudyRecord, TrialRecord, TrialState


def network_panel(view: TrialView, on_front: bool) -> Child:
    """The trial in short, beside the front."""
    record = view.record
    names = dict.fromkeys(
        [o.name for o in view.study.objectives] + [m.objective for m in record.measurements]
    )
    pairs = [
        (title_of(name, ""), texts.quantity(m.value, m.unit))
        for name in names
        if (m := record.measurement(name)) is not None
    ]
    body = sketch(view.network.rows) if view.network else html.P(view.problem, className="quiet")
    return [
        html.Header(
            [
                html.H2(f"Trial {record.number}"),
                trial_badge(record, on_front),
                dcc.Link("×", href=study_path(view.study.name), className="close", title="Close"),
            ],
            className="title",
        ),
        facts(pairs),
        body,
        html.A("Blocks, layers, training and decisions ↓", href="#detail", className="more"),
    ]


def missing_panel(study: StudyRecord, sentence: str) -> Child:
    """What stands beside the front for a number that no trial has."""
    return [
        html.H2("No such trial"),
        empty(sentence),
        dcc.Link("Back to the study", href=study_path(study.name)),
    ]


def detail(view: TrialView) -> Child:
    """Everything about a trial."""
    record = view.record
    cards: list[Child] = []
    if record.error:
        cards.append(card("What went wrong", html.P(record.error), className="problem"))
    if view.network is None:
        if view.problem != record.error:
            cards.append(card("Architecture", html.P(view.problem)))
    else:
        cards += [_architecture(view.network), _layers(view)]
    halves = [_measurements(record), *_curve(record), *_retrainings(view), *_exports(view)]
    if view.network is not None:
        halves.append(_counts(view.network.counts))
    halves.append(card("Decisions", mapping(_shown(record.decisions))))
    if view.candidate is not None:
        halves.append(card("Recipe", mapping(_shown(view.candidate.recipe.json()))))
    halves.append(card("Record", mapping(_record(record))))
    return html.Article([*cards, html.Div(halves, className="halves")], className="detail")


def _architecture(network: NetworkView) -> Child:
    architecture = network.architecture
    note = (
        f"{' × '.join(map(str, architecture.input))} in, {architecture.classes} classes out; "
        f"digest {architecture.digest[:12]}."
    )
    return card("Architecture", drawing(network.rows), note=note)


def _layers(view: TrialView) -> Child:
    choice = dcc.Dropdown(
        id="profile",
        options=list(profile_names()),
        value=view.profile,
        clearable=False,
        searchable=False,
        className="choice",
    )
    return card(
        "Energy and operations by layer",
        graph("layers", 420),
        html.P(id="layers-total", className="note"),
        aside=html.Label(["On", choice]),
    )


def energy_sentence(energy: Energy) -> str:
    """The terms of a network's energy, and what no layer holds."""
    found = energy.json()
    layers = sum(g.compute.value + g.sram.value + g.dram.value for g in energy.groups())
    rest = found["total_mj"] - found["static_mj"] - layers / PJ_PER_MJ
    terms = ", ".join(
        f"{name} {texts.energy(found[key])}"
        for name, key in (
            ("compute", "compute_mj"),
            ("SRAM", "sram_mj"),
            ("DRAM", "dram_mj"),
            ("static", "static_mj"),
        )
        if found[key]
    )
    return (
        f"Estimated total {texts.quantity(found['total_mj'], 'mJ')} "
        f"({texts.span(found['low_mj'], found['high_mj'], 'mJ')}): {terms}. "
        f"Of it, {texts.quantity(rest, 'mJ')} move the image in and the logits out, in no layer."
    )


def _measurements(record: TrialRecord) -> Child:
    rows = [
        (
            title_of(m.objective, ""),
            texts.quantity(m.value, m.unit),
            texts.band(m),
            m.method + (f" ×{m.repeats}" if m.repeats > 1 else ""),
            " ".join(part for part in (m.hardware, m.versions) if part) or texts.NONE,
        )
        for m in record.measurements
    ]
    if not rows:
        return card("Measurements", html.P("Nothing was measured.", className="quiet"))
    return card("Measurements", table(("", "Value", "Low to high", "Method", "On"), rows))


def _curve(record: TrialRecord) -> list[Child]:
    if not record.curve:
        return []
    spent = sum(p.seconds for p in record.curve)
    note = f"{texts.counted(len(record.curve), 'epoch')} in {texts.duration(spent)}."
    return [card("Learning curve", graph("curve", 320, curve_figure(record.curve)), note=note)]


def _retrainings(view: TrialView) -> list[Child]:
    found = view.retrainings
    if not found:
        return []
    rows: list[Sequence[Child]] = [
        (
            str(r.seed),
            str(r.epochs),
            texts.percent(r.validation_accuracy),
            texts.percent(r.test_accuracy),
        )
        for r in found
    ]
    rows.append(
        (
            html.Strong("mean"),
            "",
            _spread([r.validation_accuracy for r in found]),
            _spread([r.test_accuracy for r in found]),
        )
    )
    heads = ("Seed", "Epochs", "Validation", "Test")
    note = "± is the standard deviation of the sample. No decision of the search reads the test."
    return [card("Retrained with other seeds", table(heads, rows), note=note)]


def _spread(accuracies: Sequence[float]) -> Child:
    found = spread(accuracies)
    deviation = "" if found.deviation is None else f" ± {100 * found.deviation:.1f}"
    return html.Strong(f"{100 * found.mean:.1f}{deviation} %")


def _exports(view: TrialView) -> list[Child]:
    rows = [
        (
            e.format,
            html.Code(e.path),
            ("verified" if e.verified else "differs") + f": {e.flips} of {e.images} images flipped",
            texts.moment(e.created_at),
        )
        for e in view.exports
    ]
    heads = ("Format", "File", "Read back", "When")
    return [card("Exports", table(heads, rows))] if rows else []


def _counts(counts: Sequence[Counts]) -> Child:
    rows = [
        (
            c.convention,
            f"{c.params:,}",
            texts.percent(c.params_binary / c.params if c.params else 0.0, 0),
            texts.prefixed(c.flops),
            texts.prefixed(c.bops),
            texts.NONE if c.ops is None else texts.prefixed(c.ops),
            f"{texts.number(c.size_mib)} MiB",
        )
        for c in counts
    ]
    heads = ("Convention", "Parameters", "low-bit", "FLOPs", "BOPs", "OPs", "Size")
    return card("Counts", table(heads, rows))


def _shown(values: Mapping[str, object]) -> dict[str, object]:
    return {key: f"{v:.6g}" if isinstance(v, float) else v for key, v in values.items()}


def _record(record: TrialRecord) -> dict[str, object]:
    took = None if record.finished_at is None else record.finished_at - record.started_at
    broken = {k: v for k, v in record.constraints.items() if v > 0}
    found: dict[str, object] = {
        "epochs": f"{record.fidelity} of {record.full_fidelity}",
        "seed": record.seed,
        "attempt": record.attempt,
        "started": texts.moment(record.started_at),
        "took": None if took is None else texts.duration(took),
        "energy spent": texts.electricity(record.energy_kwh) if record.energy_kwh else None,
        "checkpoint": record.checkpoint,
        "candidate": (record.candidate_digest or "")[:12] or None,
    }
    if record.constraints:
        said = [f"{name} by {texts.number(v)}" for name, v in broken.items()]
        found["constraints broken"] = ", ".join(said) or "none"
    if record.state is TrialState.DUPLICATE:
        found["duplicate of"] = f"#{record.duplicate_of}"
    return found
