"""Raw samples and labels from an `.npz` file, a folder of images or a Python function."""

from __future__ import annotations

import importlib
import math
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.data import npz
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import DataError, expected

MAX_BYTES = 1 << 31
"""Uncompressed size that a file may have, and the samples that are used as float32 (2 GiB)."""

MAX_LABEL_BYTES = 1 << 28
"""Size that the labels which are used may have: 256 MiB, one-hot rows of thousands of classes."""

MAX_PIXELS = 1 << 24
"""Pixels of one image: a small file can claim any number and fill the memory when decoded."""
IMAGES = (".png", ".jpg", ".jpeg")
MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""Pillow's modes of 8 bits a channel or less: a 16-bit image would be cut off at 255."""
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
SOURCES = "an .npz file with keys x and y, a folder of class folders, module:function or digits"


class Raw(NamedTuple):
    """Samples, uint8 or float32 that nobody else holds, labels as they were, the name to report."""

    x: NDArray[Any]
    y: NDArray[Any]
    name: str


class Form(Protocol):
    """What is known of an array before it is read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


def read_source(source: Any, channels: int | None, limit: int | None) -> Raw:
    """Read the first `limit` samples of `source` (see `data.load_data`), or all.

    `channels` of the model decides grey or colour images. Raises DataError, one line, for a source
    that is missing or cannot be read, and for arrays that are no samples with a label each.
    """
    if isinstance(source, tuple) and len(source) == 2:
        return _of_arrays(*source, "arrays", limit)
    if not isinstance(source, str | Path):
        raise expected(f"data to be {SOURCES}", type=type(source).__name__, error=DataError)
    path = Path(source)
    if path.is_dir():
        return read_folder(path, channels, limit)
    if path.is_file():
        return read_npz(path, limit)
    if str(source) == "digits":
        return read_npz(demo_path("digits.npz"), limit)._replace(name="digits")
    if FUNCTION.fullmatch(str(source)):
        return read_function(str(source), limit)
    raise expected(f"data to be {SOURCES}", data=str(source), cure="no such file", error=DataError)


def _of_arrays(x: Any, y: Any, name: str, limit: int | None) -> Raw:
    x, y = np.asarray(x), np.asarray(y)
    _check_form(name, x, y)
    x, y = x[:limit], y[:limit]
    if x.dtype == np.uint8:
        return Raw(x, y, name)
    with np.errstate(over="ignore"):
        return Raw(np.array(x, np.float32), y, name)


def _check_form(name: str, x: Form, y: Form) -> None:
    """Raise DataError unless x is samples of pixels or floats, and y a label for each."""
    if len(x.shape) < 2:
        raise expected("x of shape (N, ...)", data=name, shape=x.shape, error=DataError)
    if math.prod(x.shape) == 0:
        raise expected("at least one sample", data=name, shape=x.shape, error=DataError)
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        cure = "convert pixels to uint8, or inputs in model units to float32"
        raise expected(
            "x of dtype uint8 or float", data=name, dtype=str(x.dtype), cure=cure, error=DataError
        )
    if not np.issubdtype(y.dtype, np.number) or np.issubdtype(y.dtype, np.complexfloating):
        raise expected("integer labels", data=name, dtype=str(y.dtype), error=DataError)
    if len(y.shape) not in (1, 2) or y.shape[0] != x.shape[0]:
        rule = f"one label for each of {x.shape[0]} samples"
        raise expected(rule, data=name, shape=y.shape, error=DataError)


KEYS = (("x", "y"), ("images", "labels"), ("x_test", "y_test"))
"""Keys of samples and labels in an `.npz`; of several pairs the first counts."""


def read_npz(path: Path, limit: int | None) -> Raw:
    """Samples and labels of an `.npz` file, by one pair of `KEYS`, the first `limit` of them.

    No pickle is ever loaded.
    """
    if not zipfile.is_zipfile(path):
        cure = "save it with numpy.savez"
        raise expected("an .npz file", file=path.name, cure=cure, error=DataError)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(sum(member.file_size for member in archive.infolist()), path.name)
            keys = {name.removesuffix(npz.SUFFIX) for name in archive.namelist()}
            named = next((pair for pair in KEYS if keys >= set(pair)), None)
            if named is None:
                other = ", or ".join(" and ".join(pair) for pair in KEYS[1:])
                rule = f"keys x and y, or {other}"
                raise expected(rule, file=path.name, keys=sorted(keys)[:10], error=DataError)
            arrays = npz.headers(archive, named)
            x, y = (arrays[key] for key in named)
            _check_form(path.name, x, y)
            n = min(limit or x.shape[0], x.shape[0])
            _check_size(4 * n * math.prod(x.shape[1:]), path.name)
            _check_labels_size(n * math.prod(y.shape[1:]) * y.dtype.itemsize, path.name)
            kind = np.uint8 if x.dtype == np.uint8 else np.float32
            return Raw(x.first(n, kind), y.first(n, y.dtype), path.name)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path.name} cannot be read: {_first_line(error)}") from None


def read_function(source: str, limit: int | None) -> Raw:
    """Call `module:function`, importable from the working directory, which returns (x, y)."""
    module, _, name = source.partition(":")
    try:
        with _working_directory_importable():
            function = getattr(importlib.import_module(module), name)
            result = function()
    except Exception as error:
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise DataError(f"{source} cannot be called: {reason}") from error
    if not isinstance(result, tuple) or len(result) != 2:
        raise expected(
            f"{source} to return (x, y)", returned=type(result).__name__, error=DataError
        )
    return _of_arrays(*result, source, limit)


def read_folder(root: Path, channels: int | None, limit: int | None) -> Raw:
    """PNG and JPEG images in class folders; labels count the sorted folder names from 0.

    The classes take turns, so that the first N images hold about N/classes of each.
    """
    files = _image_files(root)[:limit]
    images: list[NDArray[np.uint8]] = []
    size = 0
    for path, _ in files:
        images.append(_read_image(path, root, channels))
        size += 4 * images[-1].size
        _check_size(size, root.name)
        if images[-1].shape != images[0].shape:
            raise expected(
                f"images of one size, {images[0].shape} like {files[0][0].name}",
                file=str(path.relative_to(root)),
                shape=images[-1].shape,
                error=DataError,
            )
    return Raw(np.stack(images), np.array([label for _, label in files]), root.name)


def _image_files(root: Path) -> list[tuple[Path, int]]:
    try:
        return _images_by_turns(root)
    except (OSError, RuntimeError) as error:
        raise expected(
            "a folder that can be read",
            folder=root.name,
            reason=_first_line(error),
            error=DataError,
        ) from None


def _images_by_turns(root: Path) -> list[tuple[Path, int]]:
    """Paths and labels, one of each class after the other; no link may lead out of `root`."""
    inside = root.resolve()
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    turns: list[list[tuple[Path, int]]] = []
    for label, folder in enumerate(classes):
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
        for path in (folder, *files):
            if not path.is_dir() and not path.is_file():
                link = str(path.relative_to(root))
                raise expected("files and folders", other=link, error=DataError)
            if not path.resolve().is_relative_to(inside):
                raise expected(
                    "images inside of the folder",
                    link=str(path.relative_to(root)),
                    cure="copy what the link points to",
                    error=DataError,
                )
        turns.append([(path, label) for path in files])
    images = [image for image in chain.from_iterable(zip_longest(*turns)) if image is not None]
    if not images:
        cure = "put the images of each class into a folder of its own"
        raise expected(
            "PNG or JPEG images in class folders",
            folder=root.name,
            images=0,
            cure=cure,
            error=DataError,
        )
    return images


def _read_image(path: Path, root: Path, channels: int | None) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError:
        raise expected(
            "Pillow to read images",
            pillow="not installed",
            cure="pip install 'pytest-qnnrobust[images]'",
            error=DataError,
        ) from None
    name = str(path.relative_to(root))
    try:
        # Two decoders only: Pillow has dozens, and that of EPS runs Ghostscript.
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                rule = f"images of at most {MAX_PIXELS} pixels"
                raise expected(rule, file=name, size=image.size, error=DataError)
            if image.mode not in MODES:
                rule = "8-bit grey or colour images"
                raise expected(rule, file=name, mode=image.mode, error=DataError)
            grey = channels == 1 or (channels is None and image.mode in ("1", "L", "LA"))
            pixels = np.asarray(image.convert("L" if grey else "RGB"), np.uint8)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name} cannot be read: {_first_line(error)}") from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _check_size(size: int, name: str) -> None:
    if size > MAX_BYTES:
        rule = f"at most {MAX_BYTES >> 20} MiB of uncompressed data"
        cure = "save the samples that are to be used: x[:N], y[:N]"
        raise expected(rule, data=name, bytes=size, cure=cure, error=DataError)


def _check_labels_size(size: int, name: str) -> None:
    if size > MAX_LABEL_BYTES:
        rule = f"at most {MAX_LABEL_BYTES >> 20} MiB of labels"
        cure = "save the class of each sample: y of shape (N,)"
        raise expected(rule, data=name, bytes=size, cure=cure, error=DataError)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
