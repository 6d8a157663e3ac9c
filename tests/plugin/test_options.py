"""What each parser takes and refuses, where values come from, and what is said of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pytest_qnnrobust import options
from pytest_qnnrobust.options import values
from pytest_qnnrobust.options.values import (
    DefendedFiles,
    Limits,
    LossLimit,
    Squeezing,
    Threshold,
)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.parse_eps, "8/255", (8 / 255,)),
        (values.parse_eps, "8/255, 1/255,8/255", (1 / 255, 8 / 255)),
        (values.parse_eps, "0.03", (0.03,)),
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
        (values.parse_eps, "1e400", "number"),
        (values.parse_eps, "1e99999999", "number"),
        (values.parse_eps, "1/1e-9999999", "number"),
        (values.parse_fraction, "1e400", "number"),
        (values.parse_domain, f"0,{'9' * 400}", "number"),
        (values.parse_thresholds, f"int8:{'9' * 400}", "int8-pgd-direct:0.5"),
        (values.parse_limits, f"accuracy:-{'9' * 400}pt", "number"),
        (values.parse_shard, f"1/{'9' * 400}", "I/N"),
        (values.parse_count, "9" * 5000, "integer"),
        (values.parse_size, f"{'9' * 5000}G", "size"),
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
    chosen = resolved("--qnn-eps=8/255")
    assert (chosen.eps, chosen.seed) == ((8 / 255,), 7)


def test_paths_are_relative_to_where_they_were_written(
    pytester: pytest.Pytester, resolved, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\nqnn_data = data/test.npz\nqnn_model = m.tflite\n")
    folder = pytester.mkdir("sub")
    monkeypatch.chdir(folder)
    chosen = resolved("--qnn-int8", "b.tflite")
    assert chosen.data == str(pytester.path / "data" / "test.npz")
    assert chosen.model == pytester.path / "m.tflite"
    assert chosen.int8 == folder / "b.tflite"


@pytest.mark.parametrize("source", ["package.data:load", "digits"])
def test_source_that_is_no_path_stays_as_it_is(resolved, source: str) -> None:
    assert resolved(f"--qnn-data={source}").data == source


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model's path that pytest takes for a test path: it looks for its ini file over there."""
    path = tmp_path_factory.mktemp("models") / "m.tflite"
    path.write_bytes(b"")
    return str(path)


INI_FILES = {
    "pytest.ini": "[pytest]",
    ".pytest.ini": "[pytest]",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}

INI_LINES = """
qnn_samples = 12
qnn_eps = 8/255
qnn_no_cache = true
qnn_update =
qnn_attack = pgd,fgsm
qnn_allow =
  new
  stale, vanished
qnn_min_accuracy =
  int8:0.5,
  int16:0.4
"""
INI_VALUES = {
    "samples": 12,
    "eps": (8 / 255,),
    "no_cache": True,
    "update": False,
    "attacks": ("pgd", "fgsm"),
    "allow": ("new", "stale", "vanished"),
    "min_accuracy": (Threshold("int8", 0.5), Threshold("int16", 0.4)),
}


@pytest.mark.parametrize("file", INI_FILES)
def test_spellings_of_ini_files(resolved, elsewhere: str, file: str) -> None:
    Path(file).write_text(f"{INI_FILES[file]}{INI_LINES}")
    assert resolved() == options.Options(**INI_VALUES)
    beside_the_user = resolved("--qnn-int8", elsewhere)
    assert beside_the_user == options.Options(**INI_VALUES, int8=Path(elsewhere), gate=True)


def test_one_defence_a_line(pytester: pytest.Pytester, resolved) -> None:
    lines = "qnn_model = m.tflite\nqnn_defended =\n  sat=a.h5, b.tflite\n  trades=c.tflite\n"
    pytester.makeini(f"[pytest]\n{lines}")
    a, b, c = (pytester.path / name for name in ("a.h5", "b.tflite", "c.tflite"))
    assert resolved().defended == (DefendedFiles("sat", (a, b)), DefendedFiles("trades", (c,)))


