"""The peers: torch and ONNX Runtime at 32-bit float, bfloat16 and 8-bit integers.

Every peer is given its weights before the clock starts, and memory for its result where it takes
any; the layout of its activations that it likes best is one of the rows. What is not installed, or
refused by a build, is named absent.
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
        out = torch.mm(a, b)
        return lambda: torch.mm(a, b, out=out)

    return build


def _torch_int_mm(case: GemmCase, threads: int) -> Callable[[], object]:
    a = torch.randint(-127, 128, (case.rows, case.depth), dtype=torch.int8)
    b = torch.randint(-127, 128, (case.depth, case.outputs), dtype=torch.int8)
    out = torch._int_mm(a, b)
    return lambda: torch._int_mm(a, b, out=out)


def _onnx_call(
    node: Any, x: Any, kind: int, values: dict[str, Any], result: tuple[Any, Any], threads: int
) -> Callable[[], object]:
    """A call of one node of input x, with its weights and the array of its result bound.

    Args:
        node: The operator, from its input to "y".
        x: Its input, an array.
        kind: ONNX's number of the input's type.
        values: Its other inputs, arrays by name.
        result: An array of the result's shape and dtype, and ONNX's number of that.
        threads: Threads of the operator.
    """
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    y, y_kind = result
    source = helper.make_tensor_value_info(node.input[0], kind, list(x.shape))

    graph = helper.make_graph(
        [node],
        "case",
        [source],
        [helper.make_tensor_value_info("y", y_kind, list(y.shape))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_cpu_input(node.input[0], x)
    binding.bind_output("y", "cpu", 0, y.dtype, list(y.shape), y.ctypes.data)

    def call() -> object:
        # the binding holds addresses, not the arrays
        session.run_with_iobinding(binding)
        return x, y

    return call


def _onnx_conv(case: ConvCase, threads: int) -> Callable[[], object]:
    import numpy as np
    from onnx import TensorProto, helper

    x, weight = _map(case)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, kernel_shape=[3, 3])
    y = np.empty(x.shape, np.float32)
    kind = TensorProto.FLOAT
    return _onnx_call(node, x.numpy(), kind, {"w": weight.numpy()}, (y, kind), threads)


def _onnx_int8_conv(case: ConvCase, threads: int) -> Callable[[], object]:
    import numpy as np
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    shape = (case.batch, case.channels, case.size, case.size)
    x = random.integers(0, 256, shape, dtype=np.uint8)
    weight = random.integers(-127, 128, (case.channels, case.channels, 3, 3), dtype=np.int8)
    values = {
        "xs": np.float32(0.02),
        "xz": np.uint8(128),
        "w": weight,
        "ws": np.float32(0.02),
        "wz": np.int8(0),
        "ys": np.float32(0.5),
        "yz": np.uint8(128),
    }
    node = helper.make_node("QLinearConv", ["x", *values], ["y"], pads=[1] * 4, kernel_shape=[3, 3])
    kind = TensorProto.UINT8
    return _onnx_call(node, x, kind, values, (np.empty(shape, np.uint8), kind), threads)


def _onnx_gemm(case: GemmCase, threads: int) -> Callable[[], object]:
    import numpy as np
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    a = random.standard_normal((case.rows, case.depth), dtype=np.float32)
    b = random.standard_normal((case.depth, case.outputs), dtype=np.float32)
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    y = np.empty((case.rows, case.outputs), np.float32)
    return _onnx_call(node, a, TensorProto.FLOAT, {"b": b}, (y, TensorProto.FLOAT), threads)


def _onnx_int8_gemm(case: GemmCase, threads: int) -> Callable[[], object]:
    import numpy as np
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    a = random.integers(0, 256, (case.rows, case.depth), dtype=np.uint8)
    b = random.integers(-127, 128, (case.depth, case.outputs), dtype=np.int8)
    node = helper.make_node("MatMulInteger", ["a", "b", "az"], ["y"])
    y = np.empty((case.rows, case.outputs), np.int32)
    values = {"b": b, "az": np.uint8(128)}
    return _onnx_call(node, a, TensorProto.UINT8, values, (y, TensorProto.INT32), threads)


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
