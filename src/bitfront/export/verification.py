"""What checking a written file gives: does it compute what the network computes?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from bitfront.spaces.value import Value, encode

EQUAL_SHARE: Final = 0.999
"""Fraction of the images that must be classified as by the network."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flip(Value):
    """Values that two ways of rounding put on different sides of a quantizer's threshold.

    Attributes:
        image: Number of the image in the test split.
        node: The quantizer.
        values: How many of its values differ.
        distance: The largest distance of such a value from its threshold, in the network; a share
            of the value where that exceeds 1.
    """

    image: int
    node: str
    values: int
    distance: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verification(Value):
    """The comparison of a file, loaded again, with the network that it was written from.

    A file passes if

    * every binary layer gives exactly the integers that packed bits give for the same input,
    * it classifies at least 99.9 % of the test images as the network does, and
    * every image whose logits differ by more than float rounding is traced to values that lie so
      close to a quantizer's threshold that rounding decides.

    Attributes:
        format: Of the file.
        path: Of the file.
        data: Data set whose test split was used.
        images: Number of its images.
        layers: Number of binary layers.
        layer_images: Images on which each layer was compared.
        inexact_layers: Names of the layers that are not exact.
        accuracy: Fraction of the images that the file classifies correctly.
        equal_predictions: Images that it classifies as the network does.
        deviating: Images whose logits differ by more than rounding.
        flips: What explains those.
        unexplained: Why the first image that nothing explains differs; "" if there is none.
        max_difference: Largest difference of two logits; None if a logit is not finite.
        passed: Whether all of the above holds.
    """

    format: str
    path: str
    data: str
    images: int
    layers: int
    layer_images: int
    inexact_layers: tuple[str, ...]
    accuracy: float
    equal_predictions: int
    deviating: int
    flips: tuple[Flip, ...]
    unexplained: str
    max_difference: float | None
    passed: bool = field(init=False, repr=False, default=False)

    def check(self) -> None:
        """Decide."""
        passed = (
            self.layers_exact
            and self.equal_predictions >= math.ceil(EQUAL_SHARE * self.images)
            and not self.unexplained
            and self.max_difference is not None
        )
        object.__setattr__(self, "passed", passed)

    @property
    def layers_exact(self) -> bool:
        """Whether every binary layer is exact."""
        return not self.inexact_layers

    @property
    def text(self) -> str:
        """The result in a few lines."""
        lines = [
            f"{self.format}: {'passed' if self.passed else 'FAILED'}, {self.path}",
            f"  binary layers  {self.layers - len(self.inexact_layers)} of {self.layers} exact "
            f"on {_count(self.layer_images, 'image')}",
            f"  predictions    {self.equal_predictions} of {self.images} equal on the test split "
            f"of {self.data}, accuracy {self.accuracy:.2%}",
        ]
        if self.max_difference is None:
            lines.append("  logits         not finite")
        else:
            lines.append(
                f"  logits         differ by at most {self.max_difference:.2g}; "
                f"{_count(self.deviating, 'image')} beyond rounding"
            )
        if self.flips:
            values = sum(flip.values for flip in self.flips)
            distance = max(flip.distance for flip in self.flips)
            lines.append(
                f"  flips          {_count(values, 'value')} within {distance:.2g} of a threshold"
            )
        if self.inexact_layers:
            lines.append(f"  inexact        {', '.join(self.inexact_layers[:5])}")
        if self.unexplained:
            lines.append(f"  unexplained    {self.unexplained}")
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """Plain data, the verdict included."""
        return {**encode(self), "passed": self.passed}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
