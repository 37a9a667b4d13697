"""Peak memory for feature maps."""

from __future__ import annotations

from bitfront.spaces.plan import Plan


def peak_memory_bytes(plan: Plan) -> int:
    """Largest memory that feature maps and scratch take at any step, rounded up to bytes.

    Weights are not in it: they are read once each and can stay in flash.

    Args:
        plan: Of the network.
    """
    return -(-plan.peak_bits // 8)
