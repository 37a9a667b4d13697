"""Published networks beside the trials of a study, where both were trained on the same data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from bitfront.dashboard import texts
from bitfront.dashboard.axes import Axis
from bitfront.dashboard.data import Snapshot
from bitfront.evaluators.hardware.profile import load_profile, profile_names
from bitfront.evaluators.objective import cost_measurements
from bitfront.spaces.zoo import zoo

# a folder of images is ImageNet by its name only
_IMAGENET: Final = re.compile(r"(imagenet([-_]?(1k|2012))?|ilsvrc([-_]?2012)?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPoint:
    """A published network over two axes.

    Attributes:
        name: In the zoo.
        x, y: Values.
        label: What hovering shows, markup escaped.
    """

    name: str
    x: float
    y: float
    label: str


def is_comparable(dataset: str, published: str = "imagenet") -> bool:
    """Whether figures that were measured on one data set hold for another.

    Args:
        dataset: Of a study.
        published: Of an entry of the zoo.
    """
    last = re.split(r"[:/\\]", dataset.rstrip("/\\"))[-1]
    return _IMAGENET.fullmatch(last) is not None if published == "imagenet" else last == published


def published_points(snapshot: Snapshot, x: Axis, y: Axis) -> tuple[PublishedPoint, ...]:
    """Published networks that are comparable with a study, and have a value on both axes.

    Accuracies are what the authors report; costs are computed here, by the rules that the trials'
    costs follow.
    """
    found = []
    for name, entry in zoo.items():
        if not is_comparable(snapshot.study.dataset, entry.dataset):
            continue
        at = [_value(name, axis, snapshot) for axis in (x, y)]
        if at[0] is not None and at[1] is not None:
            source = texts.plot_text(entry.published["source"]).replace("; ", "<br>")
            label = f"<b>{texts.plot_text(name)}</b><br>{_accuracy(name)}<br>{source}"
            found.append(PublishedPoint(name=name, x=at[0], y=at[1], label=label))
    return tuple(found)


def comparison(snapshot: Snapshot) -> str:
    """One sentence on which published networks are drawn, and why."""
    studied = snapshot.study.dataset
    measured_on = sorted({entry.dataset for entry in zoo.values()})
    if any(is_comparable(studied, dataset) for dataset in measured_on):
        return (
            "Published networks: accuracy as their authors report it, costs computed here by the "
            "same rules as the trials'."
        )
    return (
        "No published network is drawn: the figures of the zoo are for "
        f"{' and '.join(measured_on)}, so none is comparable with a study on {studied}."
    )


def _accuracy(name: str) -> str:
    top1 = zoo[name].published.get("top1")
    return "no accuracy published" if top1 is None else f"{texts.percent(top1 / 100)} published"


def _value(name: str, axis: Axis, snapshot: Snapshot) -> float | None:
    if axis.objective == "accuracy":
        top1 = zoo[name].published.get("top1")
        return None if top1 is None else top1 / 100
    hardware = axis.hardware or str(snapshot.study.config.get("hardware") or "")
    return _costs(name, hardware if hardware in profile_names() else "").get(axis.objective)


@cache
def _costs(name: str, hardware: str) -> dict[str, float]:
    profile = load_profile(hardware) if hardware else None
    measured = cost_measurements(zoo[name].architecture(), profile)
    return {objective: m.value for objective, m in measured.items()}
