"""What each parser takes and refuses, and where values come from."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pytest_qnnrobust import options
from pytest_qnnrobust.options import values
from pytest_qnnrobust.options.values import Threshold


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.parse_eps, "8/255", 8 / 255),
        (values.parse_eps, "0.03", 0.03),
        (values.parse_domain, "-1,1", (-1.0, 1.0)),
        (values.parse_domain, "0, 255", (0.0, 255.0)),
        (values.parse_attacks, "pgd, square-linf", ("pgd", "square-linf")),
        (values.parse_count, "12", 12),
        (values.parse_seed, "0", 0),
        (values.parse_size, "2G", 2 * 1024**3),
        (values.parse_size, "1.5 MiB", 3 * 1024**2 // 2),
        (values.parse_size, "500k", 500 * 1024),
        (values.parse_size, "4096", 4096),
        (values.parse_margin, "0", 0.0),
        (values.parse_switch, "true", True),
        (values.parse_switch, "off", False),
        (values.parse_thresholds, "0.5", (Threshold("", 0.5),)),
        (
            values.parse_thresholds,
            "int8-pgd:1/2,int16:0",
            (Threshold("int8-pgd", 0.5), Threshold("int16", 0.0)),
        ),
    ],
)
def test_parsed(parse, text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "rule"),
    [
        (values.parse_eps, "eight", "8/255"),
        (values.parse_eps, "1/0", "number"),
        (values.parse_eps, "nan", "number"),
        (values.parse_eps, "0", "eps > 0"),
        (values.parse_eps, "-1", "eps > 0"),
        (values.parse_domain, "1", "LOW,HIGH"),
        (values.parse_domain, "1,1", "LOW < HIGH"),
        (values.parse_attacks, " , ", "attack ids"),
        (values.parse_count, "0", "integer >= 1"),
        (values.parse_count, "1.5", "integer >= 1"),
        (values.parse_seed, "-1", "integer >= 0"),
        (values.parse_size, "0", "2G or 500M"),
        (values.parse_size, "-1G", "2G or 500M"),
        (values.parse_size, "2X", "2G or 500M"),
        (values.parse_size, "big", "2G or 500M"),
        (values.parse_fraction, "1", "between 0 and 1"),
        (values.parse_margin, "1", r"\[0, 1\)"),
        (values.parse_positive, "0", "> 0"),
        (values.parse_switch, "maybe", "true or false"),
        (values.parse_thresholds, "int8:1.5", r"\[0, 1\]"),
        (values.one_of(values.RUNTIMES), "quick", "tflm or litert or litert-builtin"),
    ],
)
def test_refused(parse, text: str, rule: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=rule):
        parse(text)


@pytest.fixture
def resolved(pytester: pytest.Pytester):
    """`resolved(*args)` -> Options, as pytest with these arguments would see them."""

    def resolve(*args: str) -> options.Options:
        config = pytester.parseconfig(*args)
        return options.from_config(config)

    from importlib.metadata import entry_points

    if not entry_points(group="pytest11", name="qnnrobust"):
        pytester.plugins.append("pytest_qnnrobust.plugin")
    return resolve


def test_defaults(resolved) -> None:
    assert resolved() == options.Options()


def test_flag_wins_over_ini_key(pytester: pytest.Pytester, resolved) -> None:
    pytester.makeini("[pytest]\nqnn_eps = 1/4\nqnn_seed = 7\n")
    found = resolved("--qnn-eps=8/255")
    assert (found.eps, found.seed) == (8 / 255, 7)


def test_paths_are_relative_to_where_they_were_written(
    pytester: pytest.Pytester, resolved, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\nqnn_data = data/test.npz\nqnn_model = m.tflite\n")
    folder = pytester.mkdir("sub")
    monkeypatch.chdir(folder)
    found = resolved("--qnn-int8", "b.tflite")
    assert found.data == str(pytester.path / "data" / "test.npz")
    assert found.model == pytester.path / "m.tflite"
    assert found.int8 == folder / "b.tflite"


@pytest.mark.parametrize("source", ["package.data:load", "digits"])
def test_source_that_is_no_path_stays_as_it_is(resolved, source: str) -> None:
    assert resolved(f"--qnn-data={source}").data == source


def test_ini_is_found_beside_the_user_when_the_model_lies_elsewhere(
    pytester: pytest.Pytester, resolved, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # pytest takes the model's path for a test path and looks for the ini file over there.
    elsewhere = tmp_path_factory.mktemp("models") / "m.tflite"
    elsewhere.write_bytes(b"")
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nqnn_data = "test.npz"\n')
    found = resolved("--qnn-model", str(elsewhere))
    assert found.data == str(pytester.path / "test.npz")


@pytest.mark.parametrize("name", ["pytest.ini", "tox.ini", "setup.cfg"])
def test_ini_files_of_every_kind(pytester: pytest.Pytester, resolved, name: str) -> None:
    section = "tool:pytest" if name == "setup.cfg" else "pytest"
    Path(name).write_text(f"[{section}]\nqnn_samples = 12\n")
    assert resolved().samples == 12


def test_only_a_flag_starts_the_gate(pytester: pytest.Pytester, resolved) -> None:
    pytester.makeini("[pytest]\nqnn_model = m.tflite\n")
    assert not resolved("--qnn-data=d.npz").gate
    assert resolved("--qnn-int16=m.tflite").gate


def test_bad_ini_value_is_one_line(pytester: pytest.Pytester, resolved) -> None:
    pytester.makeini("[pytest]\nqnn_runtime = quick\n")
    with pytest.raises(pytest.UsageError, match=r"qnn_runtime in .*tox.ini: expected tflm"):
        resolved()


def test_demo_brings_its_own_data(resolved) -> None:
    with pytest.raises(pytest.UsageError, match="drop --qnn-data"):
        resolved("--qnn-demo", "--qnn-data=d.npz")
