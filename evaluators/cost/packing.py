"""Many sums as one: amounts side by side in one integer, 128 bits each.

A search adds up some dozens of figures over hundreds of op applications, a thousand times a second.
With the figures of each application packed into one integer, a network is one sum of integers. No
sum over what can be lowered needs more than 128 bits, so none carries into its neighbour.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import unpack
from typing import Final

FIELD: Final = 128


def packed(amounts: Iterable[int]) -> int:
    """One integer of amounts that are not negative, the first lowest."""
    return sum(amount << FIELD * place for place, amount in enumerate(amounts))


def unpacked(total: int, count: int) -> list[int]:
    """The amounts again, at least ``count`` of them, up to the last that is not zero."""
    fields = max(count, -(-total.bit_length() // FIELD))
    halves = unpack(f"<{2 * fields}Q", total.to_bytes(FIELD // 8 * fields, "little"))
    low, high = halves[::2], halves[1::2]
    if any(high):
        return [a + (b << 64) for a, b in zip(low, high, strict=True)]
    return list(low)
