"""The command line: ``bitfront VERB ...``.

Exit status: 0 done, 1 failed, 2 wrong use. What is wrong is one sentence on stderr.
"""

from __future__ import annotations

import os
import sys

from bitfront.cli.app import app
from bitfront.cli.output import complain
from bitfront.spaces.errors import BitfrontError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line and exit."""
    try:
        app()
    except BitfrontError as error:
        complain(error)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # the reader of a pipe went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
