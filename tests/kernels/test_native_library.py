"""A library that was built from other sources is not called: its jobs have another shape."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bitfront.kernels import native_library

GCC = shutil.which("gcc")
OLDER = "int bf_has_variant(int variant) { return variant == 0; }\n"
OTHER = OLDER + "long long bf_job_bytes(void) { return 1; }\n"


@pytest.mark.skipif(GCC is None, reason="there is no gcc")
@pytest.mark.parametrize("source", [OLDER, OTHER])
def test_a_library_of_another_build_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.c").write_text(source)
    built = [str(tmp_path / "_native.so"), str(tmp_path / "other.c")]
    subprocess.run([str(GCC), "-shared", "-fPIC", "-o", *built], check=True)
    with pytest.raises(native_library.StaleLibrary):
        native_library.NativeLibrary(tmp_path / "_native.so")
    monkeypatch.setattr(native_library, "__file__", str(tmp_path / "native_library.py"))
    monkeypatch.setattr(native_library, "EXTENSION_SUFFIXES", [".so"])
    native_library.load.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"built by another version .* Reinstall bitfront"):
            assert native_library.load() is None
    finally:
        native_library.load.cache_clear()
