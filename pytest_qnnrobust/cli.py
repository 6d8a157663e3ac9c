"""The console script `qnnrobust`: what is done without pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest_qnnrobust
from pytest_qnnrobust import disk, options
from pytest_qnnrobust.errors import OutputError, QnnRobustError, expected
from pytest_qnnrobust.options import OPTIONS, names_that_matter_for
from pytest_qnnrobust.options.values import Limit, parse_attacks, parse_count

USAGE_ERROR = 4
INTERRUPTED = 2
VIOLATED = 1
"""pytest's own exit codes."""

COMPARE_OPTIONS = ("fail_if", "allow", "inconclusive", "suppressions", "alpha")

MERGE_OPTIONS = ("baseline", "update", "update_new", *COMPARE_OPTIONS)

TABLE_OPTIONS = (
    "float32", "int16", "int8", "data", "calibration", "demo", "defended", "squeeze", "profile",
    "samples", "seed", "domain", "runtime", "scale_arithmetic", "cache_dir",
)  # fmt: skip
"""The options of the plugin that `tables` has too, without `qnn-` in the flag."""

REPLAY_OPTIONS = (
    *names_that_matter_for("models", "outcome", "threshold", "cache"), "cache_size",
    "keep_examples",
)  # fmt: skip
REPLAY_EXAMPLES_OPTIONS = (
    "model", "float32", "int16", "int8", "data", "defended", "squeeze", "domain", "runtime",
    "scale_arithmetic", "fail_if", "alpha", "inconclusive", "suppressions",
)  # fmt: skip
"""The options of the two forms of `replay`."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print the version and the engine of integer models; only then the core is loaded."""
        from pytest_qnnrobust.tflite import native

        try:
            core, why = native.library(), native.missing()
        except QnnRobustError as error:
            parser.error(str(error))
        engine = f"native core: {core.isa}" if core else f"no native core: NumPy kernels; {why}"
        print(f"qnnrobust {pytest_qnnrobust.__version__} ({engine})")
        raise SystemExit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 4 for a user's mistake, which is one line on stderr."""
    parser = _Parser(prog="qnnrobust", description=__doc__, allow_abbrev=False)
    help_text = "print the version, the engine and its instruction set"
    parser.add_argument("--version", action=_Version, nargs=0, help=help_text)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_tables(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_merge(commands)
    _add_replay(commands)
    chosen = parser.parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except QnnRobustError as error:
        text = str(error).replace("--qnn-", "--")
        print(f"qnnrobust {chosen.command}: error: {text}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        again = "; what is finished is in the cache" if chosen.command == "tables" else ""
        print(f"qnnrobust {chosen.command}: interrupted{again}", file=sys.stderr)
        return INTERRUPTED


def _add_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    for option in OPTIONS:
        if option.field in names:
            option.add_to_command(parser)


def _add_tables(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "tables",
        allow_abbrev=False,
        help='the tables and Figure 1 of "David and Goliath" for the models at hand',
        description=(
            'Measure Tables 4, 5, 6, 8, 10, 11, 16 and 17 (9 is their L2) and Figure 1 of "David '
            'and Goliath", each cell beside the published one, as CSV, Markdown, LaTeX and PNG. '
            "A run that was interrupted goes on where it stopped."
        ),
    )
    _add_options(parser, TABLE_OPTIONS)
    parser.set_defaults(profile="goliath-cifar10", run=_tables)
    parser.add_argument(
        "--tables",
        metavar="N[,N...]",
        type=_parse_tables,
        help="only these, figure-1 and grids among them; default: all that there are models for",
    )
    parser.add_argument("--no-figures", action="store_true", help="no pictures")
    parser.add_argument(
        "--published",
        type=Path,
        metavar="CSV",
        help="figures to compare with: columns source, dataset, defence, mode, attack, model, "
        "adversarial_accuracy_pct, l0, l1, l2, linf",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="which data set of the published figures; default: the only one",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        type=_parse_limit,
        metavar="[TABLE:]ATTACK=N",
        help="attack the first N samples only with this attack, such as boundary=200 or "
        "16-17:*=200; several times for several, of which the first that fits counts",
    )
    parser.add_argument(
        "--predicted-labels",
        default=(),
        type=_parse_labelled,
        metavar="ID[,ID...]",
        help="give these attacks the decisions of the network that they attack as labels, as ART "
        "does where it is given none: images that are wrong already are moved, too, and some "
        "become right; as published: deepfool,boundary,geoda",
    )
    parser.add_argument(
        "--processes", default=1, type=parse_count, metavar="N", help="work side by side; default 1"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("qnnrobust-tables"),
        metavar="DIR",
        help="where the files go, and the cache unless --cache-dir says another folder",
    )


def _add_report(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "report",
        help="report.html and summary.md of a results.json",
        description="Render results.json again: report.html and summary.md, beside it or in DIR.",
    )
    parser.add_argument("results", type=Path, help="what --qnn-report wrote, or a baseline")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: the file's folder")
    parser.set_defaults(run=_report)


def _add_compare(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "compare",
        help="two results.json, as --qnn-baseline compares them",
        description=(
            "Compare a run with a recorded one, cell by cell on the same images. Exit code 1 "
            "where a cell is worse than its limit or cannot be compared."
        ),
    )
    parser.add_argument("recorded", type=Path, help="the baseline")
    parser.add_argument("current", type=Path, help="the run that is held to it")
    _add_options(parser, COMPARE_OPTIONS)
    parser.set_defaults(run=_compare)


def _add_merge(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "merge",
        help="the parts of a --qnn-shard run as one, and its gate",
        description=(
            "Join the results.json of every part of a --qnn-shard run into one, with report.html "
            "and summary.md, and compare it with a baseline. Exit code 1 where a test of a part "
            "failed or a cell is worse than its limit."
        ),
    )
    parser.add_argument("parts", type=Path, nargs="+", help="each part's results.json")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    _add_options(parser, MERGE_OPTIONS)
    parser.set_defaults(run=_merge)


def _add_replay(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "replay",
        allow_abbrev=False,
        help="one cell again, or kept examples given to a new model",
        description=(
            "CELL: attack again, in one cell by its id, such as int8-square-linf-direct. "
            "--examples DIR: give examples that --qnn-keep-examples wrote to a new model, in "
            "seconds; they were made for another one, so green is necessary and not sufficient. "
            "Exit code 1 where a cell is below its threshold, worse than its limit, or not as "
            "recorded."
        ),
    )
    parser.add_argument("cell_id", nargs="?", metavar="CELL", help="the id of the cell to run")
    parser.add_argument(
        "--from",
        dest="recorded",
        type=Path,
        metavar="RESULTS",
        help="the results.json, or baseline, whose options are taken and whose outcome of CELL "
        "must come out again, sample by sample; options given here win",
    )
    parser.add_argument(
        "--examples", type=Path, metavar="DIR", help="what --qnn-keep-examples wrote"
    )
    parser.add_argument(
        "--cell", metavar="PATTERN", help="of --examples only the cells whose id contains this"
    )
    _add_options(parser, (*REPLAY_OPTIONS, *REPLAY_EXAMPLES_OPTIONS))
    parser.set_defaults(run=_replay)


def _report(chosen: argparse.Namespace) -> int:
    from pytest_qnnrobust.report import files
    from pytest_qnnrobust.report.matrix import failures
    from pytest_qnnrobust.results import document

    results = document.read(chosen.results)
    folder = chosen.output or chosen.results.parent
    with disk.writing("--output", "folder", folder):
        for path in files.render(folder, results, not failures(results)):
            print(f"wrote {path}")
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    from pytest_qnnrobust.gate.gate import judge, read_held_to
    from pytest_qnnrobust.results import document

    settings = _options(chosen, COMPARE_OPTIONS)
    held_to = replace(read_held_to(settings), results=document.read(chosen.recorded))
    gate = judge(held_to, document.read(chosen.current), settings)
    print(gate.counts, *gate.lines, sep="\n")
    return VIOLATED if gate.problems else 0


def _merge(chosen: argparse.Namespace) -> int:
    from pytest_qnnrobust.gate.gate import judge, read_held_to, update_baseline
    from pytest_qnnrobust.gate.requirements import judge_all, plan_of, requirements
    from pytest_qnnrobust.report import files
    from pytest_qnnrobust.report.matrix import failures
    from pytest_qnnrobust.results import document, headline, merge
    from pytest_qnnrobust.run import outputs

    settings = _options(chosen, MERGE_OPTIONS)
    report = outputs.Output("--output", "folder", chosen.output)
    new_baseline = outputs.new_baseline(settings)
    for output in filter(None, (report, new_baseline)):
        output.try_out()
    results = merge.merge([document.read(path) for path in chosen.parts])
    held_to = read_held_to(settings)
    gate = judge(held_to, results, settings)
    if held_to.results is not None:
        results = replace(results, comparison=gate.records)
        print(gate.counts, *gate.lines, sep="\n")
    of_run = options.from_json(results.options)
    held = replace(options.Options(**of_run), **{n: getattr(settings, n) for n in MERGE_OPTIONS})
    asked = requirements(held, held_to, plan_of(results))
    judged, every = judge_all(asked, results, gate, held_to, held)
    results = replace(results, requirements=tuple(every))
    violated = [r for r in judged if r.value == "violated" and not r.accepted]
    failed = failures(results)
    passed = not (failed or gate.problems or violated)
    results = headline.told(results, passed)
    for test in results.failed:
        print(f"FAILED: {test}")
    for record in violated:
        print(f"FAILED: {record.name}: {record.text}")
    print(*results.headline, sep="\n")
    with report.writing():
        for path in files.write(chosen.output, results, passed):
            print(f"wrote {path}")
    if new_baseline is not None:
        with new_baseline.writing():
            update_baseline(held_to, results, settings)
            print(f"wrote {new_baseline.path}")
    return 0 if passed else VIOLATED


def _replay(chosen: argparse.Namespace) -> int:
    if (chosen.cell_id is None) == (chosen.examples is None):
        raise expected("either CELL or --examples DIR", cell=chosen.cell_id)
    if chosen.examples is None:
        given = _given(chosen, REPLAY_OPTIONS, {"cell": "--cell"})
        from pytest_qnnrobust.results import document
        from pytest_qnnrobust.run import replay

        recorded = document.read(chosen.recorded) if chosen.recorded else None
        replayed = replay.run(chosen.cell_id, given, Path.cwd(), recorded)
    else:
        given = _given(chosen, REPLAY_EXAMPLES_OPTIONS, {"recorded": "--from"})
        from pytest_qnnrobust.run import replay_examples

        replayed = replay_examples.run(chosen.examples, chosen.cell or "", given, Path.cwd())
    print(*replayed.lines, sep="\n")
    if replayed.unwritten:
        raise OutputError(replayed.unwritten)
    return 0 if replayed.passed else VIOLATED


def _given(
    chosen: argparse.Namespace, names: Sequence[str], others: dict[str, str]
) -> dict[str, Any]:
    """Values of the options of this form of `replay`, by name.

    Raises QnnRobustError for one of the other form; `others` are flags that are no options.
    """
    flags = {option.field: option.flag for option in OPTIONS} | others
    meaningless = {*REPLAY_OPTIONS, *REPLAY_EXAMPLES_OPTIONS, *others} - set(names)
    for name in sorted(meaningless):
        value = getattr(chosen, name)
        if value is not None and value is not False:
            form = "CELL" if chosen.examples is None else "--examples"
            raise expected(f"no {flags[name]} with {form}, for which it means nothing")
    return _values(chosen, names)


def _tables(chosen: argparse.Namespace) -> int:
    from pytest_qnnrobust.tables import published, run
    from pytest_qnnrobust.tables.cells import PICTURES, TABLES
    from pytest_qnnrobust.tables.measure import Conditions

    if chosen.cache_dir is None:
        chosen.cache_dir = chosen.output / "cache"
    settings = _options(chosen, TABLE_OPTIONS)
    if not (settings.demo or settings.float32):
        cure = "all tables need examples for a float network"
        raise expected("--float FILE", float=None, cure=cure)
    figures = published.read(chosen.published, chosen.dataset) if chosen.published else None
    request = run.Request(
        options=settings,
        output=chosen.output,
        tables=chosen.tables or (*TABLES, *PICTURES),
        figures=not chosen.no_figures,
        published=figures,
        conditions=Conditions(tuple(chosen.limit), chosen.predicted_labels),
        processes=chosen.processes,
    )
    for path in run.make(request):
        print(f"wrote {path}")
    return 0


def _options(chosen: argparse.Namespace, names: Sequence[str]) -> options.Options:
    return options.from_command(_values(chosen, names), Path.cwd())


def _values(chosen: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in names}


def _parse_tables(text: str) -> tuple[str, ...]:
    tables = tuple(part.strip() for part in text.split(",") if part.strip())
    if not tables:
        raise argparse.ArgumentTypeError("expected tables such as 5,6, got none")
    return tables


def _parse_labelled(text: str) -> tuple[str, ...]:
    from pytest_qnnrobust.tables.cells import DIRECT, WHITE_BOX

    ids = parse_attacks(text)
    for name in ids:
        if name not in (*WHITE_BOX, *DIRECT):
            among = ", ".join((*WHITE_BOX, *DIRECT))
            raise argparse.ArgumentTypeError(f"expected attacks among {among}, got {name!r}")
    return ids


def _parse_limit(text: str) -> Limit:
    """`boundary=200`, `16-17:boundary=200` or `16-17:*=200`."""
    from pytest_qnnrobust import attacks
    from pytest_qnnrobust.tables.cells import PICTURES, SAME, TABLES

    pattern, _, number = text.partition("=")
    table, colon, attack = pattern.rpartition(":")
    is_known = attack == "*" or attacks.is_known(attack)
    table = SAME.get(table, table)
    if not is_known or (colon and table not in (*TABLES, *PICTURES)):
        rule = "expected [TABLE:]ATTACK=N such as boundary=200 or 16-17:*=200"
        raise argparse.ArgumentTypeError(f"{rule}, got {text!r}")
    return Limit(table, attack, parse_count(number))


if __name__ == "__main__":
    raise SystemExit(main())
