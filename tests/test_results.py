"""Results as a document: written, read back, and refused where they are not what they claim."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pytest_qnnrobust.errors import DataError
from pytest_qnnrobust.evaluation import sample_arrays
from pytest_qnnrobust.results import document
from pytest_qnnrobust.results.document import (
    Results,
)
from tests.helpers.outcomes import IMAGE, WATCHED, results


def test_what_is_written_is_read_back(tmp_path):
    made = results()
    path = tmp_path / "new" / "results.json"
    document.write(path, made)
    found = document.read(path)
    assert found.to_text() == made.to_text() == path.read_text()
    for a, b in zip(found.outcomes, made.outcomes, strict=True):
        for name, value in vars(b).items():
            np.testing.assert_array_equal(getattr(a, name), value)
    assert found.models == made.models
    assert found.data == made.data
    assert found.comparison == made.comparison
    np.testing.assert_array_equal(found.examples[0].adversarial, 255 - IMAGE)
    assert math.isnan(found.verdicts[0].detectable)
    assert list(found.cells) == ["a-x", "b-x"]
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_the_document_is_strict_json_that_its_schema_admits():
    def refuse(constant):
        raise AssertionError(constant)

    values = json.loads(results().to_text(), parse_constant=refuse)
    assert values["schema_version"] == 1
    assert values["verdicts"][0]["detectable"] is None
    assert json.loads(document.SCHEMA.read_text())["properties"].keys() == values.keys()


@given(
    hnp.arrays(st.sampled_from([np.int64, np.float64, np.bool_]), st.integers(0, 40)),
)
def test_packed_values_are_the_same_bits(values):
    packed = json.loads(json.dumps(sample_arrays.pack(values)))
    found = sample_arrays.unpack(packed)
    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()


def changed(change):
    values = json.loads(results().to_text())
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "JSON in here"),
        ("[" * 100_000, "JSON in here"),
        ("[]", "results in here, got at='the whole'"),
        (changed(lambda v: v.update(schema_version=2)), "schema_version 1 in here, got schema_ver"),
        (changed(lambda v: v.pop("models")), "at='the whole', reason=\"'models' is a required"),
        (changed(lambda v: v.update(extra=1)), "extra"),
        (changed(lambda v: v["outcomes"][0].update(seed="x")), "at='outcomes/0/seed'"),
        (changed(lambda v: v["outcomes"][0]["l2"].update(base64="AAA")), "cell='a-x'"),
        (changed(lambda v: v["outcomes"][0]["l2"].update(base64="!")), "outcomes/0/l2/base64"),
        (
            changed(lambda v: v["outcomes"][0].update(l2=sample_arrays.pack(np.zeros(3)))),
            "cell='a-x'",
        ),
        (changed(lambda v: v["verdicts"][0].update(value="maybe")), "at='verdicts/0/value'"),
        (changed(lambda v: v["examples"][0]["clean"].update(shape=[9, 9])), "images in here"),
        (changed(lambda v: v["examples"][0]["clean"].update(shape=[1, 10**9])), "examples/0/clean"),
    ],
)
def test_a_document_that_is_none_is_one_line(text, message):
    with pytest.raises(DataError) as raised:
        Results.from_text(text, "here")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("absent", "binary", "."):
        with pytest.raises(DataError, match="a file of results"):
            document.read(tmp_path / name)


def test_a_document_names_no_sequential_test_where_none_ran():
    plain = results(sequential=())
    assert "sequential" not in json.loads(plain.to_text())
    assert Results.from_text(plain.to_text()).sequential == ()
    assert Results.from_text(results().to_text()).sequential == (WATCHED,)


def test_a_watched_claim_in_words():
    assert str(WATCHED) == (
        "stopped after 75 of 200: accuracy >= 0.4 holds (anytime-valid, level 0.05 over 4 claims, "
        "decided after 61)"
    )
    late = replace(WATCHED, value="undecided", decided=None, attacked=200, claims=1)
    assert str(late) == ("attacked all 200: accuracy >= 0.4 undecided (anytime-valid, level 0.05)")
    assert WATCHED.level == 0.0125
