"""Packed networks on the GPU's kernels, in Triton's interpreter: tests of this folder again."""

from __future__ import annotations

from pathlib import Path

import pytest

MODULES = (
    "test_bases.py",
    "test_codes.py",
    "test_gpu_kernels.py",
    "test_linear.py",
    "test_networks.py",
    "test_places.py",
)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_layers_are_exact_in_the_interpreter(module, interpreted):
    interpreted(Path(__file__).with_name(module))
