"""What a measurement says of the machine and the packages it was made with."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def cpu_name() -> str:
    """The CPU's name as the system gives it, with family and model: virtual ones hide the rest."""
    facts: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if not colon:
                    break
                facts[key.strip()] = value.strip()
    except OSError:
        pass
    name = facts.get("model name") or platform.processor() or platform.machine()
    family, model = facts.get("cpu family"), facts.get("model")
    return f"{name} (family {family}, model {model})" if family and model else name


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of Python and of packages; "absent" where one is not installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
