"""Label formats: what is stored, what comes back, and what a student sees of each."""
import math

import numpy as np
import pytest
import torch

from utils.label_formats import LABEL_FORMATS
from utils.pieces import build_piece, spell_out

STORED = ["fp16", "int8", "topk:3", "topk:9"]


def label_format(text):
    """The format that a --label-format spells."""
    name, values = spell_out(LABEL_FORMATS, text, "--label-format")
    return build_piece(LABEL_FORMATS, name, values, "--label-format")


@pytest.fixture
def logits(gen):
    """40 rows of ten logits, of very different scales and means."""
    scale = torch.logspace(-3, 2, 40)[:, None]
    return scale * torch.randn(40, 10, generator=gen) + 10 * torch.randn(40, 1, generator=gen)


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_is_what_the_format_says(name, logits):
    stored, rows = label_format(name).encode(logits), label_format(name).layout(10)
    assert {key: (tensor.dtype, tuple(tensor.shape[1:])) for key, tensor in stored.items()} == rows
    nbytes = sum(tensor.numel() * tensor.element_size() for tensor in stored.values())
    assert nbytes == 40 * label_format(name).row_bytes(10)


def test_bytes_of_a_row_of_a_thousand_classes():
    expected = {"fp16": 2000, "int8": 1008, "topk:50": 202, "online": 0}
    assert {name: label_format(name).row_bytes(1000) for name in expected} == expected


def test_fp16_rounds_to_half_precision(logits):
    decoded = label_format("fp16").decode(label_format("fp16").encode(logits), 10)
    np.testing.assert_array_equal(decoded, logits.numpy().astype(np.float16).astype(np.float32))


def test_int8_is_off_by_half_a_step_at_most(logits):
    decoded = label_format("int8").decode(label_format("int8").encode(logits), 10).numpy()
    step = np.ptp(logits.numpy(), axis=1, keepdims=True) / 255
    assert (np.abs(decoded - logits.numpy()) <= 0.51 * step + 1e-5).all()
    assert np.abs(decoded - logits.numpy()).max() > 0.1 * step.max()  # it does round


def test_int8_of_equal_logits_is_exact():
    logits = torch.full((2, 5), 3.25)
    assert torch.equal(label_format("int8").decode(label_format("int8").encode(logits), 5), logits)


@pytest.mark.parametrize("kept", [1, 3, 9])
def test_topk_keeps_the_largest_and_the_mean_of_the_others(kept, logits):
    own = label_format(f"topk:{kept}")
    decoded, values = own.decode(own.encode(logits), 10).numpy(), logits.numpy().astype(np.float64)
    for row, before in zip(decoded, values, strict=True):
        order = np.argsort(-before)
        expected = before.copy()
        expected[order[kept:]] = before[order[kept:]].mean()
        np.testing.assert_allclose(row, expected, rtol=2e-3, atol=1e-3)


def test_the_mean_is_the_nearest_constant_for_an_mse(logits):
    own = label_format("topk:3")
    rows = own.encode(logits)
    errors = [(own.decode({**rows, "rest": rows["rest"] + shift}, 10) - logits).square().sum()
              for shift in (-0.3, 0.0, 0.3)]
    assert errors[1] < min(errors[0], errors[2])


@pytest.mark.parametrize("name", STORED)
def test_any_rows_decode_alone(name, logits):
    own = label_format(name)
    stored, part = own.encode(logits), slice(5, 9)
    rows = {key: tensor[part] for key, tensor in stored.items()}
    assert torch.equal(own.decode(rows, 10), own.decode(stored, 10)[part])


@pytest.mark.parametrize("name", [*STORED[:3]])
def test_a_logit_that_is_not_finite_stays_visible(name, logits):
    for bad in (math.inf, math.nan):
        logits[3, 4] = bad
        stored = label_format(name).encode(logits)
        assert not all(torch.isfinite(tensor).all() for tensor in stored.values())


@pytest.mark.parametrize("name, named", [
    ("fp8", "--label-format fp8: expected one of fp16, int8, topk, online"),
    ("topk:", "--label-format topk:: expected topk:TOPK, for example topk:50"),
    ("topk:x", "--label-format topk:x: expected topk:TOPK, for example topk:50"),
    ("topk:2.5", "--label-format topk:2.5: expected topk:TOPK, for example topk:50"),
    ("topk:0", "--topk must be > 0, got 0"), ("topk:-3", "--topk must be > 0, got -3"),
    ("int8:4", "--label-format int8:4: int8 has no option to set; expected int8"),
    ("", "--label-format : expected one of fp16, int8, topk, online")])
def test_other_formats_are_refused(name, named):
    with pytest.raises(ValueError) as refused:
        label_format(name)
    assert str(refused.value) == named


def test_topk_must_leave_classes_out_and_number_them():
    label_format("topk:9").check(10)
    label_format("fp16").check(10)
    with pytest.raises(ValueError, match="topk:10.*below the 10 classes"):
        label_format("topk:10").check(10)
    with pytest.raises(ValueError, match="32767"):
        label_format("topk:10").check(40000)
    assert set(LABEL_FORMATS) == {"fp16", "int8", "topk", "online"}


def test_topk_keeps_fifty_logits_where_nothing_is_said():
    assert label_format("topk") == label_format("topk:50") == LABEL_FORMATS["topk"](topk=50)


def test_online_labels_store_nothing(logits):
    online = label_format("online")
    assert online.encode(logits) == online.layout(10) == {}
    assert {name: piece().num_files(7) for name, piece in LABEL_FORMATS.items()} == {
        "fp16": 7, "int8": 7, "topk": 7, "online": 0}
    assert {name for name, piece in LABEL_FORMATS.items() if not piece.stored} == {"online"}
