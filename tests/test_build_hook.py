"""The build hook, and what it makes of the sources of the native core."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import hatch_build


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The objects of the core, compiled with the hook's flags."""
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    try:
        return hatch_build.compile_objects(tmp_path_factory.mktemp("objects"))
    except OSError as error:
        pytest.skip(str(error))


def test_an_object_exports_nothing_that_another_could_take(objects) -> None:
    # Of two weak functions of one name the linker takes the first: one of std:: that was compiled
    # for AVX2 would run where a processor has none.
    found = []
    for file in objects:
        command = ["nm", "-C", "--extern-only", "--defined-only", str(file)]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        symbols = [line.split(maxsplit=2)[1:] for line in listed.splitlines() if line]
        found += symbols  # A source for other processors is empty here.
        others = [name for kind, name in symbols if kind != "T" or not name.startswith("qnn_")]
        assert not others, f"{file.name} exports {others}"
    assert len(found) > 4


def test_a_compiler_that_is_none_is_an_error_or_no_core(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    monkeypatch.setattr(hatch_build, "ROOT", tmp_path)
    core = tmp_path / hatch_build.TARGET
    core.parent.mkdir(parents=True)
    core.write_text("of another build")
    data = {"artifacts": []}
    hook = object.__new__(hatch_build.NativeBuildHook)
    monkeypatch.setattr(hatch_build.NativeBuildHook, "target_name", "wheel", raising=False)
    monkeypatch.setenv(hatch_build.REQUIRED, "1")
    with pytest.raises(OSError, match="absent"):
        hook.initialize("standard", data)
    monkeypatch.delenv(hatch_build.REQUIRED)
    hook.initialize("standard", data)
    assert data == {"artifacts": []}
    assert not core.exists()
