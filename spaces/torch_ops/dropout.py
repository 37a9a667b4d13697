"""The torch form of dropout."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import ops
from bitfront.spaces.torch_ops.form import Form, forms


@forms.register("dropout")
class _Dropout(Form):
    """Draws from torch's global stream, which a trainer sets aside for its run."""

    op: ops.Dropout

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.op.probability, self.training)
