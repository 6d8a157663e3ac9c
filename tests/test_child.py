"""A process for hostile files: how it ends is one line, and it never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import pytest_qnnrobust as qnn
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import ModelFileError
from pytest_qnnrobust.models.child import Child, ChildError
from pytest_qnnrobust.models.litert_child import Interpreters

MODULE = "tests.child_that_misbehaves"
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child(MODULE)
    yield child
    child.close()


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for is over."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_bytes_come_back_whole(child: Child, size: int) -> None:
    payload = np.random.default_rng(0).bytes(size)
    for _ in range(2):
        header, content = child.ask({}, payload)
        assert (header["length"], content) == (size, payload[::-1])
        assert header["pid"] == child.pid != os.getpid()


def test_what_native_code_prints_is_no_message(child: Child) -> None:
    assert child.ask({"wish": "print"}, b"ab")[1] == b"ba"


def test_a_refusal_is_one_line_and_leaves_the_child_at_work(child: Child) -> None:
    pid = child.ask({})[0]["pid"]
    with pytest.raises(ChildError, match=r"^two lines$"):
        child.ask({"wish": "raise"})
    assert child.ask({})[0]["pid"] == pid


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        pytest.param("crash", "its process was ended by SIGSEGV", marks=posix),
        ("exit", "its process ended with code 3"),
        pytest.param("memory", "MemoryError", marks=posix),
    ],
)
def test_a_child_that_breaks_down_says_how(child: Child, wish: str, line: str) -> None:
    with pytest.raises(ChildError) as caught:
        child.ask({"wish": wish})
    assert str(caught.value) == line
    assert child.ask({}, b"xy")[1] == b"yx"


def test_a_child_that_hangs_is_ended() -> None:
    child = Child(MODULE, timeout=2)
    pid = child.ask({})[0]["pid"]
    with pytest.raises(ChildError, match=r"^it gave no answer within 2 s$"):
        child.ask({"wish": "hang"})
    assert not alive(pid)


@posix
def test_an_interrupted_question_does_not_answer_the_next_one(child: Child) -> None:
    first = child.ask({})[0]["pid"]
    # A background job of a shell starts with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        child.ask({"wish": "hang"})
    signal.signal(signal.SIGINT, before)
    assert child.ask({}, b"xy")[1] == b"yx"
    assert child.pid != first


def test_the_child_ends_with_its_owner() -> None:
    child = Child(MODULE)
    pid = child.ask({})[0]["pid"]
    assert alive(pid)
    del child
    assert within(5, lambda: not alive(pid))


@posix
@pytest.mark.parametrize("wish", ["none", "hang"])
def test_no_orphan_where_the_parent_is_killed(tmp_path: Path, wish: str) -> None:
    """The parent is a script without `if __name__ == "__main__"`."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pytest_qnnrobust.models.child import Child\n"
        f"child = Child({MODULE!r})\n"
        "print(child.ask({})[0]['pid'], flush=True)\n"
        f"child.ask({{'wish': {wish!r}}})\n"
        "input()\n"
    )
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    parent = subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=environment,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.communicate()
    assert within(10, lambda: not alive(pid))


@pytest.mark.parametrize("width", ["int8", pytest.param("int16", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("runtime", ["litert", "litert-builtin"])
def test_the_child_computes_what_tflite_computes_here(runtime: str, width: str) -> None:
    path = demo_path(f"digits_{width}.tflite")
    model = qnn.load_model(path, runtime=runtime)
    here = Interpreters(path.read_bytes(), runtime == "litert-builtin", batched=True)
    low, high = np.iinfo(width).min, np.iinfo(width).max
    q = np.random.default_rng(0).integers(low, high, (300, *model.input_shape), width, True)
    for n in (1, 2, 17, 256):
        np.testing.assert_array_equal(model.predict_quantized(q[:n]), here.invoke(q[:n]))
    whole = np.concatenate([here.invoke(q[:256]), here.invoke(q[256:])])
    np.testing.assert_array_equal(model.predict_quantized(q), whole)


@posix
def test_a_model_whose_child_is_killed_says_so_in_one_line() -> None:
    model = qnn.load_model(demo_path("digits_int8.tflite"), runtime="litert")
    x = np.zeros((2, *model.input_shape), np.float32)
    assert model.predict(x).shape == (2, 10)
    pid = model._interpreter.child.pid
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(ModelFileError) as caught:
            model.predict(x)
        assert "file='digits_int8.tflite'" in str(caught.value)
        assert "ended by SIGKILL" in str(caught.value)
        assert "\n" not in str(caught.value)
