"""One attack by one library over the same images: run, time, grade, keep as JSON."""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import metrics
from pytest_qnnrobust.attacks import Attack, AttackResult, FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry import grids
from pytest_qnnrobust.models.base import Model

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Generate = Callable[[Images, Labels], Images]
NORMS = ("l0", "l1", "l2", "linf")
PROBE = 16
"""Images of the last estimate of a peer's speed."""

TIMES, ENOUGH = 5, 20.0
"""A run is made again up to so many times, or until that many seconds are spent; the fastest
counts. One interruption by the machine would be a third of a run of FGSM."""


class PeerTimeout(BaseException):
    """A peer ran far beyond its estimate; no `except Exception` of a library keeps this."""


@dataclass(frozen=True)
class Case:
    """An attack's input: a model, images with labels, the seed."""

    model: Model
    x: Images
    y: Labels
    seed: int

    def seen(self, x_adv: Images, clean: Images, attack: Attack) -> Images:
        """A peer's images as the model sees them: on its input grid, still within the budget.

        Rounded to the nearest step, an Linf budget of 3.8 steps would let a peer move 4.
        """
        grid = self.model.grid
        if grid is None:
            return x_adv
        if not isinstance(attack, FixedBudgetAttack):
            return grid.snap(x_adv)
        ball = (attack.norm, attack.eps, self.model.bounds, grid)
        return grids.project_to_grid(x_adv, clean, *ball)

    def first(self, images: int) -> Case:
        return replace(self, x=self.x[:images], y=self.y[:images])

    @property
    def correct(self) -> NDArray[np.bool_]:
        return np.asarray(self.model.classify(self.x) == self.y)


@dataclass
class Counter:
    """Inputs that a peer evaluated, and inputs that it differentiated (once for each class)."""

    queries: int = 0
    gradients: int = 0


@dataclass(frozen=True)
class Peer:
    """An attack of another library: `generate`, what `counter` saw it ask, and who decides.

    `judge`: the decisions of the model that it attacked, where that is not ours.
    """

    generate: Generate
    counter: Counter
    judge: Callable[[Images], Labels] | None = None


@dataclass(frozen=True)
class Measurement:
    """The outcome per image, and what it took; `error` where there is no outcome.

    `correct`: right before the attack, and thus attacked; `fooled`: wrong after it. Distances are
    those between `x_adv` and the clean image, 0 where an image was not attacked. `device`: the
    accuracy on our model of a peer that attacked the same file in another runtime.
    """

    attack: str
    library: str
    settings: str
    seed: int
    images: int = 0
    correct: list[bool] = field(default_factory=list)
    fooled: list[bool] = field(default_factory=list)
    distances: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    model_seconds: float | None = None
    queries: float | None = None
    gradients: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    device: float | None = None
    error: str = ""

    @property
    def accuracy(self) -> float:
        """The share of all images that are still classified correctly."""
        return (sum(self.correct) - sum(self.fooled)) / max(self.images, 1)

    @property
    def seconds_per_image(self) -> float:
        """Seconds per image that was attacked."""
        return self.seconds / max(sum(self.correct), 1)

    def mean(self, norm: str, over: str = "successes") -> float:
        chosen = np.asarray(self.fooled if over == "successes" else self.correct, bool)
        distances = np.asarray(self.distances[norm])[chosen]
        return float(distances.mean()) if len(distances) else float("nan")


class Store:
    """Measurements as JSON files in a folder, used again while their settings are the same.

    `fresh`: "ours" measures ours again, and "all" everything. Errors of ours are never kept.
    """

    def __init__(self, folder: Path, fresh: str) -> None:
        self._folder = folder
        self._fresh = fresh
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, wanted: dict[str, Any], measure: Callable[[], Measurement]) -> Measurement:
        """Read the measurement stored under `wanted` (attack, library, ...), or make it."""
        path = self._folder / f"{wanted['attack']}.{wanted['library']}.json".replace(":", "-")
        ours = wanted["library"].startswith("ours")
        if path.exists() and self._fresh != "all" and not (ours and self._fresh):
            stored = json.loads(path.read_text())
            earlier = Measurement(**stored["measurement"])
            if stored["wanted"] == wanted and not (ours and earlier.error):
                return earlier
        say(f"{wanted['attack']}: {wanted['library']} ...")
        made = measure()
        path.write_text(json.dumps({"wanted": wanted, "measurement": asdict(made)}))
        say(f"    {made.error or f'{made.images} images, {made.seconds:.1f} s'}")
        return made


