"""Compile a Triton or Gluon kernel without a GPU, and read the machine code that it became.

The compiler wheel carries an assembler and a disassembler, so what a kernel turned into for a GPU
that is not there can be asserted: which tensor-core instruction, how wide the loads are, whether
registers were spilled.

    >>> from bitfront.kernels.gpu.machine_code import opcodes
    >>> found = opcodes("/*0010*/ @!P0 LDG.E.128 R4, [R2.64] ;")
    >>> found["LDG.E.128"]
    1
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_POINTERS: Final = {
    "bool": "i1",
    "int8": "i8",
    "uint8": "u8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "float64": "fp64",
}
_INSTRUCTION: Final = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")
_RESOURCES: Final = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCode:
    """What a kernel became for one GPU.

    Attributes:
        capability: Ten times the compute capability: 80 is an A100, 90 an H100 or H200.
        ptx: The virtual assembly.
        sass: The machine code, disassembled.
        registers: Of one thread.
        shared_bytes: Shared memory of one block.
        stack_bytes: Local memory of one thread; more than 0 where registers were spilled.
    """

    capability: int
    ptx: str
    sass: str
    registers: int
    shared_bytes: int
    stack_bytes: int

    def count(self, *names: str) -> int:
        """Instructions that have all these dotted parts, in any order.

        ``count("BMMA", "AND")`` finds ``BMMA.168256.AND.POPC``; ``count("LDG")`` all of its kinds.
        """
        return sum(
            number
            for opcode, number in opcodes(self.sass).items()
            if set(names) <= set(opcode.split("."))
        )

    @property
    def spills(self) -> int:
        """Loads from and stores to local memory."""
        return self.count("LDL") + self.count("STL")


def opcodes(sass: str) -> Counter[str]:
    """How often each opcode with its modifiers stands in disassembled machine code."""
    return Counter(_INSTRUCTION.findall(sass))


def compile_kernel(
    kernel: Any,
    signature: Mapping[str, str],
    constants: Mapping[str, Any],
    *,
    capability: int,
    warps: int = 4,
    **options: Any,
) -> MachineCode:
    """Compile a kernel for a GPU that need not be there.

    Args:
        kernel: Made by `triton.jit` or `gluon.jit`.
        signature: Type of each argument that is no constant, as Triton's ahead-of-time compiler
            writes it: "*i32", "i32", "fp32"; ":16" after it says divisible by 16, as a launch finds
            out for itself of pointers and sizes.
        constants: Value of each argument that is one.
        capability: Ten times the compute capability.
        warps: Of one block.
        options: Of the compiler, such as `num_stages` or `maxnreg`.

    Raises:
        TypeError: If the kernel was not made by `jit`, or was made for Triton's interpreter.
        ValueError: If the arguments are not those of the kernel.
        RuntimeError: If the disassembler refuses the binary.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    if not isinstance(kernel, triton.JITFunction):
        raise TypeError(
            "`kernel` must be made by triton.jit or gluon.jit, with TRITON_INTERPRET unset, but "
            f"got {type(kernel).__name__}."
        )
    if sorted([*signature, *constants]) != sorted(kernel.arg_names):
        raise ValueError(
            f"`signature` and `constants` must name each of {', '.join(kernel.arg_names)} once, "
            f"but name {', '.join([*signature, *constants])}."
        )
    attributes = {
        (kernel.arg_names.index(name),): [["tt.divisibility", int(kind.partition(":")[2])]]
        for name, kind in signature.items()
        if ":" in kind
    }
    source = (GluonASTSource if kernel.is_gluon() else ASTSource)(
        fn=kernel,
        signature={
            name: signature[name].partition(":")[0] if name in signature else "constexpr"
            for name in kernel.arg_names
        },
        constexprs={(kernel.arg_names.index(name),): value for name, value in constants.items()},
        attrs=attributes,
    )
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps, **options},
    )
    sass = _disassemble(compiled.asm["cubin"])
    resources = _RESOURCES.search(sass)
    if resources is None:
        raise RuntimeError(f"The disassembler gave no use of resources, but {sass[:300]!r}.")
    registers, stack, _, local = map(int, resources.groups())
    return MachineCode(
        capability=capability,
        ptx=compiled.asm["ptx"],
        sass=sass,
        registers=registers,
        # dynamic, so the binary does not say
        shared_bytes=compiled.metadata.shared,
        stack_bytes=stack + local,
    )


def compile_launch(
    kernel: Any,
    arguments: Mapping[str, Any],
    *,
    capability: int,
    warps: int = 4,
    **options: Any,
) -> MachineCode:
    """Compile what a launch with these arguments would compile.

    As Triton does at a launch, None and a 1 become constants, and what is divisible by 16 is known
    to be.

    Args:
        kernel: Made by `triton.jit` or `gluon.jit`.
        arguments: By name; tensors may be on any device.
        capability: As `compile_kernel`, like what follows.
        warps: Of one block.
        options: Of the compiler.

    Raises:
        TypeError: As `compile_kernel`.
        ValueError: As `compile_kernel`.
        RuntimeError: As `compile_kernel`.
    """
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    fixed = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
    for name, value in arguments.items():
        if name in fixed or value is None or (type(value) is int and value == 1):
            constants[name] = value
        elif isinstance(value, int):
            size = "i32" if -(2**31) <= value < 2**31 else "i64"
            signature[name] = f"{size}:16" if value % 16 == 0 else size
        else:
            kind = _POINTERS[str(value.dtype).removeprefix("torch.")]
            signature[name] = f"*{kind}:16" if value.data_ptr() % 16 == 0 else f"*{kind}"
    return compile_kernel(
        kernel, signature, constants, capability=capability, warps=warps, **options
    )


def _disassemble(cubin: bytes) -> str:
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        done = subprocess.run(
            [knobs.nvidia.cuobjdump.path, "-sass", "-res-usage", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"The disassembler refused the binary: {done.stderr.strip()}")
    return done.stdout
