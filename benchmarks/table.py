"""The Markdown tables of a benchmark: every row, the verdict on each attack, the total."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.measure import NORMS, Measurement

ROWS = ["attack", "library", "images", "adv. accuracy"]
ROWS += ["L0", "L1", "L2", "Linf", "L0 all", "L1 all", "L2 all", "Linf all"]
ROWS += ["queries", "gradients", "seconds", "s/image", "ours / it: s/image"]

VERDICTS = ["attack", "norm", "accuracy - best peer's", "distortion / peer's"]
VERDICTS += ["same, both fooled", "times ART's speed", "outside the model", "verdict"]

ACCURACY_SLACK = 0.01
DISTORTION_SLACK = 1.05
SPEED_UP = 10.0
TOTAL_SPEED_UP = 30.0
OUTSIDE = 0.15


@dataclass(frozen=True)
class Comparison:
    """One attack: ours on all images, each peer, and ours on the images of that peer."""

    attack: str
    norm: str
    minimal: bool
    ours: Measurement
    peers: list[tuple[Measurement, Measurement]]

    @property
    def finished(self) -> list[tuple[Measurement, Measurement]]:
        return [pair for pair in self.peers if not pair[0].error and not pair[1].error]

    @property
    def art(self) -> Measurement | None:
        return next((peer for peer, _ in self.finished if peer.library == "ART"), None)

    @property
    def accuracy_difference(self) -> float:
        """Ours minus the better peer's, on that peer's images; NaN without a peer."""
        differences = [ours.accuracy - peer.accuracy for peer, ours in self.finished]
        return max(differences, default=float("nan"))

    def distortion(self, both: bool) -> float:
        """Ours over the peer's in the attack's own norm, the largest over the peers."""
        ratios = [distortion_ratio(ours, peer, self.norm, both) for peer, ours in self.finished]
        return max((ratio for ratio in ratios if np.isfinite(ratio)), default=float("nan"))

    @property
    def speed_up(self) -> float:
        """ART's seconds per image over ours, which is over all images."""
        if self.art is None or self.ours.error:
            return float("nan")
        return self.art.seconds_per_image / self.ours.seconds_per_image

    @property
    def outside(self) -> float:
        """The share of our wall time that is not the model's."""
        if self.ours.error or self.ours.model_seconds is None:
            return float("nan")
        return 1 - self.ours.model_seconds / self.ours.seconds

    @property
    def failures(self) -> list[str]:
        """The requirements that are missed, in a word each; a number that is NaN misses none."""
        if self.ours.error:
            return [self.ours.error]
        missed = []
        if self.accuracy_difference > ACCURACY_SLACK + 1e-9:
            missed.append("weaker")
        if self.minimal and self.distortion(both=True) > DISTORTION_SLACK:
            missed.append("farther")
        if self.speed_up < SPEED_UP:
            missed.append("slow")
        if self.outside > OUTSIDE:
            missed.append("overhead")
        return missed


def distortion_ratio(ours: Measurement, peer: Measurement, norm: str, both: bool) -> float:
    """Mean distance, ours over the peer's: over the images each fooled, or that both fooled."""
    if not both:
        theirs = peer.mean(norm)
        return ours.mean(norm) / theirs if theirs else float("nan")
    shared = np.asarray(ours.fooled) & np.asarray(peer.fooled)
    if not shared.any():
        return float("nan")
    mine, theirs = (float(np.asarray(m.distances[norm])[shared].mean()) for m in (ours, peer))
    return mine / theirs if theirs else float("nan")


def markdown(comparisons: list[Comparison]) -> str:
    """All tables."""
    rows = [cells for comparison in comparisons for cells in measured(comparison)]
    verdicts = [verdict(comparison) for comparison in comparisons]
    parts = [table(ROWS, rows), table(VERDICTS, [*verdicts, total(comparisons)])]
    stages = [
        f"{c.attack}: " + ", ".join(f"{k} {v:.1%}" for k, v in c.ours.stages.items())
        for c in comparisons
        if c.ours.stages
    ]
    if stages:
        parts.append("Accuracy left after each stage: " + "; ".join(stages) + ".")
    return "\n\n".join(parts) + "\n"


def measured(comparison: Comparison) -> list[list[str]]:
    rows = [row(comparison.ours, comparison.attack, "")]
    for peer, ours in comparison.peers:
        ratio = ""
        if not peer.error and not ours.error:
            speed_up = peer.seconds_per_image / ours.seconds_per_image
            ratio = f"{speed_up:.1f}x on the same images"
        if not peer.error and ours.images != comparison.ours.images:
            rows.append(row(ours, "", ""))
        rows.append(row(peer, "", ratio))
    return rows


def row(result: Measurement, attack: str, ratio: str) -> list[str]:
    if result.error:
        return [attack, result.library, result.error, *[""] * (len(ROWS) - 3)]
    distances = [number(result.mean(norm, over)) for over in ("successes", "all") for norm in NORMS]
    counts = ["" if c is None else f"{c:.0f}" for c in (result.queries, result.gradients)]
    times = [f"{result.seconds:.1f}", f"{result.seconds_per_image:.4f}"]
    library = result.library.split("-")[0]
    device = "" if result.device is None else f" (on TFLM {result.device:.1%})"
    accuracy = f"{result.accuracy:.1%}{device}"
    return [attack, library, str(result.images), accuracy, *distances, *counts, *times, ratio]


def verdict(c: Comparison) -> list[str]:
    points = f"{100 * c.accuracy_difference:+.1f} points" if c.finished else "no peer"
    fails = ", ".join(c.failures)
    own, both = (number(c.distortion(b)) if c.finished else "" for b in (False, True))
    return [c.attack, c.norm, points, own, both, times(c.speed_up), share(c.outside), fails or "ok"]


def total(comparisons: list[Comparison]) -> list[str]:
    """The whole list: ART's seconds per image over ours, where ART has the attack."""
    pairs = [(c.art, c.ours) for c in comparisons if c.art is not None and not c.ours.error]
    theirs = sum(art.seconds_per_image for art, _ in pairs)
    ours = sum(own.seconds_per_image for _, own in pairs)
    speed_up = theirs / ours if ours else float("nan")
    enough = "" if not pairs else ("ok" if speed_up >= TOTAL_SPEED_UP else "slow")
    text = f"{theirs:.2f} s/image against {ours:.4f}" if pairs else ""
    return [f"all {len(pairs)} that ART ran", "", text, "", "", times(speed_up), "", enough]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "-"


def times(value: float) -> str:
    return f"{value:.1f}x" if np.isfinite(value) else "-"


def share(value: float) -> str:
    return f"{value:.0%}" if np.isfinite(value) else "-"
