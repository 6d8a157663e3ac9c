"""The engine of integer models and its instruction set, which the console script and every report
name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_qnnrobust import __version__, cli
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.tflite import native
from tests.plugin.spread import ROOT

FEW = "--qnn-samples=6", "--qnn-attack=noise", "--qnn-report=out", "-q", "-k", "int8-noise"
FLOAT, INT8 = demo_path("digits_float.keras"), demo_path("digits_int8.tflite")
NO_CORE = "no native core: NumPy kernels; QNNROBUST_ISA=none"


@pytest.fixture(params=["none", "portable"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The engine that QNNROBUST_ISA chooses, and its instruction set."""
    if request.param != "none" and native.library() is None:
        pytest.skip(f"no native core: {native.missing()}")
    monkeypatch.setenv("QNNROBUST_ISA", request.param)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return ("reference", "none") if request.param == "none" else ("native", request.param)


def test_the_version_names_the_engine(engine, capsys) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--version"])
    assert exit_info.value.code == 0
    name = NO_CORE if engine[1] == "none" else f"native core: {engine[1]}"
    assert capsys.readouterr().out == f"qnnrobust {__version__} ({name})\n"


def test_the_version_needs_no_tensorflow(engine) -> None:
    code = """if True:
        import sys
        from pytest_qnnrobust import cli
        try:
            cli.main(["--version"])
        finally:
            print({"tensorflow", "keras", "scipy"} & set(sys.modules))
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("\nset()\n")


def named(report: Path) -> tuple[str, str]:
    """The engine and the instruction set in the document of a report, and in its page."""
    versions = json.loads((report / "results.json").read_text())["versions"]
    engine, isa = versions["engine"], versions["instruction_set"]
    assert f"engine {engine}, instruction set {isa}" in (report / "report.html").read_text()
    return engine, isa


def test_every_report_names_the_engine(run, digits, engine) -> None:
    assert run("--qnn-int8", INT8, "--qnn-data", digits, *FEW).ret == 0
    assert named(Path("out")) == engine


def test_workers_do_not_change_the_engine(run, digits, monkeypatch) -> None:
    pytest.importorskip("xdist")
    monkeypatch.setenv("QNNROBUST_ISA", "none")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert run("--qnn-int8", INT8, "--qnn-data", digits, *FEW, "-n2").ret == 0
    assert named(Path("out")) == ("reference", "none")


def test_a_report_of_before_names_no_engine(run, digits) -> None:
    run("--qnn-int8", INT8, "--qnn-data", digits, *FEW)
    path = Path("out/results.json")
    older = json.loads(path.read_text())
    del older["versions"]["engine"], older["versions"]["instruction_set"]
    path.write_text(json.dumps(older))
    assert cli.main(["report", str(path)]) == 0
    assert "instruction set" not in Path("out/report.html").read_text()


def test_a_merged_report_names_the_engines_of_its_parts(on_digits) -> None:
    parts = []
    for i, isa in ((1, "portable"), (2, "avx2")):
        assert on_digits(*FEW, "-k", "int8-noise or clean", f"--qnn-shard={i}/2").ret == 0
        part = json.loads(Path("out/results.json").read_text())
        part["versions"] |= {"engine": "native", "instruction_set": isa}
        parts.append(f"part{i}.json")
        Path(parts[-1]).write_text(json.dumps(part))
    assert cli.main(["merge", *parts, "--output=merged"]) == 0
    assert named(Path("merged")) == ("native", "avx2 and portable")


@pytest.mark.parametrize("model", ["--qnn-int8", "--qnn-float"])
def test_an_unknown_instruction_set_is_one_line(
    refused, digits, monkeypatch, capsys, model
) -> None:
    monkeypatch.setenv("QNNROBUST_ISA", "mmx")
    file = INT8 if model == "--qnn-int8" else FLOAT
    line = "expected QNNROBUST_ISA to be one of "
    assert line in refused(model, file, "--qnn-data", digits, "--qnn-report=out")
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--version"])
    assert exit_info.value.code == cli.USAGE_ERROR
    assert f"qnnrobust: error: {line}" in capsys.readouterr().err