TOML_FILES = {
    "pyproject.toml in ini mode": "[tool.pytest.ini_options]",
    "pyproject.toml": "[tool.pytest]",
    "pytest.toml": "[pytest]",
    ".pytest.toml": "[pytest]",
}

TOML_LINES = {
    "types of TOML": """
qnn_samples = 50
qnn_eps = 0.03
qnn_domain = [0, 255]
qnn_no_cache = true
qnn_update = false
qnn_jobs = -1
qnn_cache_size = 2147483648
qnn_squeeze = [4, 2]
qnn_attack = ["pgd", "fgsm"]
qnn_allow = []
qnn_min_accuracy = ["int8:0.5", "int16:0.4"]
qnn_fail_if = ["accuracy:-3pt", "int8:distance:-10%"]
""",
    "text": """
qnn_samples = "50"
qnn_eps = "3/100"
qnn_domain = "0,255"
qnn_no_cache = "yes"
qnn_update = ""
qnn_jobs = "all"
qnn_cache_size = "2G"
qnn_squeeze = "4,2"
qnn_attack = "pgd,fgsm"
qnn_allow = ""
qnn_min_accuracy = "int8:0.5,int16:0.4"
qnn_fail_if = "accuracy:-3pt,int8:distance:-10%"
""",
}
TOML_VALUES = {
    "samples": 50,
    "eps": (0.03,),
    "domain": (0.0, 255.0),
    "no_cache": True,
    "update": False,
    "jobs": -1,
    "cache_size": 2 * 1024**3,
    "squeeze": Squeezing(4, 2),
    "attacks": ("pgd", "fgsm"),
    "allow": (),
    "min_accuracy": (Threshold("int8", 0.5), Threshold("int16", 0.4)),
    "fail_if": Limits((LossLimit("", "accuracy", 0.03), LossLimit("int8", "distance", 0.1))),
}


@pytest.mark.parametrize("file", TOML_FILES)
@pytest.mark.parametrize("spelling", TOML_LINES)
def test_spellings_of_toml_files(resolved, elsewhere: str, file: str, spelling: str) -> None:
    Path(file.split()[0]).write_text(f"{TOML_FILES[file]}{TOML_LINES[spelling]}")
    assert resolved() == options.Options(**TOML_VALUES)
    beside_the_user = resolved("--qnn-int8", elsewhere)
    assert beside_the_user == options.Options(**TOML_VALUES, int8=Path(elsewhere), gate=True)


def test_one_number_for_a_list(pytester: pytest.Pytester, resolved) -> None:
    pytester.makepyprojecttoml("[tool.pytest]\nqnn_min_accuracy = 0.5\n")
    assert resolved().min_accuracy == (Threshold("", 0.5),)


@pytest.mark.parametrize("file", TOML_FILES)
def test_files_of_a_toml_list_lie_beside_it(
    pytester: pytest.Pytester, resolved, elsewhere: str, file: str
) -> None:
    lines = 'qnn_data = "test.npz"\nqnn_defended = ["sat=a.h5,b.tflite", "trades=c.tflite"]'
    Path(file.split()[0]).write_text(f"{TOML_FILES[file]}\n{lines}\n")
    a, b, c = (pytester.path / name for name in ("a.h5", "b.tflite", "c.tflite"))
    chosen = resolved("--qnn-int8", elsewhere)
    assert chosen.data == str(pytester.path / "test.npz")
    assert chosen.defended == (DefendedFiles("sat", (a, b)), DefendedFiles("trades", (c,)))


def test_file_of_the_user_own_name(pytester: pytest.Pytester, resolved) -> None:
    table = "[pytest]" if pytest.version_tuple >= (9, 2) else "[tool.pytest.ini_options]"
    Path("mine.toml").write_text(f"{table}\nqnn_samples = 12\n")
    assert resolved("-c", "mine.toml").samples == 12


