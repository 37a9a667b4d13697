"""The peers: torch and ONNX Runtime at 32-bit float, bfloat16 and 8-bit integers.

Every peer is given its weights before the clock starts, and the layout of its activations that it
likes best is one of the rows. What is not installed, or refused by a build, is named absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.kernels.bench.cases import ConvCase, GemmCase


class Contender(NamedTuple):
    """One way to compute a case.

    Attributes:
        name: Library, layout.
        precision: "fp32", "bf16", "int8" or "1-bit".
        call: Computes it once; None where it is absent.
        absent: Why.
    """

    name: str
    precision: str
    call: Callable[[], object] | None
    absent: str = ""


def peers(case: ConvCase | GemmCase, threads: int) -> Iterator[Contender]:
    """All peers of a case.

    Args:
        case: What to compute.
        threads: Threads of ONNX Runtime; torch's are set by the caller.
    """
    builders: Sequence[tuple[str, str, Callable[[Any, int], Callable[[], object]]]] = (
        _CONV if isinstance(case, ConvCase) else _GEMM
    )
    for name, precision, build in builders:
        try:
            call = build(case, threads)
            # a build may accept an operator and refuse to run it
            call()
        except (ImportError, RuntimeError, NotImplementedError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else "refused"
            yield Contender(name, precision, None, reason)
            continue
        yield Contender(name, precision, call)


def _map(case: ConvCase, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch, case.channels, case.size, case.size)
    x = torch.randn(shape, generator=generator).to(dtype)
    weight = torch.randn(case.channels, case.channels, 3, 3, generator=generator).to(dtype)
    return x, weight


def _torch_conv(dtype: torch.dtype, nhwc: bool) -> Callable[[ConvCase, int], Callable[[], object]]:
    def build(case: ConvCase, threads: int) -> Callable[[], object]:
        x, weight = _map(case, dtype)
        if nhwc:
            x = x.to(memory_format=torch.channels_last)
            weight = weight.to(memory_format=torch.channels_last)
        return lambda: F.conv2d(x, weight, padding=1)

    return build


def _torch_mm(dtype: torch.dtype) -> Callable[[GemmCase, int], Callable[[], object]]:
    def build(case: GemmCase, threads: int) -> Callable[[], object]:
        a = torch.randn(case.rows, case.depth).to(dtype)
        b = torch.randn(case.depth, case.outputs).to(dtype)
        return lambda: torch.mm(a, b)

    return build


def _torch_int_mm(case: GemmCase, threads: int) -> Callable[[], object]:
    a = torch.randint(-127, 128, (case.rows, case.depth), dtype=torch.int8)
    b = torch.randint(-127, 128, (case.depth, case.outputs), dtype=torch.int8)
    return lambda: torch._int_mm(a, b)


def _onnx_session(
    node: Any, source: Any, values: Sequence[Any], output: int, rank: int, threads: int
) -> Any:
    import onnx
    import onnxruntime
    from onnx import helper

    graph = helper.make_graph(
        [node],
        "case",
        [source],
        [helper.make_tensor_value_info("y", output, [None] * rank)],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _onnx_conv(case: ConvCase, threads: int) -> Callable[[], object]:
    from onnx import TensorProto, helper, numpy_helper

    x, weight = _map(case)
    session = _onnx_session(
        helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape)),
        [numpy_helper.from_array(weight.numpy(), "w")],
        TensorProto.FLOAT,
        4,
        threads,
    )
    feed = {"x": x.numpy()}
    return lambda: session.run(None, feed)


def _onnx_int8_conv(case: ConvCase, threads: int) -> Callable[[], object]:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    shape = (case.batch, case.channels, case.size, case.size)
    x = random.integers(0, 256, shape, dtype=np.uint8)
    weight = random.integers(-127, 128, (case.channels, case.channels, 3, 3), dtype=np.int8)
    values = {
        "w": weight,
        "xs": np.float32(0.02),
        "xz": np.uint8(128),
        "ws": np.float32(0.02),
        "wz": np.int8(0),
        "ys": np.float32(0.5),
        "yz": np.uint8(128),
    }
    session = _onnx_session(
        helper.make_node(
            "QLinearConv",
            ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"],
            ["y"],
            pads=[1] * 4,
            kernel_shape=[3, 3],
        ),
        helper.make_tensor_value_info("x", TensorProto.UINT8, list(shape)),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
        TensorProto.UINT8,
        4,
        threads,
    )
    return lambda: session.run(None, {"x": x})


def _onnx_gemm(case: GemmCase, threads: int) -> Callable[[], object]:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    a = random.standard_normal((case.rows, case.depth), dtype=np.float32)
    b = random.standard_normal((case.depth, case.outputs), dtype=np.float32)
    session = _onnx_session(
        helper.make_node("MatMul", ["a", "b"], ["y"]),
        helper.make_tensor_value_info("a", TensorProto.FLOAT, list(a.shape)),
        [numpy_helper.from_array(b, "b")],
        TensorProto.FLOAT,
        2,
        threads,
    )
    return lambda: session.run(None, {"a": a})


def _onnx_int8_gemm(case: GemmCase, threads: int) -> Callable[[], object]:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    a = random.integers(0, 256, (case.rows, case.depth), dtype=np.uint8)
    b = random.integers(-127, 128, (case.depth, case.outputs), dtype=np.int8)
    session = _onnx_session(
        helper.make_node("MatMulInteger", ["a", "b", "az"], ["y"]),
        helper.make_tensor_value_info("a", TensorProto.UINT8, list(a.shape)),
        [numpy_helper.from_array(b, "b"), numpy_helper.from_array(np.asarray(np.uint8(128)), "az")],
        TensorProto.INT32,
        2,
        threads,
    )
    return lambda: session.run(None, {"a": a})


_CONV = (
    ("torch NCHW", "fp32", _torch_conv(torch.float32, nhwc=False)),
    ("torch NHWC", "fp32", _torch_conv(torch.float32, nhwc=True)),
    ("onnxruntime", "fp32", _onnx_conv),
    ("torch NCHW", "bf16", _torch_conv(torch.bfloat16, nhwc=False)),
    ("torch NHWC", "bf16", _torch_conv(torch.bfloat16, nhwc=True)),
    ("onnxruntime QLinearConv", "int8", _onnx_int8_conv),
)
_GEMM = (
    ("torch.mm", "fp32", _torch_mm(torch.float32)),
    ("onnxruntime", "fp32", _onnx_gemm),
    ("torch.mm", "bf16", _torch_mm(torch.bfloat16)),
    ("torch._int_mm", "int8", _torch_int_mm),
    ("onnxruntime MatMulInteger", "int8", _onnx_int8_gemm),
)
