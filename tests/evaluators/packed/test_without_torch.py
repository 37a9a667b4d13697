"""Steps, places and what may be overwritten are known without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from bitfront.evaluators.packed.{module} import {names}
print("torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("grouping", "AFFINE, grouped, kept_as_bits, readers_of"),
        ("places", "places"),
        ("overwriting", "ALIASING, FRESH, Overwriting"),
    ],
)
def test_no_torch(module, names):
    script = SCRIPT.format(module=module, names=names)
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
