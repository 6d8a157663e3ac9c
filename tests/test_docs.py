"""The pages say what is there: links, modules, files, flags and operators that they name exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import pytest_qnnrobust
from pytest_qnnrobust.tflite.kernels import KERNELS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(pytest_qnnrobust.__file__).parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages that speak of the present; the change log names what was there before."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
present = pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.name)

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"(?<![\w./-])(?:\.?\w+/)+[\w-]+\.(?:py|md|toml)\b")
MODULE = re.compile(r"(?<![\w./-])(?:pytest_qnnrobust|benchmarks|tests)(?!\.md)(?:\.\w+)+")
PLACEHOLDERS = ("NAME", "FAMILY")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Ids that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.replace(" ", "-") for text in words}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@present
def test_files_that_a_page_names_exist(page: Path) -> None:
    folders = (ROOT, PACKAGE)
    for name in FILE.findall(prose(page)):
        if not any(word in name for word in PLACEHOLDERS):
            assert any((folder / name).is_file() for folder in folders), name


@present
def test_modules_that_a_page_names_exist(page: Path) -> None:
    for name in MODULE.findall(page.read_text()):
        assert name.endswith(PLACEHOLDERS) or exists(name), name


def exists(name: str) -> bool:
    """Whether this is a module, or a public name of one; a lazy one is not loaded for it."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, _, public = name.rpartition(".")
    return bool(module) and exists(module) and public in dir(import_module(module))


def python_blocks(page: Path) -> Iterator[ast.Module]:
    for indent, language, code in FENCE.findall(page.read_text()):
        if language == "python":
            yield ast.parse("".join(line[len(indent) :] for line in code.splitlines(keepends=True)))


@present
def test_names_that_python_code_imports_exist(page: Path) -> None:
    for tree in python_blocks(page):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith(PACKAGE.name):
                public = dir(import_module(node.module))
                assert {alias.name for alias in node.names} <= set(public), node.module


def test_operators_are_those_of_the_interpreter() -> None:
    text = (ROOT / "docs" / "exact-integers.md").read_text()
    section = text.partition("## Operators\n")[2].partition("##")[0]
    listed = section.partition(", in the widths")[0].replace("\n", " ")
    assert listed.strip().split(", ") == sorted(KERNELS)


def test_flags_are_those_of_the_plugin() -> None:
    text = (ROOT / "docs" / "options.md").read_text()
    rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `--"))
    command = [sys.executable, "-m", "pytest", "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    plugin = set(re.findall(r"^  (--qnn-[a-z0-9-]+)", printed, re.MULTILINE))
    assert plugin
    assert set(re.findall(r"--qnn-[a-z0-9-]+", rows)) == plugin


def test_every_package_is_on_the_map() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    listed = set(re.findall(r"^\| \d* ?\| `(\w+)` \|", text, re.MULTILINE))
    packages = {path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert packages | {path.stem for path in PACKAGE.glob("[!_]*.py")} <= listed


def test_the_first_page_fits_a_terminal() -> None:
    assert max(map(len, (ROOT / "README.md").read_text().splitlines())) <= 80
