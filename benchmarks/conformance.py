"""Random graphs on our interpreter and on TFLM's: every activation has to be equal.

    python -m benchmarks.conformance [--graphs 5000] [--native-every 5] [--seed N]

Graphs come from `strategies.tflite_graphs`, int8 and int16x8, of one to six operators, each with
two drawn samples. Prints how often each operator was compared and the time. A difference stops the
run with the smallest graph and tensor that show it, to be pasted into a test.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, given

from pytest_qnnrobust.strategies import SmallGraph, graph_inputs, tflite_graphs
from tests.tflite.conformance import check_conformance, check_outputs_are_inert


class Conformance:
    """Compares drawn graphs and counts; `failing` is the smallest pair that was seen to differ."""

    def __init__(self, native_every: int) -> None:
        self.native_every = native_every
        self.graphs: Counter[str] = Counter()
        self.operators: Counter[tuple[str, str]] = Counter()
        self.sizes: Counter[int] = Counter()
        self.native = 0
        self.values = 0
        self.failing: tuple[SmallGraph, np.ndarray] | None = None

    def check(self, graph: SmallGraph, q: np.ndarray) -> None:
        try:
            check_conformance(graph, q)
            if self.graphs.total() % self.native_every == 0:
                self.native += 1
                check_conformance(graph, q, "native")
                check_outputs_are_inert(graph, q)
        except AssertionError:
            self.failing = graph, q
            raise
        self._count(graph, q)

    def _count(self, graph: SmallGraph, q: np.ndarray) -> None:
        self.graphs[graph.dtype] += 1
        self.sizes[len(graph.operators)] += 1
        self.operators.update((name, graph.dtype) for name in graph.names)
        self.values += len(q) * sum(a.values for a in graph.activations[1:])
        if graph.boundary == "float32":
            self.operators["DEQUANTIZE", graph.dtype] += 1

    def report(self, seconds: float) -> str:
        names = sorted({name for name, _ in self.operators})
        rows = [f"{'operator':<20}{'int8 input':>12}{'int16 input':>13}"]
        rows += [
            f"{name:<20}{self.operators[name, 'int8']:>12}{self.operators[name, 'int16']:>13}"
            for name in names
        ]
        sizes = ", ".join(f"{size}: {self.sizes[size]}" for size in sorted(self.sizes))
        graphs = ", ".join(f"{count} {dtype}" for dtype, count in sorted(self.graphs.items()))
        return "\n".join(
            [
                *rows,
                f"graphs: {self.graphs.total()} ({graphs}), by number of operators {sizes}",
                f"operators: {self.operators.total()}, activation values compared: {self.values}",
                f"of these, {self.native} graphs on the native core, too",
                f"{seconds:.0f} s",
            ]
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=int, default=5000)
    parser.add_argument("--native-every", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    conformance = Conformance(arguments.native_every)

    @hypothesis.seed(arguments.seed)
    @hypothesis.settings(
        max_examples=arguments.graphs,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(hypothesis.strategies.data())
    def run(data: hypothesis.strategies.DataObject) -> None:
        graph = data.draw(tflite_graphs())
        conformance.check(graph, data.draw(graph_inputs(graph)))

    start = time.perf_counter()
    try:
        run()
    except AssertionError as error:
        print(error)
        assert conformance.failing is not None
        graph, q = conformance.failing
        sys.exit(f"\ngraph = {graph!r}\nq = np.{q!r}\ncheck_conformance(graph, q)")
    print(conformance.report(time.perf_counter() - start))


if __name__ == "__main__":
    main()
