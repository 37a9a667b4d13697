"""A network in ONNX Runtime, to be timed: what packed inference is compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime

from bitfront.export.onnx import build_model
from bitfront.export.onnx_graph import LOGITS, PIXELS
from bitfront.export.winner import TrainedOn
from bitfront.spaces.network import Network


def onnx_call(network: Network, *, batch: int, threads: int) -> Callable[[], object]:
    """A call that runs a network once in ONNX Runtime, at its default optimisations.

    Args:
        network: In evaluation mode, on the CPU.
        batch: Images of one call; they are random.
        threads: Of ONNX Runtime.
    """
    shape = network.graph.input.torch_shape
    # pixels are normalised by the model itself, as in an exported file
    data = TrainedOn(name="none", digest="", mean=(0.5,) * shape[0], std=(0.25,) * shape[0])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        build_model(network, data, "timed").SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (batch, *shape), dtype=np.uint8)
    return lambda: session.run([LOGITS], {PIXELS: pixels})
