"""The laws of the native core find every mistake planted in its arithmetic."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hatch_build import SOURCES
from pytest_qnnrobust.tflite import native
from pytest_qnnrobust.tflite.native.shared_library import instruction_sets
from tests.tflite.other_cores import ROOT, compiled, laws, linked

PORTABLE = {
    "no rounding of the high product": ("lanes_portable.h", " + (int64_t{1} << 30)", ""),
    "halves of negatives up": ("lanes_portable.h", "(mask >> 1) + (a.v[i] < 0)", "(mask >> 1)"),
    "halves not up": ("lanes_portable.h", "(mask >> 1) + (a.v[i] < 0)", "(mask >> 1) + 1"),
    "one rounding as none": ("lanes_portable.h", "b.v[2 * i + 1]", "b.v[2 * i]"),
    "no rounding at once": ("lanes_portable.h", "m.v[i] + half) >>", "m.v[i]) >>"),
    "no minimum": ("kernels.h", "scaled, Lanes::set(q.minimum)", "scaled, Lanes::set(INT16_MIN)"),
    "no maximum": ("kernels.h", "Lanes::set(q.maximum));", "Lanes::set(INT16_MAX));"),
    "no shift to the left": ("kernels.h", "Lanes::load(q.left + channel)", "Lanes::set(0)"),
    "one shift for all": ("kernels.h", "Lanes::load(q.right + channel)", "Lanes::set(*q.right)"),
    "one multiplier for all": (
        "kernels.h",
        "Lanes::load(q.multiplier + channel)",
        "Lanes::set(*q.multiplier)",
    ),
    "bias of the first block": ("kernels.h", "s.bias + channel + q * BLOCK", "s.bias + channel"),
    "differences as sums": ("kernels.h", "s.sign < 0", "s.sign > 1"),
    "no rounding of an average": ("kernels.h", "(total + half) / cells", "total / cells"),
    "an average without its zero point": ("kernels.h", "sum + zero_point * cells", "sum"),
    "halves of negative averages up": ("kernels.h", "(half - total) / cells", "-total / cells"),
    "softmax without rounding": (
        "softmax.h",
        "(a + (int64_t{1} << (bits - 1))) >> bits",
        "a >> bits",
    ),
    "one step of division less": ("softmax.h", "step < 3", "step < 2"),
    "softmax without interpolation": ("softmax.h", "(x & 127) + 64", "0 + 64"),
    "interpolation not rounded": ("softmax.h", "(x & 127) + 64", "(x & 127)"),
    "softmax beyond its range": ("softmax.h", "level > top ? top : level", "level"),
}
AVX2 = {
    "no rounding of the high product": ("lanes_avx2.h", "int64_t{1} << 31", "0"),
    "odd lanes for even ones": ("lanes_avx2.h", "0xAA", "0x55"),
    "halves of negatives up": (
        "lanes_avx2.h",
        "_mm256_sub_epi32(_mm256_srai_epi32(mask, 1), _mm256_srai_epi32(a, 31))",
        "_mm256_srai_epi32(mask, 1)",
    ),
    "no rounding at once": ("lanes_avx2.h", "_mm256_add_epi64(product, half)", "product"),
    "sign not moved back": ("lanes_avx2.h", "_mm256_srlv_epi64(sign, bits)", "sign"),
    "lanes in another order": ("lanes_avx2.h", "_mm256_unpacklo_epi16", "_mm256_unpackhi_epi16"),
}
MUTANTS = [
    pytest.param(isa, *planted, id=f"{isa} {what}")
    for isa, mutants in (("portable", PORTABLE), ("avx2", AVX2))
    for what, planted in mutants.items()
]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sources of the package's core, compiled."""
    folder = tmp_path_factory.mktemp("objects")
    return {
        Path(name).stem: compiled(ROOT / "native", Path(name).stem, flags, folder)
        for name, flags in SOURCES.items()
    }


@pytest.mark.nightly
@pytest.mark.parametrize(("isa", "file", "right", "wrong"), MUTANTS)
def test_a_mistake_is_found(
    isa: str, file: str, right: str, wrong: str, objects: dict[str, Path], tmp_path: Path
) -> None:
    library = native.library()
    if library is None or isa not in instruction_sets(library.functions):
        pytest.skip(f"{isa} cannot be run here")
    sources = shutil.copytree(ROOT / "native", tmp_path / "native")
    text = (sources / file).read_text()
    assert right in text
    (sources / file).write_text(text.replace(right, wrong))
    mutant = compiled(sources, isa, SOURCES[f"{isa}.cpp"], tmp_path)
    run = laws(linked((objects | {isa: mutant}).values(), tmp_path), "-x", "-k", isa)
    assert run.returncode == 1, run.stdout[-2000:]
    assert "AssertionError" in run.stdout
