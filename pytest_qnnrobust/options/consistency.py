"""Rules between options: pytest.UsageError, one line with a cure, where two disagree."""

from __future__ import annotations

import pytest

from pytest_qnnrobust.options.declarations import OPTIONS, Options

BROUGHT_BY_DEMO = (
    "model", "float32", "int16", "int8", "data", "calibration", "domain", "defended",
)  # fmt: skip


def check(options: Options) -> None:
    """Raise pytest.UsageError for the first disagreement."""
    _check_defended(options)
    _check_cache(options)
    _check_baseline(options)
    _check_shard(options)
    _check_sequential(options)
    _check_demo(options)


def _check_defended(options: Options) -> None:
    names = [files.name for files in options.defended]
    for name in set(names) & {"squeezed", "squeezing"}:
        raise pytest.UsageError(f"--qnn-defended {name}: the name stands for --qnn-squeeze here")
    if len(set(names)) < len(names):
        raise pytest.UsageError(f"expected --qnn-defended to name each defence once, got {names}")
    plain = (options.model, options.float32, options.int16, options.int8)
    if names and not options.demo and not any(plain):
        cure = "give the plain model as well, with --qnn-model or --qnn-float"
        raise pytest.UsageError(f"--qnn-defended {names[0]} is compared with a plain model; {cure}")


def _check_cache(options: Options) -> None:
    if options.cache_size and not (options.cache_dir or options.no_cache):
        raise pytest.UsageError("--qnn-cache-size needs --qnn-cache-dir DIR, the folder it limits")


def _check_baseline(options: Options) -> None:
    for flag, given in (("--qnn-update", options.update), ("--qnn-update-new", options.update_new)):
        if given and options.baseline is None:
            raise pytest.UsageError(f"{flag} needs --qnn-baseline FILE, the file to write")
    if options.update and options.update_new:
        raise pytest.UsageError("give --qnn-update (all cells) or --qnn-update-new, not both")
    if options.baseline and not options.update and not options.baseline.is_file():
        cure = "record one with --qnn-update"
        raise pytest.UsageError(f"expected a baseline, got path={str(options.baseline)!r}; {cure}")


def _check_shard(options: Options) -> None:
    if options.shard is None:
        return
    if options.baseline is not None:
        cure = "give the baseline to `qnnrobust merge`"
        raise pytest.UsageError(f"--qnn-shard has not all cells of --qnn-baseline; {cure}")
    if options.gate and options.report is None:
        cure = "give --qnn-report DIR"
        raise pytest.UsageError(f"--qnn-shard is for `qnnrobust merge`; {cure}")


def _check_sequential(options: Options) -> None:
    is_held = options.min_accuracy or options.baseline
    if options.gate and options.sequential and not is_held:
        cure = "give --qnn-min-accuracy or --qnn-baseline"
        raise pytest.UsageError(f"--qnn-sequential stops a cell at what it is held to; {cure}")
    if options.sequential and any("worst" in limit.pattern for limit in options.min_accuracy):
        cure = "leave out one of them"
        raise pytest.UsageError(
            f"--qnn-sequential stops cells one by one, which leaves no worst case of them; {cure}"
        )


def _check_demo(options: Options) -> None:
    if not (options.demo and options.gate):
        return
    for option in OPTIONS:
        if option.field in BROUGHT_BY_DEMO and getattr(options, option.field):
            cure = f"drop {option.flag}"
            raise pytest.UsageError(f"--qnn-demo brings its own models and data; {cure}")
