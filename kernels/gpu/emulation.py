"""Run the source of a Gluon kernel with numpy: what a kernel computes, without a GPU.

Triton's interpreter runs no Gluon. Here a kernel's own Python source runs block by block with a
`gl` of numpy arrays. Where registers of threads matter, at the tensor-core instruction, the layout
that the compiler reports says which warp, lane and register holds which element, and the registers
meet as the tables of the PTX instruction set say. An address outside a tensor is an error; what
is neither loaded nor copied yet is rubbish.

What is not modelled: several warps at different places. Barriers do nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from types import FunctionType, SimpleNamespace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from triton import JITFunction
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy

RUBBISH: Final = 0x0BADF00D
LANES: Final = 32

_MMA: Final = re.compile(
    r"mma\.sync\.aligned\.m16n8k256\.row\.col\.s32\.b1\.b1\.s32\.(and|xor)\.popc "
    + r"\{(.*?)\}, \{(.*?)\}, \{(.*?)\}, \{(.*?)\};"
)
_ELEMENT: Final = re.compile(r"\(([\d, ]+)\)")
_DTYPES: Final = {"int32": np.int32, "fp32": np.float32}


class Block(np.ndarray):
    """A tensor of a block of threads, with its layout where that is known."""

    layout: Any = None

    def __array_finalize__(self, source: object) -> None:
        self.layout = getattr(source, "layout", None)

    @property
    def type(self) -> SimpleNamespace:
        """As of a tensor in a kernel."""
        return SimpleNamespace(layout=self.layout)


class Pointer:
    """Places in a tensor's memory."""

    def __init__(self, memory: NDArray[Any], at: Any = 0) -> None:
        self.memory = memory
        self.at = at

    def __add__(self, steps: Any) -> Pointer:
        return Pointer(self.memory, self.at + steps)

    def places(self, mask: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of each element the place, and whether it is accessed.

        Raises:
            IndexError: A place that is accessed lies outside.
        """
        at, used = np.broadcast_arrays(np.asarray(self.at), True if mask is None else mask)
        outside = used & ((at < 0) | (at >= self.memory.size))
        if outside.any():
            raise IndexError(
                f"A kernel must stay within its {self.memory.size} elements, but accesses number "
                f"{at[outside][0]}."
            )
        return at, used


class Shared:
    """A piece of shared memory."""

    def __init__(self, memory: NDArray[Any]) -> None:
        self.memory = memory

    def index(self, number: int) -> Shared:
        """One of its leading axis."""
        return Shared(self.memory[number])

    def reshape(self, shape: list[int]) -> Shared:
        """The same memory with other axes."""
        return Shared(self.memory.reshape(shape))

    def load(self, layout: Any) -> Block:
        """What it holds now."""
        return _block(self.memory.copy(), layout)


class Copies:
    """The asynchronous copies of a block.

    Args:
        eager: Whether they end when they are begun; else when they are waited for, the latest that
            the hardware may.
    """

    def __init__(self, eager: bool) -> None:
        self._eager = eager
        self._begun: list[Callable[[], None]] = []
        self._groups: list[list[Callable[[], None]]] = []

    def async_copy_global_to_shared(self, to: Shared, source: Pointer, mask: Any = None) -> None:
        """Zeros where the mask says that nothing is read."""

        def copy() -> None:
            to.memory[...] = _load(source, mask, 0)

        if self._eager:
            copy()
        else:
            self._begun.append(copy)

    def commit_group(self) -> None:
        """End a group of copies."""
        self._groups.append(self._begun)
        self._begun = []

    def wait_group(self, num_outstanding: int) -> None:
        """Wait until so many groups are left."""
        while len(self._groups) > num_outstanding:
            for copy in self._groups.pop(0):
                copy()


class Language:
    """The part of `gl` that the kernels use."""

    SliceLayout = gl.SliceLayout
    BlockedLayout = gl.BlockedLayout
    SwizzledSharedLayout = gl.SwizzledSharedLayout
    int32 = gl.int32
    float32 = gl.float32
    bfloat16 = gl.bfloat16

    def __init__(self, program: int) -> None:
        self._program = program

    def program_id(self, axis: int) -> int:
        """Number of the block."""
        return self._program if axis == 0 else 0

    def static_range(self, *bounds: int) -> range:
        """As Python's."""
        return range(*bounds)

    def arange(self, start: int, end: int, layout: Any) -> Block:
        """Numbers."""
        return _block(np.arange(start, end, dtype=np.int32), layout)

    def full(self, shape: list[int], value: float, dtype: Any, layout: Any) -> Block:
        """One value everywhere."""
        return _block(np.full(shape, value, _DTYPES[dtype.name]), layout)

    def expand_dims(self, x: Block, axis: int) -> Block:
        """A new axis."""
        return _block(np.expand_dims(x, axis), None)

    def reshape(self, x: Block, shape: list[int]) -> Block:
        """Other axes, the same order."""
        return _block(np.reshape(x, shape), None)

    def permute(self, x: Block, order: tuple[int, ...]) -> Block:
        """Another order of axes."""
        return _block(np.transpose(x, order), None)

    def split(self, x: Block) -> tuple[Block, Block]:
        """Both of the last axis."""
        return _block(x[..., 0], None), _block(x[..., 1], None)

    def convert_layout(self, x: Block, layout: Any) -> Block:
        """The same elements, elsewhere."""
        return _block(x, layout)

    def minimum(self, x: Block, y: int) -> Block:
        """The smaller."""
        return _block(np.minimum(x, y), x.layout)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """One or the other."""
        return np.where(condition, x, y)

    def cast(self, x: Any, dtype: Any) -> Any:
        """Another type; a bfloat16 is the int16 of its bits."""
        if x.dtype == np.int16:
            return (x.astype(np.int32) << 16).view(np.float32)
        if dtype.name == "bf16":
            values = torch.from_numpy(np.ascontiguousarray(x)).to(torch.bfloat16)
            return values.view(torch.int16).numpy()
        return x.astype(_DTYPES[dtype.name])

    def sum(self, x: Any, axis: int) -> Any:
        """Modulo 2^32."""
        return _block(np.add.reduce(np.asarray(x), axis, dtype=np.int32), None)

    def load(self, pointer: Pointer, mask: Any = None, other: Any = RUBBISH) -> Block:
        """What lies there."""
        return _block(_load(pointer, mask, other), None)

    def store(self, pointer: Pointer, values: Any, mask: Any = None) -> None:
        """Write; two threads may not write different values to one place."""
        at, used = pointer.places(mask)
        written = np.broadcast_to(np.asarray(values), at.shape)[used]
        pointer.memory[at[used]] = written
        if not np.array_equal(pointer.memory[at[used]], written):
            raise ValueError("A kernel must write one value to a place, but writes several.")

    def atomic_add(self, pointer: Pointer, values: Any, mask: Any = None) -> None:
        """Add; places may repeat."""
        at, used = pointer.places(mask)
        np.add.at(pointer.memory, at[used], np.broadcast_to(np.asarray(values), at.shape)[used])

    def allocate_shared_memory(self, dtype: Any, shape: list[int], layout: Any) -> Shared:
        """Holds rubbish."""
        return Shared(np.full(shape, RUBBISH, _DTYPES[dtype.name]))

    def barrier(self) -> None:
        """All warps are at one place anyway."""

    def inline_asm_elementwise(
        self, asm: str, constraints: str, args: list[Block], dtype: Any, is_pure: bool, pack: int
    ) -> Block:
        """1-bit tensor-core instructions over the registers of every warp."""
        blocks = np.broadcast_arrays(*args)
        kinds = constraints.split(",")
        if len(kinds) != pack * (1 + len(args)) or kinds[:pack] != ["=r"] * pack:
            raise ValueError(f"{pack} results and {pack} of each operand, not {constraints!r}.")
        layout = args[0].layout
        holders = _holders(layout, blocks[0].shape)
        warps, registers, lanes, axes = holders.shape
        places = holders.reshape(warps, registers // pack, pack, lanes, axes)
        # [warp and group of registers, register, lane]
        index = tuple(places.reshape(-1, pack, lanes, axes).transpose(3, 0, 1, 2))
        operands = np.concatenate([np.asarray(block)[index] for block in blocks], 1)
        results = run_instructions(asm, operands, pack)
        total = np.empty(blocks[0].shape, np.int32)
        total[index] = results
        return _block(total, layout)


def run_instructions(asm: str, operands: NDArray[Any], results: int) -> NDArray[Any]:
    """Run tensor-core instructions of inline assembly.

    Args:
        asm: PTX, its operands ``$n`` and temporary registers ``dn``.
        operands: int32 [warps, inputs, 32].
        results: How many of the first ``$n`` are results.

    Returns:
        int32 [warps, results, 32].
    """
    registers = {f"${results + n}": operands[:, n] for n in range(operands.shape[1])}
    for operator, *groups in _MMA.findall(asm):
        d, a, b, c = (names.split(", ") for names in groups)
        made = mma_m16n8k256(
            operator,
            *(np.stack([registers[name] for name in names], 1) for names in (a, b, c)),
        )
        registers |= {name: made[:, n] for n, name in enumerate(d)}
    return np.stack([registers[f"${n}"] for n in range(results)], 1)


def mma_m16n8k256(operator: str, a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> NDArray[Any]:
    """``mma.m16n8k256`` of 1-bit operands over the registers of warps.

    References:
        PTX ISA, "Matrix Fragments for mma.m16n8k256": with group = lane / 4 and t = lane % 4,
        a_i is row group + 8 (i % 2), bits 32 t + 128 (i / 2) and on; b_i column group, bits
        32 t + 128 i and on; c_i row group + 8 (i / 2), column 2 t + i % 2.

    Args:
        operator: "and" or "xor".
        a: int32 [warps, 4, 32].
        b: int32 [warps, 2, 32].
        c: int32 [warps, 4, 32].

    Returns:
        int32 [warps, 4, 32].
    """
    lane = np.arange(LANES)
    group, t = lane // 4, lane % 4
    rows = np.empty((len(a), 16, 8), np.int32)
    columns = np.empty((len(b), 8, 8), np.int32)
    for i in range(4):
        rows[:, group + 8 * (i % 2), t + 4 * (i // 2)] = a[:, i]
    for i in range(2):
        columns[:, group, t + 4 * i] = b[:, i]
    combine = np.bitwise_and if operator == "and" else np.bitwise_xor
    common = combine(rows[:, :, None], columns[:, None]).view(np.uint32)
    counts = np.bitwise_count(common).sum(-1, dtype=np.int32)
    return np.stack([c[:, i] + counts[:, group + 8 * (i // 2), 2 * t + i % 2] for i in range(4)], 1)


def emulate(
    kernel: JITFunction[Any], blocks: int, arguments: Mapping[str, Any], *, eager: bool = False
) -> None:
    """Run all blocks of a kernel, one after the other.

    Args:
        kernel: Made by `gluon.jit`.
        blocks: How many.
        arguments: By name; a tensor is on the CPU, and a pointer's memory is all from its first
            element to its last.
        eager: Whether asynchronous copies end when they are begun.

    Raises:
        IndexError: An address outside a tensor.
        ValueError: Two threads write different values to one place.
    """
    given = {name: _argument(value) for name, value in arguments.items()}
    for program in range(blocks):
        copies = Copies(eager)
        modules = {id(gl): Language(program), id(async_copy): copies}
        _python(kernel, modules, {})(**given)


def _argument(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.dtype == torch.bfloat16:
        value = value.view(torch.int16)
    reach = sum((size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True))
    return Pointer(value.as_strided((reach + 1,), (1,)).numpy())


def _python(
    kernel: JITFunction[Any], modules: Mapping[int, Any], made: dict[int, FunctionType]
) -> FunctionType:
    """The function of a kernel, with our modules in place of the compiler's."""
    if id(kernel) in made:
        return made[id(kernel)]
    function = kernel.fn

    def replaced(value: Any) -> Any:
        if isinstance(value, JITFunction):
            return _python(value, modules, made)
        if isinstance(value, gl.constexpr):
            return value.value
        return modules.get(id(value), value)

    scope = {
        name: replaced(function.__globals__[name])
        for name in function.__code__.co_names
        if name in function.__globals__
    }
    built = FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
    made[id(kernel)] = built
    return built


def _block(values: Any, layout: Any) -> Block:
    block: Block = np.asarray(values).view(Block)
    block.layout = layout
    return block


def _load(pointer: Pointer, mask: Any, other: Any) -> NDArray[Any]:
    at, used = pointer.places(mask)
    values = np.broadcast_to(np.asarray(other, pointer.memory.dtype), at.shape).copy()
    values[used] = pointer.memory[at[used]]
    return values


@cache
def _view(layout: Any, shape: tuple[int, ...]) -> str:
    view: str = layout.format_hardware_view(list(shape))
    return view


@cache
def _holders(layout: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Index of the element in each register, [warps, registers, lanes, axes], as Triton says."""
    warps = _view(layout, shape).split("Warp")[1:]
    elements = [
        [[int(n) for n in element.split(",")] for element in _ELEMENT.findall(warp)]
        for warp in warps
    ]
    return np.array(elements).reshape(len(warps), -1, LANES, len(shape))
