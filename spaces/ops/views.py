"""Views: ops that only rename storage."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.graph import Domain, Facts, Op, TensorType
from bitfront.spaces.ops.op import ops


@ops.register("concat")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concat(Op):
    """Join along the channels of each slice."""

    kind: ClassVar[str] = "concat"
    view: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> Facts:
        """Channels add up; a mix of domains is stored as the widest."""
        first = inputs[0]
        for x in inputs[1:]:
            if x.shape[1:] != first.shape[1:] or x.slices != first.slices:
                raise InfeasibleArchitecture(
                    f"concat needs equal sizes and slices, but got {first.shape} x "
                    f"{first.slices} and {x.shape} x {x.slices}."
                )
        domains = {x.domain for x in inputs}
        channels = sum(x.shape[0] for x in inputs)
        return Facts(
            out=TensorType(
                shape=(channels, *first.shape[1:]),
                domain=first.domain if len(domains) == 1 else Domain.FLOAT,
                slices=first.slices,
                stored_bits=max(x.stored_bits for x in inputs),
            )
        )


@ops.register("slice")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice(Op):
    """Channels ``start <= c < end`` of each slice."""

    kind: ClassVar[str] = "slice"
    view: ClassVar[bool] = True
    start: int
    end: int

    def infer(self, *inputs: TensorType) -> Facts:
        """Fewer channels, all else the same."""
        (x,) = inputs
        if not 0 <= self.start < self.end <= x.shape[0]:
            raise InfeasibleArchitecture(
                f"A slice must lie in 0..{x.shape[0]}, but is {self.start}..{self.end}."
            )
        return Facts(
            out=TensorType(
                shape=(self.end - self.start, *x.shape[1:]),
                domain=x.domain,
                slices=x.slices,
                stored_bits=x.stored_bits,
            )
        )


@ops.register("interleave")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interleave(Op):
    """Channel shuffle: ``groups`` runs of channels are dealt out in turn."""

    kind: ClassVar[str] = "interleave"
    view: ClassVar[bool] = True
    transparent: ClassVar[bool] = True
    groups: int

    def infer(self, *inputs: TensorType) -> Facts:
        """The same type; groups must divide the channels."""
        (x,) = inputs
        if x.shape[0] % self.groups:
            raise InfeasibleArchitecture(
                f"Groups must divide the channels, but {self.groups} got {x.shape[0]}."
            )
        return Facts(out=x)


@ops.register("flatten")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flatten(Op):
    """``(C, H, W)`` to ``(C*H*W,)``."""

    kind: ClassVar[str] = "flatten"
    view: ClassVar[bool] = True
    transparent: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> Facts:
        """The same values in one row."""
        (x,) = inputs
        return Facts(
            out=TensorType(
                shape=(prod(x.shape),),
                domain=x.domain,
                slices=x.slices,
                stored_bits=x.stored_bits,
            )
        )
