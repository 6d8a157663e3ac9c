"""Silence for TensorFlow's messages while it computes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Keep TensorFlow's warnings and start-up messages from the terminal, and from `-W error`."""
    sys.stderr.flush()
    # TensorFlow's C++ writes to file descriptor 2 itself: replacing sys.stderr would not stop it.
    terminal = os.dup(2)
    with open(os.devnull, "w") as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
