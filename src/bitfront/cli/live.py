"""The progress of a search on screen: a bar, what is being trained, and the running front.

On a terminal the picture is redrawn in place; elsewhere a line is written whenever a trial ends.
All of it goes to stderr.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bitfront.cli.output import err, percent
from bitfront.cli.studies import shown
from bitfront.search.progress import Progress

ROWS = 12
REDRAW_S = 0.25


class LiveView:
    """Shows the events of a search as they come; use it in a ``with`` statement."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._drawn_at = 0.0
        self._said: tuple[object, ...] = ()

    def __enter__(self) -> Self:
        if err.is_terminal:
            self._live = Live(console=err, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Show one event."""
        if self._live is None:
            self._say(progress)
            return
        now = time.monotonic()
        if now - self._drawn_at >= REDRAW_S or progress.done >= progress.target:
            self._drawn_at = now
            self._live.update(_picture(progress), refresh=True)

    def _say(self, progress: Progress) -> None:
        key = (progress.phase, progress.done)
        if key == self._said:
            return
        self._said = key
        text = f"{progress.phase} {progress.done}/{progress.target}"
        if progress.front.members:
            text += (
                f", front of {len(progress.front.members)}, "
                f"hypervolume {progress.front.hypervolume:.4f}"
            )
        if progress.message:
            text += f": {progress.message}"
        err.print(f"{text}  [{progress.seconds:.0f} s]", markup=False)


def _picture(progress: Progress) -> Group:
    head = Table.grid(padding=(0, 1))
    head.add_row(
        f"[bold]{escape(progress.study)}[/] {progress.phase}",
        ProgressBar(total=max(1, progress.target), completed=progress.done, width=30),
        f"{progress.done}/{progress.target}",
        _clock(progress),
    )
    lines: list[Table | Text] = [head]
    if progress.trainings:
        parts = []
        for training in progress.trainings[:8]:
            seed = "" if training.seed is None else f" seed {training.seed}"
            parts.append(
                f"#{training.trial}{seed} {training.epoch}/{training.epochs} "
                f"{percent(training.accuracy)}"
            )
        lines.append(Text("training  " + "   ".join(parts), style="dim"))
    other = [
        f"{count} {state.value.lower()}"
        for state, count in progress.counts.items()
        if count and state.value in ("FAILED", "INFEASIBLE", "DUPLICATE", "PRUNED")
    ]
    if other:
        lines.append(Text("also      " + ", ".join(other), style="dim"))
    if progress.message:
        lines.append(Text(progress.message))
    front = progress.front
    if front.members:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("front")
        for objective in front.objectives:
            table.add_column(objective.name, justify="right")
        for member in front.members[:ROWS]:
            table.add_row(
                f"#{member.number}", *[shown(member.measurement(o.name)) for o in front.objectives]
            )
        if len(front.members) > ROWS:
            table.add_row(f"... {len(front.members) - ROWS} more")
        lines.append(table)
        lines.append(Text(f"hypervolume {front.hypervolume:.4f}", style="dim"))
    return Group(*lines)


def _clock(progress: Progress) -> str:
    text = _minutes(progress.seconds)
    if progress.eta_s is not None:
        text += f", about {_minutes(progress.eta_s)} to go"
    return text


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
