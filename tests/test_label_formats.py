"""Label formats: what is stored, what comes back, and what a student sees of each."""
import math

import numpy as np
import pytest
import torch

from utils.label_formats import LABEL_FORMATS, check_num_classes, label_format

STORED = ["fp16", "int8", "topk:3", "topk:9"]


@pytest.fixture
def logits(gen):
    """40 rows of ten logits, of very different scales and means."""
    scale = torch.logspace(-3, 2, 40)[:, None]
    return scale * torch.randn(40, 10, generator=gen) + 10 * torch.randn(40, 1, generator=gen)


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_is_what_the_format_says(name, logits):
    stored, rows = label_format(name).encode(logits), label_format(name).tensors(10)
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


@pytest.mark.parametrize("name", ["fp8", "topk", "topk:", "topk:0", "topk:-3", "topk:x", "int8:4", ""])
def test_other_formats_are_refused(name):
    with pytest.raises(ValueError, match="--label-format.*topk:50"):
        label_format(name)


def test_topk_must_leave_classes_out_and_number_them():
    check_num_classes("topk:9", 10)
    check_num_classes("fp16", 10)
    with pytest.raises(ValueError, match="topk:10.*below the 10 classes"):
        check_num_classes("topk:10", 10)
    with pytest.raises(ValueError, match="32767"):
        check_num_classes("topk:10", 40000)
    assert set(LABEL_FORMATS) == {"fp16", "int8", "online"}
