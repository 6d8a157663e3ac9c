"""Finished shards on disk: reused when everything is the same, and only then."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from zipfile import ZipFile

import numpy as np
import pytest

from pytest_qnnrobust import disk
from pytest_qnnrobust.attacks import AttackResult, BoundaryAttack, SquareAttack
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.evaluation import array_files, cache, cache_keys
from pytest_qnnrobust.evaluation.cache import ResultCache
from pytest_qnnrobust.evaluation.cache_keys import converted_key, facts_key, shard_key
from pytest_qnnrobust.evaluation.evaluator import Evaluator
from pytest_qnnrobust.models.lazy import FileFacts
from pytest_qnnrobust.tflite import native
from tests.attacks.linear import problem

SQUARE = SquareAttack(eps=0.003, max_iter=6)
SAMPLES = 600


def setup(seed=0):
    model, x, y = problem((4, 4, 1), samples=SAMPLES, seed=seed)
    model.digest = f"linear-{seed}"
    return model, x, y


def fields(result):
    values = vars(result)
    return {k: v for k, v in values.items() if k not in ("seconds", "model_seconds")}


def test_a_second_run_asks_the_model_nothing_and_finds_the_same(tmp_path):
    model, x, y = setup()
    plain = Evaluator(x, y).craft(model, SQUARE)
    first = Evaluator(x, y, cache=ResultCache(tmp_path)).craft(model, SQUARE)
    model.queries = 0
    second = Evaluator(x, y, cache=ResultCache(tmp_path)).craft(model, SQUARE)
    assert model.queries == 0
    for other in (first, second):
        for name, values in fields(plain).items():
            np.testing.assert_array_equal(fields(other)[name], values)
    assert second.seconds == first.seconds
    assert {type(second.seconds), type(second.model_seconds)} == {float}
    assert type(second.interrupted) is bool


def test_an_attack_is_kept_once_all_of_its_shards_are(tmp_path):
    model, x, y = setup()
    assert not Evaluator(x, y).is_kept(model, SQUARE)
    evaluator = Evaluator(x, y, cache=ResultCache(tmp_path))
    assert not evaluator.is_kept(model, SQUARE)
    evaluator.craft(model, SQUARE)
    assert evaluator.is_kept(model, SQUARE)
    assert not evaluator.is_kept(model, replace(SQUARE, eps=2 * SQUARE.eps))
    next(tmp_path.glob("*.npz")).unlink()
    assert not evaluator.is_kept(model, SQUARE)


def test_an_interrupted_run_goes_on_at_the_shard_where_it_stopped(tmp_path):
    model, x, y = setup()
    attack = BoundaryAttack(max_iter=1, sample_size=2)
    events = []

    def interrupt(done, total, text):
        events.append(done)
        if done > 1.5 * attack.batch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Evaluator(x, y, progress=interrupt, cache=ResultCache(tmp_path)).craft(model, attack)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    model.queries = 0
    resumed = Evaluator(x, y, cache=ResultCache(tmp_path)).craft(model, attack)
    asked = model.queries
    model.queries = 0
    whole = Evaluator(x, y).craft(model, attack)
    np.testing.assert_array_equal(resumed.x_adv, whole.x_adv)
    assert asked < 0.85 * model.queries


def test_a_shard_that_another_process_computes_is_left_to_it(tmp_path):
    model, x, y = setup()
    whole = Evaluator(x, y).craft(model, SQUARE)
    kept, first = ResultCache(tmp_path), np.arange(SQUARE.batch)
    key = shard_key(model, SQUARE, x[first], y[first], first, 0)
    with ThreadPoolExecutor(1) as pool:
        with kept.claim(key, wait=True) as mine:
            assert mine
            waiting = pool.submit(Evaluator(x, y, cache=ResultCache(tmp_path)).craft, model, SQUARE)
            while len(list(tmp_path.glob("*.npz"))) < 2:
                assert not waiting.done()
            part = SQUARE(model, x[first], y[first], index=first)
            kept.store(key, part)
            model.queries = 0
        result = waiting.result()
    assert model.queries == 0
    np.testing.assert_array_equal(result.x_adv, whole.x_adv)


def test_decisions_are_kept_and_belong_to_their_model_and_inputs(tmp_path):
    model, x, y = setup()
    plain = model.classify(x)
    first = Evaluator(x, y, cache=ResultCache(tmp_path)).classify(model, x)
    model.queries = 0
    second = Evaluator(x, y, cache=ResultCache(tmp_path)).classify(model, x)
    assert model.queries == 0
    for labels in (first, second):
        np.testing.assert_array_equal(labels, plain)
    other, _, _ = setup(seed=1)
    again = Evaluator(x, y, cache=ResultCache(tmp_path))
    np.testing.assert_array_equal(again.classify(other, x), other.classify(x))
    np.testing.assert_array_equal(again.classify(model, x[::-1]), plain[::-1])


@pytest.mark.parametrize("kept", [np.zeros(3, np.int64), np.zeros(SAMPLES, np.float32)])
def test_unsound_decisions_are_not_taken(tmp_path, kept):
    model, x, y = setup()
    stored = ResultCache(tmp_path)
    stored.store_labels(cache_keys.labels_key(model, x), kept)
    found = Evaluator(x, y, cache=stored).classify(model, x)
    np.testing.assert_array_equal(found, model.classify(x))


def test_a_killed_process_gives_up_its_claim(tmp_path):
    program = """
