"""Every law, run under hypothesis on one quantizer; a failure is the smallest counter-example."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.quantizers.base import QuantizerUnderTest, prepare
from pytest_qnnrobust.quantizers.claimed_laws import (
    FitInvariant,
    Nested,
    OnePiece,
    PerAxis,
    Rounding,
    Scale,
    Symmetric,
)
from pytest_qnnrobust.quantizers.laws import (
    Deterministic,
    ExactZero,
    Idempotent,
    Invariant,
    Law,
    Monotone,
    Range,
    RoundTrip,
    ShapeAndDtype,
    Violation,
)
from pytest_qnnrobust.quantizers.unbiased import RisingMean, Statistical, Unbiased

LAWS: tuple[Law, ...] = (
    ShapeAndDtype(),
    Range(),
    RoundTrip(),
    Monotone(),
    Idempotent(),
    ExactZero(),
    Scale(),
    PerAxis(),
    Rounding(),
    Symmetric(),
    Nested(),
    Invariant(),
    Deterministic(),
    Unbiased(),
    RisingMean(),
    FitInvariant(),
    OnePiece(),
)
EXAMPLES = 100
"""Examples of each law that hypothesis tries, its own default."""


@dataclass(frozen=True)
class Failure:
    """A law that does not hold, and the smallest counter-example that was found."""

    law: str
    formula: str
    violation: Violation

    def __str__(self) -> str:
        violation = self.violation
        size = f"off by {violation.size:.3g} {violation.unit}"
        heading = f"{self.law}: {self.formula}"
        return "\n  ".join([heading, violation.example, violation.found, size])


@dataclass(frozen=True)
class Report:
    """The laws that `held`, the reasons of those that do not apply, and the `failures`."""

    held: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    def __str__(self) -> str:
        count = len(self.held) + len(self.failures)
        heading = f"{len(self.failures)} of {count} laws do not hold"
        return "\n".join([heading, *map(str, self.failures)])


class QuantizerLawError(AssertionError):
    """Laws that a quantizer breaks, a few lines each; `report` has the rest."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report

    @property
    def failures(self) -> tuple[Failure, ...]:
        return self.report.failures


def check_quantizer(
    quantizer: Any,
    *,
    laws: Iterable[str] | None = None,
    max_examples: int = EXAMPLES,
    seed: int = 0,
    alpha: float = 1e-6,
    sample: NDArray[Any] | None = None,
) -> Report:
    """Check the laws that apply to a quantizer (see `Quantizer`), or only those named in `laws`.

    Hypothesis tries up to `max_examples` inputs a law; the same `seed` gives the same ones. `alpha`
    bounds the probability that a stochastic quantizer fails although it is unbiased, or, where it
    claims no more, although its mean rises. A quantizer whose scale depends on the tensor is fitted
    to `sample`, by default to 8 x 8 normal numbers unless it is `fitted`.

    Raises QuantizerLawError, with the smallest counter-example of each law that does not hold, and
    QnnRobustError for an object that is no quantizer and for an unknown law.
    """
    tested = prepare(quantizer, sample)
    report = Report()
    for law in _chosen(laws):
        outcome = examine(law, tested, max_examples=max_examples, seed=seed, alpha=alpha)
        if isinstance(outcome, Failure):
            report = replace(report, failures=(*report.failures, outcome))
        elif outcome:
            report = replace(report, skipped={**report.skipped, law.name: outcome})
        else:
            report = replace(report, held=(*report.held, law.name))
    if report.failures:
        raise QuantizerLawError(report)
    return report


def check_nested(coarse: Any, fine: Any, *, max_examples: int = EXAMPLES, seed: int = 0) -> Report:
    """Check that every bucket of `coarse` is a union of buckets of `fine`.

    Raises QuantizerLawError where one is not, and QnnRobustError where the scales do not nest.
    """
    law = Nested(fine)
    tested = prepare(coarse)
    if reason := law.excuse(tested):
        cure = "the coarse step has to be an odd number of fine steps"
        raise expected("quantizers whose buckets can nest", reason=reason, cure=cure)
    outcome = examine(law, tested, max_examples=max_examples, seed=seed)
    if isinstance(outcome, Failure):
        raise QuantizerLawError(Report(failures=(outcome,)))
    return Report(held=(law.name,))


def examine(
    law: Law,
    tested: QuantizerUnderTest,
    *,
    max_examples: int = EXAMPLES,
    seed: int = 0,
    alpha: float | None = None,
) -> Failure | str:
    """Check one law: its failure, the reason why it does not apply, or "" where it holds."""
    if isinstance(law, Statistical):
        law = replace(law, seed=seed, alpha=law.alpha if alpha is None else alpha)
    with np.errstate(all="ignore"):
        try:
            if reason := law.excuse(tested):
                return reason
            probes = law.probes(tested)
        except Exception as error:
            return Failure(law.name, law.formula, _raised(error, "before any input"))
        violation = _smallest(law, tested, probes, max_examples, seed)
    return "" if violation is None else Failure(law.name, law.formula, violation)


def _smallest(
    law: Law, tested: QuantizerUnderTest, probes: Any, max_examples: int, seed: int
) -> Violation | None:
    """The smallest violation of the law that hypothesis finds; None where it finds none."""
    import hypothesis
    from hypothesis.errors import Flaky, HypothesisException

    seen: list[Violation] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(probes)
    def holds(probe: Any) -> None:
        try:
            violation = law.violation(tested, probe)
        except Exception as error:
            violation = _raised(error, _shown(probe))
        if violation is not None:
            seen.append(violation)
            raise _ViolatedError

    try:
        holds()
    except (_ViolatedError, Flaky):
        # Hypothesis runs the smallest example last. One that draws without its generator is flaky.
        return seen[-1]
    except HypothesisException:
        raise
    except Exception as error:
        return _raised(error, "an input made from what codes stand for")
    return None


class _ViolatedError(Exception):
    """Tells hypothesis that an example is a counter-example."""


def _raised(error: Exception, example: str) -> Violation:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return Violation(" ".join(example.split())[:200], f"raised {text[:300]}", 1, "exception")


def _shown(probe: Any) -> str:
    first = probe[0] if isinstance(probe, tuple) else probe
    if isinstance(first, np.ndarray):
        return f"x = np.array({first.tolist()}, np.{first.dtype})"
    return f"k = {first}"


def _chosen(names: Iterable[str] | None) -> list[Law]:
    by_name = {law.name: law for law in LAWS}
    names = list(by_name) if names is None else [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in by_name:
            raise expected(f"laws among {', '.join(by_name)}", law=name)
    return [by_name[name] for name in names]
