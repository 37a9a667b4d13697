"""Quantizers with parameters: what the nodes that carry them declare, hold, train and export.

A quantizer is a value; its parameters are tensors of the node that it stands in. A quantize node
has them under their own names (``quantize.step``), a layer beside its weights
(``conv.weight_step``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bitfront.spaces.quantizers.quantizer import Quantizer

if TYPE_CHECKING:
    from torch import Tensor

MIN_STEP: Final = 1e-8
"""What a learned limit or step counts as where training has moved it to zero or below."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned(Quantizer):
    """A quantizer with parameters.

    ``params`` declares them. What has the role of a scale or bias is learned by gradient; a buffer
    is state, which ``observe`` changes in training. All methods take them in that order.
    """

    def initial(self, name: str, shape: tuple[int, ...], w: Tensor | None) -> Tensor:
        """The value that a parameter starts with.

        Args:
            name: Of the parameter.
            shape: Of the parameter.
            w: The initial weights; None for feature maps, and for weights that another node has.
        """
        raise NotImplementedError

    def observe(self, x: Tensor, *params: Tensor) -> None:
        """Change the state by what is about to be quantised, in place; called in training only."""

    def q(self, x: Tensor, *params: Tensor) -> Tensor:
        """The quantised values of ``x``, of the same shape."""
        raise NotImplementedError

    def gradients(
        self, grad: Tensor, x: Tensor, t_clip: float, *params: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of ``x`` and of each parameter; None for state.

        Args:
            grad: Gradient of what was emitted.
            x: What was quantised.
            t_clip: Where the recipe cuts the gradient of a sign.
            *params: As they were then.
        """
        raise NotImplementedError

    def margin(self, x: Tensor, *params: Tensor) -> Tensor:
        """How far each value is from the nearest threshold; see ``Quantizer.margin``."""
        raise NotImplementedError

    def table(self, w: Tensor, *params: Tensor) -> Tensor:
        """The levels of quantised weights, ascending, ``(..., L)``.

        Args:
            w: The weights.
            *params: Of the quantizer.

        Returns:
            ``(L,)``, or with the dimensions of ``w`` before the last, which broadcast against
            them: ``(N, 1, 1, 1, L)`` are levels per filter of a convolution.
        """
        raise NotImplementedError
