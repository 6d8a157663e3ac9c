"""Raw samples and labels from an `.npz` file, a folder of images or a Python function."""

from __future__ import annotations

import importlib
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import DataError, expected

MAX_BYTES = 1 << 31
"""Uncompressed size that data may have, in the file and as float32 (2 GiB)."""

MAX_PIXELS = 1 << 24
"""Pixels of one image: a small file can claim any number and fill the memory when decoded."""
IMAGES = (".png", ".jpg", ".jpeg")
MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""Pillow's modes of 8 bits a channel or less: a 16-bit image would be cut off at 255."""
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
SOURCES = "an .npz file with keys x and y, a folder of class folders, module:function or digits"


class Raw(NamedTuple):
    """Samples and labels as they were stored, and the name to report."""

    x: NDArray[Any]
    y: NDArray[Any]
    name: str


def read_source(source: Any, channels: int | None, limit: int | None) -> Raw:
    """Read `source` (see `data.load_data`); `channels` of the model decides grey or colour images.

    Raises DataError, one line, for a source that is missing or cannot be read.
    """
    if isinstance(source, tuple) and len(source) == 2:
        return Raw(np.asarray(source[0]), np.asarray(source[1]), "arrays")
    if not isinstance(source, str | Path):
        raise expected(f"data to be {SOURCES}", type=type(source).__name__, error=DataError)
    path = Path(source)
    if path.is_dir():
        return read_folder(path, channels, limit)
    if path.is_file():
        return read_npz(path)
    if str(source) == "digits":
        return read_npz(demo_path("digits.npz"))._replace(name="digits")
    if FUNCTION.fullmatch(str(source)):
        return read_function(str(source))
    raise expected(f"data to be {SOURCES}", data=str(source), cure="no such file", error=DataError)


def read_npz(path: Path) -> Raw:
    """Arrays x and y of an `.npz` file; no pickle is ever loaded."""
    if not zipfile.is_zipfile(path):
        cure = "save it with numpy.savez"
        raise expected("an .npz file", file=path.name, cure=cure, error=DataError)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        _check_size(size, path.name)
        # A pickle runs code of the file: an array of objects is refused instead.
        with np.load(path, allow_pickle=False) as arrays:
            if not {"x", "y"} <= set(arrays.files):
                keys = sorted(arrays.files)[:10]
                raise expected("keys x and y", file=path.name, keys=keys, error=DataError)
            x, y = np.asarray(arrays["x"]), np.asarray(arrays["y"])
            _check_size(4 * x.size, path.name)
            return Raw(x, y, path.name)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path.name} cannot be read: {_first_line(error)}") from None


def read_function(source: str) -> Raw:
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
    return Raw(np.asarray(result[0]), np.asarray(result[1]), source)


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
        raise expected(rule, data=name, bytes=size, error=DataError)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
