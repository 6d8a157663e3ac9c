"""Work on a stranger's file in a process of its own: what crashes or hangs there ends alone.

Parent and child send each other messages over the child's stdin and stdout: a header of JSON and
raw bytes. Nothing that either sends is unpickled.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

TIMEOUT = 300.0
"""Seconds that one answer may take."""
MEMORY = 8 << 30
"""Bytes of data that a child may hold (RLIMIT_DATA, where the system has it)."""
MAX_HEADER = 1 << 16
"""Bytes of a header: a child that a file has taken over can claim any size."""
MAX_PAYLOAD = 1 << 32

Message = tuple[dict[str, Any], bytes]
Answer = Callable[[dict[str, Any], bytes], tuple[Mapping[str, Any], bytes]]

_SIZES = struct.Struct("<IQ")
# The child takes over the parent's sys.path, which pytest may have extended.
_START = "import sys; sys.path[:] = sys.argv[2:]; from {0} import run; run(sys.argv[1])"


class ChildError(Exception):
    """A refusal of the child, or its end; one line."""


@dataclass
class _Clock:
    """The time, by `time.monotonic`, until which an answer may come, and whether it has passed."""

    deadline: float = math.inf
    overdue: bool = False


class Child:
    """A process that runs `serve()` of `module`, started by the first question.

    It ends with this object, with the interpreter, and with the parent however that ends. A
    question that is interrupted ends it too, and the next one starts another. After a fork, the
    new process has a child of its own.
    """

    def __init__(self, module: str, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._clock = _Clock()
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Number of the process, None before the first question and after its end."""
        return self._process.pid if self._process is not None and self._mine else None

    @property
    def _mine(self) -> bool:
        return self._owner == os.getpid()

    def ask(self, header: Mapping[str, Any], payload: Any = b"") -> Message:
        """The answer to one question. Raises ChildError for a refusal, a crash or a timeout."""
        with self._lock:
            process = self._running()
            self._clock.deadline = time.monotonic() + self.timeout
            try:
                send(_stream(process.stdin), {**header, "timeout": self.timeout}, payload)
                answer, content = receive(_stream(process.stdout))
            except (OSError, EOFError, ValueError):
                reason = self._why(process)
                raise ChildError(reason) from None
            except BaseException:
                # The answer to an interrupted question would be taken for that to the next one.
                self.close()
                raise
            finally:
                self._clock.deadline = math.inf
        if "error" in answer:
            raise ChildError(str(answer["error"]))
        return answer, content

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None and self._mine:
            _end(self._process)
        self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or not self._mine:
            command = [sys.executable, "-c", _START.format(__name__), self._module, *sys.path]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._owner = os.getpid()
            self._clock = _Clock()
            watch = (self._clock, self._process, min(self.timeout / 4, 1.0))
            threading.Thread(target=_end_overdue, args=watch, daemon=True).start()
            weakref.finalize(self, _end_own, self._process, self._owner)
        return self._process

    def _why(self, process: subprocess.Popen[bytes]) -> str:
        """Say how a process ended that gave no answer; end it if it did not end itself."""
        # A crash closes the pipe before the process can be waited for.
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        code = process.poll()
        self.close()
        if self._clock.overdue:
            return f"it gave no answer within {self.timeout:g} s"
        if code is not None and code < 0:
            return f"its process was ended by {_signal_name(-code)}"
        return f"its process ended with code {code}" if code is not None else "its answer is none"


def send(stream: BinaryIO, header: Mapping[str, Any], payload: Any = b"") -> None:
    """Write a message; `payload` is anything with a buffer of bytes."""
    text = json.dumps(header).encode()
    content = memoryview(payload).cast("B") if len(payload) else memoryview(b"")
    stream.write(_SIZES.pack(len(text), len(content)) + text)
    stream.write(content)
    stream.flush()


def receive(stream: BinaryIO) -> Message:
    """Read the next message. Raises EOFError where none is left, ValueError for anything else."""
    length, size = _SIZES.unpack(_exactly(stream, _SIZES.size))
    if length > MAX_HEADER or size > MAX_PAYLOAD:
        raise ValueError(f"a message of {length} and {size} bytes")
    header = json.loads(_exactly(stream, length))
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    return header, _exactly(stream, size)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


def run(module: str) -> None:
    """Answer the parent's questions, in the child, until there are no more."""
    questions = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # The libraries print to file descriptor 1: only this loop may write into the messages.
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    # Ctrl-C reaches the whole process group; it is the parent that ends its child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _limit_memory()
    answer: Answer | None = None
    with suppress(EOFError, BrokenPipeError):
        while True:
            header, payload = receive(questions)
            # Later than the parent's own clock, which can say why: for a parent that is stopped.
            _alarm(1.5 * header["timeout"])
            answer = answer or importlib.import_module(module).serve()
            send(answers, *_answered(answer, header, payload))
            _alarm(0)


def _answered(
    answer: Answer, header: dict[str, Any], payload: bytes
) -> tuple[Mapping[str, Any], Any]:
    try:
        return answer(header, payload)
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return {"error": text[:300]}, b""


def _alarm(seconds: float) -> None:
    """End this process after so many seconds, whatever holds it up; 0: not any more (POSIX)."""
    # SIGALRM has no handler here, so that it ends a process that hangs in C code as well.
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_memory() -> None:
    """Let allocations beyond `MEMORY` fail; where the machine runs out first, end this process."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    # Linux ends the process of the highest score when memory runs out: not pytest, this one.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")


def _end_with_parent(parent: int) -> None:
    """End this process once its parent is gone, killed in the middle of a question (POSIX)."""
    # An orphan gets another parent, so that the number changes.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _end_overdue(clock: _Clock, process: subprocess.Popen[bytes], pause: float) -> None:
    """Kill a process whose answer is overdue, in one thread for all questions to it.

    A thread for each question would double the time of a short answer.
    """
    while process.poll() is None:
        time.sleep(pause)
        if time.monotonic() > clock.deadline:
            clock.overdue = True
            process.kill()


def _end_own(process: subprocess.Popen[bytes], owner: int) -> None:
    if owner == os.getpid():
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def _stream(stream: Any) -> BinaryIO:
    if stream is None:
        raise EOFError
    pipe: BinaryIO = stream
    return pipe


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
