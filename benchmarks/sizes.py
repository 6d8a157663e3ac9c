"""The size of the tests that verdicts rest on, by counting every outcome there is.

    python -m benchmarks.sizes --largest 200 --bounds=-0.03,0,0.03,0.1

The size of a test is the largest probability with which it rejects a true hypothesis; a test of
level 5 % must not exceed 5 % at any number of samples. Nothing is simulated.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from pytest_qnnrobust.options.values import parse_number
from pytest_qnnrobust.statistics import paired
from pytest_qnnrobust.statistics.discordance import Discordance, paired_proportion_test

LEVEL = 0.05
SPANS = ((1, 10), (11, 20), (21, 50), (51, 100), (101, 200))


def rejected(n: int, bound: float) -> NDArray[np.int64]:
    """For each count of c, the smallest b for which `greater` than `bound` is shown; (n + 1,).

    n + 1 where no b shows it. It never falls as c grows, so that each search starts at the last.
    """
    least = np.full(n + 1, n + 1)
    b = 0
    for c in range(n + 1):
        while b <= n - c:
            table = Discordance(n, b, c)
            if paired_proportion_test(table, "greater", bound) <= LEVEL:
                least[c] = b
                break
            b += 1
        else:
            break
    return least


def paired_size(n: int, bound: float, rates: int = 4001) -> float:
    """Largest probability of showing P(b) - P(c) > bound where it is `bound`."""
    least, counts = rejected(n, bound), np.arange(n + 1)
    low, high = max(-bound, 0.0), (1 - bound) / 2
    size = 0.0
    for rate in low + (high - low) * np.linspace(0, 1, rates) ** 2:
        chance = min((rate + bound) / (1 - rate), 1.0)
        shown = binom.sf(least - 1, n - counts, chance)
        size = max(size, float((binom.pmf(counts, n, rate) * shown).sum()))
    return size


def signed_rank_size(n: int, tied: bool) -> float:
    """Largest p-value of n differences, all tied or none, that is at most `LEVEL`."""
    ranks = np.arange(1, n + 1)

    def p_value(total: int) -> float:
        signs = np.full(n, -1.0)
        for rank in ranks[::-1]:
            if total >= (1 if tied else rank):
                signs[rank - 1], total = 1.0, total - (1 if tied else rank)
        return paired.signed_rank_test(signs * (1 if tied else ranks), "greater")

    low, high = 0, n if tied else int(ranks.sum())
    if p_value(high) > LEVEL:
        return 0.0
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if p_value(middle) <= LEVEL else (middle + 1, high)
    return p_value(low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=200, help="number of samples, from 1")
    parser.add_argument("--bounds", default="-0.03,0,0.03,0.1", help="differences tested against")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    numbers = range(1, options.largest + 1)
    bounds = [parse_number(text) for text in options.bounds.split(",")]
    spans = [(low, high) for low, high in SPANS if low <= options.largest]
    print("| test | " + " | ".join(f"n = {low} to {high}" for low, high in spans) + " |")
    print("|---" * (len(spans) + 1) + "|")
    with ProcessPoolExecutor(options.processes) as pool:
        for bound in bounds:
            sizes = dict(
                zip(numbers, pool.map(partial(paired_size, bound=bound), numbers), strict=True)
            )
            print(row(f"paired proportions, against {100 * bound:+g} points", sizes, spans))
    for tied in (False, True):
        sizes = {n: signed_rank_size(n, tied) for n in numbers}
        print(row(f"signed ranks, {'all' if tied else 'none'} tied", sizes, spans))


def row(name: str, sizes: dict[int, float], spans: list[tuple[int, int]]) -> str:
    """Name and, for each span of n, the largest size there, in percent."""
    largest = [max(size for n, size in sizes.items() if a <= n <= b) for a, b in spans]
    return f"| {name} | " + " | ".join(f"{100 * size:.2f} %" for size in largest) + " |"


if __name__ == "__main__":
    main()