@pytest.mark.parametrize("file", TOML_FILES)
def test_override_on_the_command_line_wins_over_the_file(
    pytester: pytest.Pytester, resolved, file: str
) -> None:
    lines = "qnn_samples = 50\nqnn_seed = 7\nqnn_sequential = true"
    Path(file.split()[0]).write_text(f"{TOML_FILES[file]}\n{lines}\n")
    chosen = resolved("-o", "qnn_samples=12", "-o", "qnn_sequential=false")
    assert (chosen.samples, chosen.seed, chosen.sequential) == (12, 7, False)


def test_types_of_the_ini_keys(pytester: pytest.Pytester, resolved) -> None:
    pytester.makepyprojecttoml(
        '[tool.pytest.ini_options]\nqnn_sequential = true\nqnn_attack = ["pgd", "fgsm"]\n'
    )
    resolved()
    config = pytester.parseconfig()
    assert config.getini("qnn_sequential") is True
    assert config.getini("qnn_attack") == ["pgd", "fgsm"]
    assert config.getini("qnn_eps") is None


def test_a_model_starts_the_gate_wherever_it_is_named(pytester, resolved) -> None:
    assert not resolved("--qnn-data=d.npz").gate
    assert resolved("--qnn-int16=m.tflite").gate
    pytester.makeini("[pytest]\nqnn_model = m.tflite\nqnn_demo = false\n")
    assert resolved("--qnn-data=d.npz").gate


def test_demo_brings_its_own_data(resolved) -> None:
    with pytest.raises(pytest.UsageError, match="drop --qnn-data"):
        resolved("--qnn-demo", "--qnn-data=d.npz")


RECORDED = {
    "model": None, "float32": None, "int16": None, "int8": None, "demo": False, "data": None,
    "quantizer": None, "calibration": None, "profile": "smoke", "samples": None, "seed": 0,
    "attacks": None, "eps": None, "domain": None, "runtime": "tflm",
    "scale_arithmetic": "double", "min_accuracy": [], "alpha": 0.05, "margin": 0.02,
    "drop": 0.2, "defended": [], "squeeze": None, "findings": "report", "time_budget": None,
    "gradient": None, "probe_steps": 1, "cache_dir": None, "jobs": None, "shard": None,
    "no_cache": False, "cache_size": None, "baseline": None, "update": False,
    "update_new": False, "fail_if": {"rules": []}, "allow": [], "inconclusive": "warn",
    "suppressions": None, "sequential": False, "report": None, "keep_examples": None,
    "gate": False,
}  # fmt: skip
"""The options of a run without any, as results.json and baselines of 0.1.0 have them."""


def test_json_of_the_defaults() -> None:
    values = options.Options().to_json()
    assert {name: values[name] for name in RECORDED} == RECORDED
    assert options.from_json(RECORDED) == {}


@pytest.mark.parametrize(
    ("matters", "names"),
    [
        (["models"], {"model", "float32", "int16", "int8", "demo", "defended"}),
        (["outcome"], {
            "data", "calibration", "demo", "profile", "samples", "seed", "eps", "domain",
            "runtime", "scale_arithmetic", "squeeze", "time_budget", "gradient", "probe_steps",
        }),
        (["threshold", "cache"], {"min_accuracy", "alpha", "cache_dir", "no_cache"}),
        (["here"], {
            "jobs", "shard", "cache_dir", "no_cache", "cache_size", "keep_examples", "baseline",
            "report",
        }),
    ],
)  # fmt: skip
def test_what_options_matter_for(matters, names: set[str]) -> None:
    assert set(options.names_that_matter_for(*matters)) >= names


def test_help_has_a_section_for_each_group_of_options(run) -> None:
    titles = ["models and data", "attacks", "gate", "report", "cache and workers"]
    text = run("--help").stdout.str().split("\n[pytest] configuration options")[0]
    sections = text.split("\nqnnrobust: ")[1:]
    assert [section.split(":\n")[0] for section in sections] == titles
    for title, section in zip(titles, sections, strict=True):
        own = section.split("\n\n")[0]
        flags = {
            line.split()[0].split("=")[0]
            for line in own.splitlines()
            if line.startswith("  --qnn-")
        }
        assert flags == {option.flag for option in options.OPTIONS if option.group == title}
