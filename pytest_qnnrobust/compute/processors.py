"""Processors and threads: how many this process may use, and sharing them with others."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

INTRAOP, INTEROP = "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"
"""Environment variables that TensorFlow reads its numbers of threads from when it starts."""


@lru_cache(maxsize=1)
def thread_count() -> int:
    """Threads that a computation may use: TensorFlow's own setting, or the processors there are."""
    # Where nothing imported it, nobody can have set anything; the import takes seconds.
    tensorflow = sys.modules.get("tensorflow")
    threading = getattr(getattr(tensorflow, "config", None), "threading", None)
    chosen = threading.get_intra_op_parallelism_threads() if threading else 0
    return int(chosen or os.environ.get(INTRAOP) or available_processors())


def share_processors(workers: int) -> None:
    """Leave this process its part of the processors, one of `workers` that compute side by side.

    Nothing where TensorFlow is running already or the user set its threads in the environment.
    """
    if INTRAOP in os.environ:
        return
    threads = str(max(available_processors() // workers, 1))
    os.environ.update({INTRAOP: threads, INTEROP: threads})


def available_processors() -> int:
    """Processors that this process may use."""
    # A container or `taskset` may leave a process fewer processors than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keep NumPy's products on the calling thread inside a `with` block.

    OpenBLAS's threads spin for a while after each product, on the processors that TensorFlow
    computes the next batch on: a fifth of its speed on two cores.
    """
    limit: AbstractContextManager[Any] = _loaded_libraries().limit(limits=1, user_api="blas")
    return limit


@lru_cache(maxsize=1)
def _loaded_libraries() -> ThreadpoolController:
    """Search for the BLAS libraries, once: it takes 3 to 5 ms, a batch of noise 130.

    NumPy's is loaded by the first call.
    """
    return ThreadpoolController()


@lru_cache(maxsize=1)
def thread_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="qnn-shard")


if hasattr(os, "register_at_fork"):
    # A forked process has the pool but none of its threads, and would wait for them for ever.
    os.register_at_fork(after_in_child=thread_pool.cache_clear)
