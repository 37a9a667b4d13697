"""How fast the CPU kernels are, beside the strongest peers, in one run.

`run` checks every result for exactness before it times anything: a wrong kernel has no speed.
"""

from bitfront.kernels.bench.cases import CASES, ConvCase, GemmCase
from bitfront.kernels.bench.report import draw, table_rows
from bitfront.kernels.bench.run import InexactKernel, run

__all__ = ["CASES", "ConvCase", "GemmCase", "InexactKernel", "draw", "run", "table_rows"]
