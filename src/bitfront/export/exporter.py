"""The export formats by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bitfront.export.errors import MissingExtra
from bitfront.export.verification import Verification
from bitfront.export.winner import Winner
from bitfront.spaces.registry import Registry

if TYPE_CHECKING:
    from bitfront.evaluators.training import DataSet

EXTRA: Final = "export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """One format.

    Attributes:
        name: Of the format.
        summary: What it is good for, in a few words.
        home: Module with ``write`` and ``verify``; loaded when one of them is called.
        needs: Packages of the extra ``export`` that it needs.
    """

    name: str
    summary: str
    home: str
    needs: tuple[str, ...] = ()

    def write(self, winner: Winner, directory: Path | str) -> Path:
        """Write the winner into a directory and return the file.

        An earlier file of the same name stays whole until the new one is.

        Raises:
            MissingExtra: If a package is not installed.
            ExportFailed: If the weights cannot be read or the file cannot be written.
        """
        path: Path = self._module().write(winner, directory)
        return path

    def verify(self, winner: Winner, path: Path | str, data: DataSet) -> Verification:
        """Load a written file and compare it with the winner's network on the test split.

        Raises:
            MissingExtra: If a package is not installed.
            ExportFailed: If the file is missing, damaged or of another network.
            InvalidValue: If ``data`` is not what the winner was trained on.
        """
        verification: Verification = self._module().verify(winner, path, data)
        return verification

    def _module(self) -> Any:
        try:
            return import_module(self.home)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in self.needs:
                raise
            raise MissingExtra(
                f"The format {self.name!r} needs the package {package}, which is not installed: "
                f"pip install 'bitfront[{EXTRA}]'."
            ) from None


exporters: Final[Registry[Exporter]] = Registry("export format")

for _exporter in (
    Exporter(
        name="json",
        summary="architecture, recipe, measurements and weights, for bitfront itself",
        home="bitfront.export.json",
    ),
    Exporter(
        name="onnx",
        summary="standard ONNX with packed weights, for onnxruntime and others",
        home="bitfront.export.onnx",
        needs=("onnx", "onnxruntime", "google"),
    ),
    Exporter(
        name="pt2",
        summary="torch.export program, for torch without bitfront",
        home="bitfront.export.pt2",
    ),
):
    exporters.register(_exporter.name)(_exporter)
