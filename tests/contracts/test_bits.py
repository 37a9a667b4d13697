"""spaces and kernels each state what a bit means; both must say the same."""

import torch

from bitfront import kernels
from bitfront.spaces import graph
from bitfront.spaces.quantizers import quantizers


def test_sign_of_zero_and_bit_order_are_the_same():
    assert graph.SIGN_OF_ZERO == kernels.SIGN_OF_ZERO
    assert graph.BIT_ORDER == kernels.BIT_ORDER


def test_a_packed_bit_is_one_where_the_quantizer_gives_plus_one():
    x = torch.tensor([[-1.5, 0.0, -0.0, 2.0, -1e-30, 1e-30, -3.0] * 11])
    signs = quantizers["sign"]().q(x)
    packed = kernels.pack(x)
    assert torch.equal(kernels.unpack(packed), signs)
    word = int(packed.words.flatten()[0])
    for i in range(31):
        assert (word >> i) & 1 == int(signs[0, i] > 0)
