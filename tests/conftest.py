"""One thread per test process.

Tests run in several processes on few cores, and the number of threads decides the order in which
floats are added: with it, on which side of a threshold a value falls.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
