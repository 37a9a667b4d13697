"""Python calls on another build of the library, such as one with sanitizers.

python other_build.py LIBRARY tests ARGUMENT ...     pytest, with that build loaded
python other_build.py LIBRARY overrun                one float too many is read
python other_build.py LIBRARY misaligned             words begin at an odd address
"""

import sys
from pathlib import Path

import pytest
import torch

from bitfront.kernels import native_library
from bitfront.kernels.native_library import NativeLibrary, PackJob


def overrun(library: NativeLibrary) -> None:
    x, words = torch.ones(40), torch.empty(2, dtype=torch.int32)
    sizes = {"images": 1, "lines": 1, "pixels": 1, "channels": 41, "channel_step": 1}
    library.pack(PackJob(x=x.data_ptr(), out=words.data_ptr(), **sizes), "portable")


def misaligned(library: NativeLibrary) -> None:
    words, ones = torch.ones(9, dtype=torch.int32), torch.empty(1, dtype=torch.int32)
    library.row_ones(words.data_ptr() + 1, 1, 8, ones.data_ptr())


def main() -> int:
    library = NativeLibrary(Path(sys.argv[1]))
    if sys.argv[2] == "tests":
        native_library.NativeLibrary = lambda path: library
        assert native_library.load() is library
        return pytest.main(sys.argv[3:])
    {"overrun": overrun, "misaligned": misaligned}[sys.argv[2]](library)
    return 0


sys.exit(main())
