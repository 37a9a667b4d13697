"""Packed inference: a trained network on the bitwise kernels of this CPU.

>>> import torch
>>> from bitfront.evaluators.packed import PackedNetwork
>>> from bitfront.spaces import build, zoo
>>> network = build(zoo.get("meliusnet22").architecture()).eval()
>>> packed = PackedNetwork(network)
>>> packed(torch.zeros(1, 3, 224, 224)).shape
torch.Size([1, 1000])
"""

from bitfront.evaluators.packed.network import PackedNetwork, StepTime

__all__ = ["PackedNetwork", "StepTime"]
