"""Shipping a trained network: one module per format, each with ``write`` and ``verify``.

    >>> from bitfront.export import exporters
    >>> sorted(exporters)
    ['json', 'onnx', 'pt2']

Importing this package loads neither torch nor onnx; a format's module is loaded when it is used.
"""

from __future__ import annotations

from bitfront.export.errors import ExportFailed, MissingExtra
from bitfront.export.exporter import Exporter, exporters
from bitfront.export.verification import Flip, Verification
from bitfront.export.winner import Provenance, TrainedOn, Winner

__all__ = [
    "ExportFailed",
    "Exporter",
    "Flip",
    "MissingExtra",
    "Provenance",
    "TrainedOn",
    "Verification",
    "Winner",
    "exporters",
]
