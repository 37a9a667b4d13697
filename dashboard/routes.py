"""Paths of the pages: ``/``, ``/study/NAME`` and ``/study/NAME/trial/NUMBER``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

HOME: Final = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a path asks for.

    Attributes:
        page: "studies", "study" or "unknown".
        study: Name of the study.
        trial: Number of the trial, None where the path names none.
    """

    page: str
    study: str = ""
    trial: int | None = None


def study_path(name: str) -> str:
    """Path of a study; any name makes one segment."""
    quoted = quote(name, safe="")
    # a browser takes a segment of one or two dots for a way up, also a quoted one
    return f"/study/{quoted.replace('.', '%252E') if name in ('.', '..') else quoted}"


def trial_path(name: str, number: int) -> str:
    """Path of a trial."""
    return f"{study_path(name)}/trial/{number}"


def read_path(path: str | None) -> Route:
    """Read a path as the browser has it, quoted."""
    match (path or HOME).strip("/").split("/"):
        case [""]:
            return Route(page="studies")
        case ["study", name]:
            return Route(page="study", study=_name(name))
        case ["study", name, "trial", number] if re.fullmatch(r"[0-9]{1,18}", number):
            return Route(page="study", study=_name(name), trial=int(number))
    return Route(page="unknown")


def _name(segment: str) -> str:
    name = unquote(segment)
    return unquote(name) if name in ("%2E", "%2E%2E") else name
