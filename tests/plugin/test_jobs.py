"""`--qnn-jobs`: the same results from joblib's workers, here or on a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest

from pytest_qnnrobust import demo
from pytest_qnnrobust.attacks import create
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import FileChangedError
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.options.values import DefendedFiles, Squeezing
from pytest_qnnrobust.results.document import DataRecord
from pytest_qnnrobust.run import jobs
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.tflite.builder import GraphBuilder
from tests.helpers.outcomes import results
from tests.plugin.spread import ON_DASK, measured
from tests.tflite.one_operator import fully_connected

INT8 = demo_path("digits_int8.tflite")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def arguments(digits: str, *more: str) -> tuple[str, ...]:
    return (
        f"--qnn-int8={INT8}", f"--qnn-data={digits}", "--qnn-samples=21",
        "--qnn-attack=fgsm,square-linf", "--qnn-eps=0.1", "-m", "qnn_direct", "-k", "int8",
        "-q", *more,
    )  # fmt: skip


def test_workers_here_find_what_one_process_does(run, digits, pytester) -> None:
    plain = run(*arguments(digits, "--qnn-report=plain"))
    spread = run(*arguments(digits, "--qnn-report=spread", "--qnn-jobs=2"))
    assert plain.ret == spread.ret == 0
    found = measured(pytester.path / "plain")
    assert len(found["outcomes"]) == 2
    assert measured(pytester.path / "spread") == found


@pytest.mark.nightly
def test_workers_on_a_cluster_find_what_one_process_does(run, digits, pytester) -> None:
    pytest.importorskip("distributed")
    assert run(*arguments(digits, "--qnn-report=plain")).ret == 0
    pytester.makeconftest(ON_DASK)
    more = ("--qnn-report=dask", "--qnn-jobs=all", "-s")
    on_dask = pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments(digits, *more))
    assert on_dask.ret == 0
    on_dask.stdout.fnmatch_lines(["*workers that computed: 2"])
    assert measured(pytester.path / "dask") == measured(pytester.path / "plain")


def test_a_worker_finds_every_model_by_its_name() -> None:
    options = Options(demo=True)
    session = Session(
        replace(
            options, squeeze=Squeezing(*demo.SQUEEZING), defended=(DefendedFiles(*demo.defended()),)
        )
    )
    plain = [session.subject(width).model for width in ("float32", "int16", "int8")]
    defended = list(session.subjects.defenses["pgd"].models.values())
    squeezed = [session.cells.squeezed(model) for model in (*plain, *defended)]
    names = [session.cells.name_of(model) for model in (*plain, *defended, *squeezed)]
    assert names[:3] == ["float32", "int16", "int8"]
    assert "squeezed/pgd/int8" in names
    found = [session.cells.model_named(str(name)) for name in names]
    assert all(
        one is other for one, other in zip(found, (*plain, *defended, *squeezed), strict=True)
    )
    assert session.cells.name_of(plain[2].surrogate) is None


@pytest.mark.parametrize("other", ["digest", "data"])
def test_a_worker_refuses_another_file(other: str) -> None:
    options = Options(int8=INT8, data="digits", samples=8)
    session = Session(options)
    files = {
        "digest": str(session.subject("int8").model.digest),
        "data": session.data.digest,
    }
    part = jobs.Part(options, "int8", **files, attack=create("fgsm"), first=0, last=8, neighbours=1)
    with pytest.raises(FileChangedError, match="every worker needs the same files"):
        jobs.compute(replace(part, **{other: "0" * 64}))


def test_workers_attack_in_the_input_domain_of_the_baseline(tmp_path: Path) -> None:
    builder = GraphBuilder()
    inputs, output = fully_connected("int8", shape=(4,), features=4)(
        builder, np.random.default_rng(0)
    )
    model, data, baseline = (tmp_path / name for name in ("m.tflite", "d.npz", "b.json"))
    model.write_bytes(builder.build(inputs, [output]))
    np.savez(data, x=np.arange(64, dtype=np.uint8).reshape(16, 4), y=np.arange(16) % 9)
    record = DataRecord("d.npz", "0" * 64, 16, 16, -1.0, 2.0, "as recorded")
    baseline.write_text(results(data=record).to_text())
    session = Session(Options(int8=model, data=str(data), baseline=baseline))
    index, noise = np.arange(16), create("noise", eps=0.5)
    subject = session.subject("int8").model
    assert subject.bounds == (-1.0, 2.0)
    with joblib.parallel_config("threading"):
        found = jobs.Workers(session, 2)(subject, noise, index)
    assert found is not None
    alone = session.evaluator.run_here(subject, noise, index)
    np.testing.assert_array_equal(found.x_adv, alone.x_adv)


def test_it_takes_the_place_of_xdist(run, digits) -> None:
    pytest.importorskip("xdist")
    result = run(*arguments(digits, "--qnn-jobs=2", "-n2"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*expected one of --qnn-jobs and pytest-xdist's -n, got both"])


@pytest.mark.parametrize("value", ["0", "-2", "many"])
def test_a_bad_number_is_one_line(run, digits, value) -> None:
    result = run(*arguments(digits, f"--qnn-jobs={value}"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--qnn-jobs: expected an integer >= 1, got '{value}'" in result.stderr.str()
