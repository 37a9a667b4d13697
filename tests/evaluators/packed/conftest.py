"""Small networks of no regularity, and what is asked of every step of their packed inference.

With ``TRITON_INTERPRET`` set, the tests that `check` a small network ask it of the GPU's kernels,
and the others are left out: 1 runs them in Triton's interpreter, 0 on a CUDA device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.fold import device_of
from bitfront.evaluators.packed.words import floats
from bitfront.export.flips import deviates, trace_flips
from bitfront.spaces import build, zoo
from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import BiReal, Classifier, StemThumbnail
from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.network import Network

INTERPRETED = os.environ.get("TRITON_INTERPRET")

collect_ignore = ["test_gpu_kernels.py"] if INTERPRETED is None else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On the GPU's kernels, what says something of them, without whole networks."""
    if INTERPRETED is None:
        return
    items[:] = [
        item
        for item in items
        if item.path.name == "test_gpu_kernels.py"
        or (
            {"check", "pack"} & set(item.fixturenames)
            and not {"small", "variant"} & set(item.fixturenames)
        )
    ]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # a GPU's 32-bit convolutions round to 10 bits otherwise
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_num_threads(before)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _trained_like(network: Network) -> Network:
    """Statistics and affine values of no regularity: negative and zero factors among them."""
    g = _generator(1)
    for module in network.modules():
        if hasattr(module, "running_var"):
            module.running_var.uniform_(0.5, 2.0, generator=g)
            module.running_mean.normal_(0.0, 0.5, generator=g)
            if module.weight is not None:
                module.weight.data.normal_(generator=g)
                module.weight.data[::7] = 0.0
            if module.bias is not None:
                module.bias.data.normal_(0.0, 0.3, generator=g)
    for name, values in network.named_parameters():
        if name.endswith(("threshold", "slope", "shift.bias")):
            values.data.normal_(0.0, 0.3, generator=g)
    return network.eval()


def _small(name: str, seed: int = 0) -> Network:
    """A network of the zoo on the smallest images of 32 x 32 and up that it can read."""
    architecture = zoo.get(name).architecture()
    for size in (32, 64, 224):
        try:
            graph = replace(architecture, input=(architecture.input[0], size, size)).lower()
        except InfeasibleArchitecture:
            continue
        return _trained_like(Network(graph, seed=seed))
    raise AssertionError(name)


def _images(network: Network, batch: int, seed: int = 3) -> Tensor:
    x = torch.randn(batch, *network.graph.input.torch_shape, generator=_generator(seed))
    return x.to(device_of(network))


def _run_and_check(packed: PackedNetwork, x: Tensor) -> dict[int, Tensor]:
    """Run step by step beside the torch forms, which read copies that nobody overwrites.

    Returns:
        The values by node, those inside of steps as the forms give them.
    """
    network = packed.network
    nodes = network.graph.nodes
    dtype = packed._kernels.dtype
    current = {0: x.to(dtype, memory_format=torch.channels_last, copy=True)}
    kept: dict[int, Tensor] = {0: current[0].float()}
    for group, run, _ in packed._steps:
        mine = run(*[current[i] for i in group.reads])
        current[group.output] = mine
        assert mine.dtype in (dtype, torch.int32), nodes[group.main].name
        inside: dict[int, Tensor] = {}
        for i in group.nodes:
            node = nodes[i]
            form = network.get_submodule(node.name)
            shared = {}
            if node.latent != i:
                shared["latent"] = network.get_submodule(nodes[node.latent].name).weight
            inside[i] = form(*[inside.get(j, kept.get(j)) for j in node.inputs], **shared)
        if mine.dtype == torch.int32:
            mine = floats(mine, nodes[group.output].type.torch_shape[0])
        theirs = inside[group.output]
        assert mine.shape == theirs.shape
        where = nodes[group.main].name
        if group.kind == "pack" or (group.kind == "binary" and group.output == group.main):
            assert torch.equal(mine, theirs.to(mine.dtype)), where
        # half of a last bit, a few times over
        error = 1e-5 if dtype == torch.float32 else 2**-6
        bound = error * theirs.abs().max().clamp_min(1.0)
        assert (mine - theirs).abs().max() <= bound, where
        kept |= inside
        kept[group.output] = mine.float().clone()
    return kept


def _packed(
    network: Network, *, maps: torch.dtype = torch.float32, **arguments: object
) -> PackedNetwork:
    """The network on its kernels: the CPU's, or the GPU's where these are asked for."""
    if INTERPRETED is not None:
        from bitfront.evaluators.packed.gpu_kernels import GpuKernels

        device = torch.device("cpu" if INTERPRETED == "1" else "cuda")
        network = network.to(device)
        arguments["kernels"] = GpuKernels(device, maps)
    return PackedNetwork(network, **arguments)


@torch.no_grad()
def _check(network: Network, batch: int = 1, **arguments: object) -> None:
    packed = _packed(network, batch=batch, **arguments)
    assert packed.is_packed
    x = _images(network, batch)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    theirs = _run_and_check(packed, x)
    logits = packed(x)
    assert torch.equal(logits, theirs[len(network.graph.nodes) - 1])
    # a second call finds nothing of the first
    assert torch.equal(packed(x), logits)
    if "maps" in arguments:
        return
    mine = network.trace(channels_last)
    for image in torch.nonzero(deviates(mine[-1], logits)).flatten().tolist():
        one = {i: values[image : image + 1] for i, values in enumerate(mine)}
        other = {i: values[image : image + 1] for i, values in theirs.items()}
        flips, wrong = trace_flips(network, one, other, image)
        assert not wrong
        assert flips, "logits differ without a flip"


def _one_block() -> Network:
    architecture = Architecture(
        input=(3, 10, 12),
        stem=StemThumbnail(channels=40),
        stages=(Stage(blocks=(BiReal(channels=40), BiReal(channels=72, stride=2))),),
        head=Classifier(classes=5),
    )
    return _trained_like(build(architecture))


@pytest.fixture
def one_block() -> Callable[[], Network]:
    """A function that builds a network of two blocks."""
    return _one_block


@pytest.fixture
def trained_like() -> Callable[[Network], Network]:
    """A function that gives a network statistics and affine values as training might."""
    return _trained_like


@pytest.fixture
def small() -> Callable[..., Network]:
    """A function that builds a network of the zoo on small images."""
    return _small


@pytest.fixture
def images() -> Callable[..., Tensor]:
    """A function that draws images of a network's size."""
    return _images


@pytest.fixture
def run_and_check() -> Callable[[PackedNetwork, Tensor], dict[int, Tensor]]:
    """A function that runs a packed network step by step beside the torch forms."""
    return _run_and_check


@pytest.fixture
def pack() -> Callable[..., PackedNetwork]:
    """A function that packs a network."""
    return _packed


@pytest.fixture
def check() -> Callable[..., None]:
    """A function that checks steps and logits of a network's packed inference."""
    return _check
