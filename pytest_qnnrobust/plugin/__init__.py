"""The hooks of the pytest plugin. Nothing heavier than pytest is imported at start-up."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from pytest_qnnrobust import options
from pytest_qnnrobust.errors import FileChangedError
from pytest_qnnrobust.plugin import fixtures, gate_items
from pytest_qnnrobust.plugin.reporter import WORKEROUTPUT, Reporter, shell_command, write_reports
from pytest_qnnrobust.plugin.stash import (
    end_run,
    is_worker,
    options_key,
    quantizer_key,
    session_key,
    session_of,
    usable_quantizer,
    usage_errors,
)
from pytest_qnnrobust.plugin.suite import (
    GATE,
    LAWS,
    SUITE,
    SuiteModule,
    is_of_suite,
    names_tests,
    own_tests,
    requirements_beside,
    stay_in_this_folder,
    suite_argument,
    suite_modules,
    why_collected,
)

FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
MARKERS = (
    "qnn: test of a model's robustness",
    "qnn_clean: accuracy without an attack",
    "qnn_direct: attack on the model itself",
    "qnn_transfer: attack on the float model, its examples given to a quantized one",
    "qnn_defended: a network trained to resist attacks, beside the plain one",
    "qnn_squeezed: the networks behind feature squeezing",
    "qnn_takeaway: a published relation, judged on these models",
    "qnn_observation: a published relation of another paper, judged on these models",
    "qnn_sanity: keeps a weak attack from passing as robustness",
    "qnn_quantizer: law of a quantizer; needs no model",
    "qnn_law: law of the integer graph; needs no data",
    "qnn_compares: compares a network with its float version",
    "qnn_gate: requirement of the whole run, judged after all other tests",
    "qnn_together(attack): asks for cells of this attack, which --qnn-shard keeps together",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options and choose the tests; first, as pytest's cache lies in the root folder."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    others = named and not any(is_of_suite(argument) for argument in config.args)
    chosen = config.stash[options_key] = options.from_config(config, others)
    if chosen.jobs is not None and (is_worker(config) or config.getoption("numprocesses", None)):
        raise pytest.UsageError("expected one of --qnn-jobs and pytest-xdist's -n, got both")
    if not named:
        if any(argument.startswith("--qnn-") for argument in config.invocation_params.args):
            stay_in_this_folder(config)
        config.args = [*own_tests(config), *map(str, suite_modules(config))]
    else:
        config.args = [suite_argument(arg, config.invocation_params.dir) for arg in config.args]
        config.args += requirements_beside(config.args, chosen.gate)
    # Not by `pytest_plugins`: this module has imported them, which pytest warns of.
    config.pluginmanager.register(fixtures, "qnnrobust-fixtures")
    if not is_worker(config):
        config.pluginmanager.register(Reporter(config), "qnnrobust-reporter")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    config, chosen = session.config, session.config.stash[options_key]
    if is_worker(config):
        return
    if LAWS in suite_modules(config):
        with usage_errors():
            usable_quantizer(config)
    if chosen.gate:
        with usage_errors():
            session_of(config).load()
    if chosen.baseline or chosen.suppressions:
        with usage_errors():
            _ = session_of(config).held_to


def pytest_report_header(config: pytest.Config) -> list[str]:
    session, chosen = config.stash.get(session_key, None), config.stash[options_key]
    asked = quantizer_key in config.stash
    quantizer = [f"qnnrobust: quantizer {chosen.quantizer}"] if asked else []
    if session is None or not chosen.gate:
        return quantizer
    from pytest_qnnrobust.plugin import header

    verbose = config.get_verbosity() > 0
    return header.lines(session, why_collected(config), verbose) + quantizer


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    if module_path.parent != SUITE:
        return None
    nodeid = f"{SUITE.name}/{module_path.name}"
    kind = gate_items.GateModule if module_path == GATE else SuiteModule
    module: pytest.Module = kind.from_parent(parent, path=module_path, nodeid=nodeid)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, values in fixtures.PARAMETERS.items():
        if fixture in metafunc.fixturenames and not _is_parametrized(metafunc, fixture):
            metafunc.parametrize(fixture, values(metafunc.config), indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.parent == SUITE:
        item.location = (item.nodeid.split("::")[0], *item.location[1:])
        item.add_marker(pytest.mark.filterwarnings("ignore"))
    if any(name.startswith("qnn_") for name in getattr(item, "fixturenames", ())):
        item.add_marker("qnn")
    if isinstance(item, gate_items.GateItem):
        item.add_marker("qnn")
        item.add_marker("qnn_gate")


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Note that the user left out tests of the suite, other than those that nobody asked for."""
    for item in items:
        run = item.config.stash.get(session_key, None)
        is_attack = item.path.parent == SUITE and not isinstance(item, gate_items.GateItem)
        if is_attack and not (run and item.nodeid in run.gathered.skipped):
            item.config.stash[gate_items.deselected_key] = True
            return


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Note that a requirement was asked for; it is judged after all other tests."""
    if not isinstance(item, gate_items.GateItem):
        return None
    gate_items.note(item)
    return True


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Judge the requirements of the run when its tests are done, those of all workers.

    Last, as pytest writes [100%] where its own part of the loop ends.
    """
    result = yield
    config = session.config
    if session_key in config.stash and not (is_worker(config) or config.getoption("collectonly")):
        with usage_errors():
            gate_items.report(config, shell_command(config))
    return result


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.stash[options_key]
    if chosen.gate and session_key in config.stash:
        from pytest_qnnrobust.plugin import selection

        run = session_of(config)
        asked, left_out = selection.split(items, run, names_tests(config))
        run.gathered.skipped |= {item.nodeid: reason for item, reason in left_out.items()}
        items[:] = asked
        config.hook.pytest_deselected(items=list(left_out))
    if (shard := chosen.shard) is not None:
        from pytest_qnnrobust.plugin import sharding

        items[:], others = sharding.split(items, *shard)
        config.hook.pytest_deselected(items=others)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Say that the model is missing where flags are about a gate and nothing else was collected."""
    config = session.config
    chosen, asked = config.stash[options_key], options.flags_about_a_gate(config)
    narrowed = names_tests(config) or is_worker(config)
    if asked and not (session.items or chosen.gate or chosen.quantizer or narrowed):
        cure = "add --qnn-model FILE, or --qnn-demo"
        raise pytest.UsageError(f"{asked[0]} is about a gate, and no model is given; {cure}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """End the run where a file changed: what follows would be numbers of two files."""
    error = call.excinfo.value if call.excinfo else None
    if "qnn" in item.keywords and isinstance(error, FileChangedError):
        end_run(item.config, error)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    run = config.stash.get(session_key, None)
    if run is None or config.getoption("collectonly"):
        return
    if is_worker(config):
        config.workeroutput[WORKEROUTPUT] = run.to_json()  # type: ignore[attr-defined]
        return
    run.tidy_cache()
    if session.exitstatus in FINISHED:
        run.close(shell_command(config), session.exitstatus == pytest.ExitCode.OK)
        write_reports(run, session)


def _is_parametrized(metafunc: pytest.Metafunc, fixture: str) -> bool:
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0]
        names = names.split(",") if isinstance(names, str) else names
        if fixture in (name.strip() for name in names):
            return True
    return False