def run_ours(case: Case, name: str, attack: Attack, library: str = "ours") -> Measurement:
    """Our attack on the images of `case`, after TensorFlow has traced and compiled."""
    warm_up(case, attack)
    result = fastest(partial(attack, case.model, case.x, case.y, seed=case.seed))
    correct = result.clean_label == case.y
    distances = {norm: np.where(correct, getattr(result, norm), 0.0).tolist() for norm in NORMS}
    return Measurement(
        attack=name,
        library=library,
        settings=repr(attack),
        seed=case.seed,
        images=len(case.x),
        correct=correct.tolist(),
        fooled=(correct & result.success).tolist(),
        distances=distances,
        seconds=result.seconds,
        model_seconds=getattr(result, "model_seconds", None),
        queries=float(result.queries.sum() / max(correct.sum(), 1)),
        gradients=float(result.gradients.sum() / max(correct.sum(), 1)),
    )


def fastest(run: Callable[[], AttackResult]) -> AttackResult:
    runs = [run()]
    runs += [run() for _ in range(further_runs(runs[0].seconds))]
    return min(runs, key=lambda done: done.seconds)


def further_runs(seconds: float) -> int:
    """The number of times that a run which took so long is made again."""
    return max(min(TIMES, int(ENOUGH / seconds)) - 1, 0)


def warm_up(case: Case, attack: Attack) -> None:
    """A run that is cut short: every kind of question is traced, and the batch sizes that count."""
    attack(case.model, case.x[:8], case.y[:8], seed=case.seed, query_budget=300)
    attack(case.model, case.x, case.y, seed=case.seed, query_budget=40)


def run_peer(
    case: Case, blank: Measurement, attack: Attack, make: Callable[[Attack], Peer], limit: float
) -> Measurement:
    """A peer on as many of the first images as it can do in about `limit` seconds."""
    correct = case.correct
    x, y = case.x[correct], case.y[correct]
    try:
        with alarm(3 * limit + 120), redirect_stderr(io.StringIO()):
            peer = make(attack)
            attacked = affordable(peer.generate, x, y, limit)
            np.random.seed(case.seed)
            peer.counter.queries = peer.counter.gradients = 0
            started = time.perf_counter()
            x_adv = np.asarray(peer.generate(x[:attacked].copy(), y[:attacked]), np.float32)
            seconds = time.perf_counter() - started
            queries, gradients = peer.counter.queries, peer.counter.gradients
            for _ in range(further_runs(seconds)):
                seconds = min(seconds, timed(peer.generate, x[:attacked], y[:attacked]))
    except PeerTimeout:
        return replace(blank, error=f"stopped after {3 * limit + 120:.0f} s")
    except Exception as error:
        return replace(blank, error=one_line(error))
    images = len(case.x) if attacked == len(x) else int(np.flatnonzero(correct)[attacked])
    graded_run = graded(case.first(images), blank, attack, x_adv, peer.judge)
    per_image = {"queries": queries / attacked, "gradients": gradients / attacked}
    return replace(graded_run, seconds=seconds, **per_image)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def affordable(generate: Generate, x: Images, y: Labels, limit: float) -> int:
    """The number of these images that a peer attacks in `limit` seconds, after it has traced.

    TensorFlow traces for the first batch and again for the second size; many attacks are cheaper
    in larger batches.
    """
    spent, each = 0.0, np.inf
    for size in (1, 2, 2, PROBE):
        if spent > limit / 3 or (size == PROBE and each * PROBE > limit / 2):
            break
        took = timed(generate, x[:size], y[:size])
        spent, each = spent + took, took / min(size, len(x))
    return max(1, min(len(x), int(limit / each)))


def timed(generate: Generate, x: Images, y: Labels) -> float:
    started = time.perf_counter()
    generate(x.copy(), y)
    return time.perf_counter() - started


def graded(
    case: Case,
    blank: Measurement,
    attack: Attack,
    x_adv: Images,
    judge: Callable[[Images], Labels] | None,
) -> Measurement:
    """The same grading as ours: what the model, asked again, misclassifies, and how far it is."""
    correct = case.correct
    clean = case.x if case.model.grid is None else case.model.grid.snap(case.x)
    moved = clean.copy()
    moved[correct] = case.seen(x_adv, clean[correct], attack)
    distances = metrics.distances(moved, clean)
    fooled = correct & ((judge or case.model.classify)(moved) != case.y)
    device = None if judge is None else float((case.model.classify(moved) == case.y).mean())
    return replace(
        blank,
        images=len(case.x),
        correct=correct.tolist(),
        fooled=fooled.tolist(),
        distances={norm: getattr(distances, norm).tolist() for norm in NORMS},
        device=device,
    )


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise PeerTimeout after so many seconds; Unix only."""

    def stop(*_: Any) -> NoReturn:
        raise PeerTimeout

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(max(1, int(seconds)))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