import sys, time
from pytest_qnnrobust.evaluation.cache import ResultCache
with ResultCache(sys.argv[1]).claim("shard", wait=True):
    print("claimed", flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "claimed\n"
        with ResultCache(tmp_path).claim("shard", wait=False) as mine:
            assert not mine
        other.kill()
    with ResultCache(tmp_path).claim("shard", wait=True) as mine:
        assert mine


def test_a_damaged_shard_is_computed_again(tmp_path):
    model, x, y = setup()
    kept = ResultCache(tmp_path)
    whole = Evaluator(x, y, cache=kept).craft(model, SQUARE)
    files = sorted(tmp_path.glob("*.npz"))
    assert len(files) == 3
    content = files[0].read_bytes()
    files[0].write_bytes(content[: len(content) // 2])
    files[1].write_bytes(b"")
    middle = len(content) // 2
    files[2].write_bytes(content[:middle] + b"\0" * 64 + content[middle + 64 :])
    again = Evaluator(x, y, cache=kept).craft(model, SQUARE)
    np.testing.assert_array_equal(again.x_adv, whole.x_adv)


def test_no_bit_of_an_entry_can_change_unseen(tmp_path):
    """Array headers, which the checksums of a zip file do not cover, among them."""
    model, x, y = setup()
    kept = ResultCache(tmp_path)
    kept.store("k", SQUARE(model, x[:3], y[:3]))
    assert kept.load("k", 3) is not None
    path = tmp_path / "k.npz"
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 300, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        assert kept.load("k", 3) is None
    for length in (0, 1, 31, 32, 33, len(content) - 1):
        path.write_bytes(content[:length])
        assert kept.load("k", 3) is None


def entry(folder, key, size, age):
    """A file of an entry's name, last used `age` seconds ago."""
    path = folder / f"{key * 64}.npz"
    path.write_bytes(b"x" * size)
    os.utime(path, ns=(0, 10**18 - age * 10**9))
    return path


def test_the_entries_used_longest_ago_go_first(tmp_path):
    kept = ResultCache(tmp_path)
    old, middle, new = (entry(tmp_path, k, 100, age) for k, age in (("a", 3), ("b", 2), ("c", 1)))
    kept.tidy(limit=300)
    assert old.exists()
    kept.tidy(limit=299)
    assert (old.exists(), middle.exists(), new.exists()) == (False, True, True)
    kept.tidy(limit=1)
    assert not list(tmp_path.glob("*.npz"))


def test_reading_is_a_use(tmp_path):
    model, x, y = setup()
    kept = ResultCache(tmp_path)
    read, other = "a" * 64, "b" * 64
    for key in (read, other):
        kept.store(key, SQUARE(model, x[:5], y[:5]))
        os.utime(tmp_path / f"{key}.npz", ns=(0, 10**18 + (key == other)))
    size = (tmp_path / f"{read}.npz").stat().st_size
    assert kept.load(read, 5) is not None
    kept.tidy(limit=size)
    assert [path.stem for path in tmp_path.glob("*.npz")] == [read]


def test_what_a_process_has_claimed_stays_and_what_killed_ones_left_goes(tmp_path):
    kept = ResultCache(tmp_path)
    claimed, free = (entry(tmp_path, key, 100, 1) for key in "ab")
    parts = [tmp_path / f"{key * 64}.x1.part" for key in "ab"]
    for part in parts:
        part.write_bytes(b"half")
    with kept.claim("b" * 64, wait=True):
        pass
    program = """
import sys
from pytest_qnnrobust.evaluation.cache import ResultCache
with ResultCache(sys.argv[1]).claim("a" * 64, wait=True):
    print("claimed", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "claimed\n"
        kept.tidy(limit=1)
        assert claimed.exists()
        assert not free.exists()
        assert [part.exists() for part in parts] == [True, False]
        assert [path.name[0] for path in (tmp_path / "locks").iterdir()] == ["a"]
        other.stdin.close()
    kept.tidy(limit=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["locks"]
    assert not list((tmp_path / "locks").iterdir())


def test_files_that_are_not_the_caches_are_never_removed(tmp_path):
    names = ("test.npz", "a.part", "A" * 64 + ".npz", "a" * 64 + ".tflite", "locks/mine.lock")
    kept = ResultCache(tmp_path)
    for name in names:
        (tmp_path / name).write_bytes(b"x" * 100)
    kept.tidy(limit=1)
    assert all((tmp_path / name).exists() for name in names)


def test_a_result_of_another_length_is_not_taken(tmp_path):
    model, x, y = setup()
    kept = ResultCache(tmp_path)
    kept.store("k", SQUARE(model, x[:5], y[:5]))
    assert kept.load("k", 5) is not None
    assert kept.load("k", 6) is None
    assert kept.load("other", 5) is None


def test_every_part_of_the_question_is_part_of_the_key(monkeypatch):
    model, x, y = setup()
    index = np.arange(SAMPLES)

    def key(model=model, attack=SQUARE, x=x, y=y, index=index, seed=0):
        return shard_key(model, attack, x, y, index, seed)

    other = setup(1)[0]
    keys = [
        key(),
        key(model=other),
        key(model=model.with_bounds(0, 2)),
        key(model=model.with_gradient("finite-difference")),
        key(model=model.with_gradient("finite-difference", 2)),
        key(attack=replace(SQUARE, eps=0.004)),
        key(x=x + 1),
        key(y=1 - y),
        key(index=index + 1),
        key(seed=1),
    ]
    monkeypatch.setattr(cache_keys, "code_digest", lambda: "another version")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_neither_a_model_without_a_file_nor_a_time_budget_is_cached(tmp_path):
    model, x, y = setup()
    Evaluator(x[:9], y[:9], time_budget=60.0, cache=ResultCache(tmp_path)).craft(model, SQUARE)
    model.digest = None
    Evaluator(x[:9], y[:9], cache=ResultCache(tmp_path)).craft(model, SQUARE)
    assert not list(tmp_path.glob("*.npz"))


def test_no_samples(tmp_path):
    model, x, y = setup()
    result = Evaluator(x[:0], y[:0], cache=ResultCache(tmp_path)).craft(model, SQUARE)
    assert isinstance(result, AttackResult)
    assert len(result) == 0


ACCEPTED = FileFacts((8, 8, 1), 10, (0.0, 255.0))


def test_what_is_known_of_a_file_comes_back_equal(tmp_path):
    kept = ResultCache(tmp_path)
    kept.store_facts("k", ACCEPTED)
    kept.store_file("f", b"\0TFL3")
    assert kept.load_facts("k") == ACCEPTED
    assert kept.load_file("f") == b"\0TFL3"
    assert kept.load_facts("f") is kept.load_file("k") is kept.load_facts("other") is None


def test_a_member_that_is_no_array_is_not_taken(tmp_path):
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for name in ("labels", "content", "input_shape", "classes", "bounds", "outputs"):
            archive.writestr(name, b"no array")
    body = content.getvalue()
    (tmp_path / "k.npz").write_bytes(body + hashlib.sha256(body).digest())
    kept = ResultCache(tmp_path)
    assert kept.load_labels("k", 8) is None
    assert kept.load_floats("k", {"outputs": (8, 2)}) is None
    assert kept.load_facts("k") is kept.load_file("k") is kept.load("k", 8) is None


@pytest.mark.parametrize(
    "change",
    [
        {"input_shape": np.array([8, 0, 1])},
        {"input_shape": np.array([8.0, 8.0, 1.0])},
        {"classes": np.int64(1)},
        {"classes": np.array([10])},
        {"bounds": np.array([1.0, 0.0])},
        {"bounds": np.array([np.nan, 1.0])},
        {"bounds": np.array([0.0])},
    ],
)
def test_unsound_knowledge_of_a_file_is_not_taken(tmp_path, change):
    sound = {
        "input_shape": np.array(ACCEPTED.input_shape),
        "classes": np.int64(ACCEPTED.classes),
        "bounds": np.array(ACCEPTED.bounds),
    }
    kept = ResultCache(tmp_path)
    array_files.write(tmp_path / "a.npz", sound)
    array_files.write(tmp_path / "b.npz", sound | change)
    assert kept.load_facts("a") == ACCEPTED
    assert kept.load_facts("b") is None


def test_every_part_of_a_file_is_part_of_its_keys(monkeypatch):
    x = np.zeros((2, 4), np.float32)

    def keys():
        return [
            facts_key("00", ".keras", "tflm", "double"),
            facts_key("01", ".keras", "tflm", "double"),
            facts_key("00", ".h5", "tflm", "double"),
            facts_key("00", ".keras", "litert", "double"),
            facts_key("00", ".keras", "tflm", "float"),
            converted_key("00", ".keras", "int8", x),
            converted_key("01", ".keras", "int8", x),
            converted_key("00", ".h5", "int8", x),
            converted_key("00", ".keras", "int16", x),
            converted_key("00", ".keras", "int8", x + 1),
        ]

    found = keys()
    monkeypatch.setattr(cache_keys, "code_digest", lambda: "another version")
    found += keys()
    assert len(set(found)) == len(found)


def test_another_version_of_a_library_is_another_code(monkeypatch):
    own = cache_keys.code_digest.__wrapped__()
    assert cache_keys.code_digest.__wrapped__() == own
    installed = cache_keys.metadata.version
    monkeypatch.setattr(cache_keys.metadata, "version", lambda name: installed(name) + "+local")
    assert cache_keys.code_digest.__wrapped__() != own


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(QnnRobustError, match="--qnn-cache-dir to be a folder"):
        ResultCache(tmp_path / "file" / "below")


@pytest.fixture
def full(monkeypatch):
    """A disk without room for another file."""

    def refuse(path, *contents):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "write", refuse)


def test_a_cache_without_room_costs_no_result_and_makes_nobody_wait(tmp_path, full):
    model, x, y = setup()
    kept = ResultCache(tmp_path)
    assert kept.refusal == ""
    plain = Evaluator(x, y).craft(model, SQUARE)
    found = Evaluator(x, y, cache=kept).craft(model, SQUARE)
    np.testing.assert_array_equal(found.x_adv, plain.x_adv)
    assert kept.refusal == (
        f"expected --qnn-cache-dir to be a folder that can be written, got folder={str(tmp_path)!r}"
        ", reason='No space left on device'; the run goes on and keeps nothing there"
    )
    with ResultCache(tmp_path).claim("a" * 64, wait=True), kept.claim("a" * 64, wait=False) as mine:
        assert mine


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "x"), OSError(errno.EROFS, "x")])
def test_a_cache_that_cannot_be_locked_is_left_aside(tmp_path, monkeypatch, error):
    model, x, y = setup()
    kept = ResultCache(tmp_path)
    Evaluator(x[:9], y[:9], cache=kept).craft(model, SQUARE)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(cache.FileLock, "acquire", refuse)
    again = Evaluator(x, y, cache=kept)
    assert again.craft(model, SQUARE, 9).success.shape == (9,)
    assert kept.refusal == ""
    again.craft(model, SQUARE)
    assert "reason='x'" in kept.refusal
    kept.tidy(limit=0)
    assert len(list(tmp_path.glob("*.npz"))) == 1


def test_a_folder_that_is_gone_is_left_aside_when_tidied(tmp_path):
    kept = ResultCache(tmp_path / "kept")
    shutil.rmtree(tmp_path / "kept")
    kept.tidy()
    assert "No such file or directory" in kept.refusal


def test_the_code_behind_a_result_is_part_of_its_key():
    names = {file.relative_to(cache_keys.PACKAGE).as_posix() for file in cache_keys.code_files()}
    assert {
        "attacks/base.py",
        "attacks/scores/zoo.py",
        "tflite/native/steps.py",
        "models/base.py",
    } <= names
    assert {
        "models/keras_files.py",
        "compute/batches.py",
        "defenses/defended.py",
        "models/load.py",
    } <= names
    assert {"models/convert.py", "models/litert_child.py", "models/hdf5_child.py"} <= names
    assert ("tflite/native/lib/core.so" in names) == (native.library() is not None)
    assert not names & {
        "plugin.py",
        "session.py",
        "takeaways.py",
        "statistics/paired.py",
        "report/terminal.py",
    }
