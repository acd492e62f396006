"""RandAugment: its draws against their laws, its operations against Pillow, its replay bit for bit."""
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps

from utils.randaugment import (
    OPERATIONS,
    RANDAUGMENT_DTYPES,
    ImageOperations,
    RandAugment,
    apply_randaugment,
    plan_randaugment,
)

FILL = (124, 116, 104)
GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
AFFINE, LINEAR, CUBIC = Image.Transform.AFFINE, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


def plan(num=4000, *, seed=0, **settings):
    return plan_randaugment(num, **settings, generator=torch.Generator().manual_seed(seed))


def render(pixels, name, level, *, bicubic=False):
    """Every image under one operation."""
    shape = (len(pixels), 1)
    return apply_randaugment(pixels, torch.full(shape, OPERATIONS.index(name), dtype=torch.int8),
                             torch.full(shape, float(level)), torch.full(shape, bicubic), fill=FILL)


@pytest.fixture
def pixels(gen):
    """Noise, smooth, of little contrast, nearly and quite of one colour; not square."""
    noise = torch.randint(0, 256, (2, 3, 40, 36), generator=gen).float()
    coarse = torch.rand(2, 3, 6, 5, generator=gen) * 400 - 70
    smooth = F.interpolate(coarse, size=(40, 36), mode="bicubic").clamp(0, 255)
    flat = torch.full((2, 3, 40, 36), 77.0)
    flat[0, :, 3, 5] = 90
    return torch.cat([noise, smooth, noise / 8 + 100, flat]).to(torch.uint8)


# ---------------------------------------------------------------- draws

def test_operations_are_equally_likely_with_replacement_and_half_are_applied():
    ops = plan(30000)["ops"].long()
    assert ops.shape == (30000, 2) and len(OPERATIONS) == len(set(OPERATIONS)) == 15
    share = torch.bincount(ops.flatten() + 1, minlength=16) / ops.numel()
    assert share[0].item() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(share[1:], np.full(15, 1 / 30), atol=0.004)
    both = ops[(ops >= 0).all(1)]
    assert len(both) / len(ops) == pytest.approx(0.25, abs=0.01)
    assert (both[:, 0] == both[:, 1]).double().mean().item() == pytest.approx(1 / 15, abs=0.01)


def test_levels_are_normal_each_of_its_own():
    levels = plan(20000)["levels"].abs().double()
    assert levels.mean().item() == pytest.approx(6, abs=0.03)
    assert levels.std().item() == pytest.approx(1, abs=0.03)
    assert abs(torch.corrcoef(levels.T)[0, 1].item()) < 0.03
    assert (plan(50, magnitude=4, magnitude_std=0)["levels"].abs() == 4).all()


@pytest.mark.parametrize("magnitude, end", [(9.5, 10), (0.5, 0)])
def test_levels_are_clipped(magnitude, end):
    levels = plan(20000, magnitude=magnitude, magnitude_std=2)["levels"].abs()
    assert 0 <= levels.min() and levels.max() <= 10
    assert (levels == end).double().mean().item() == pytest.approx(0.4013, abs=0.015)  # beyond std / 4


def test_half_the_geometric_levels_are_negative_and_no_others():
    views = plan(20000)
    geometric = torch.isin(views["ops"].long(), torch.tensor([OPERATIONS.index(name) for name in GEOMETRIC]))
    negative, bicubic = views["levels"] < 0, views["bicubic"]
    assert not negative[(views["ops"] >= 0) & ~geometric].any()
    assert negative[geometric].double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert bicubic[geometric].double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (negative & bicubic)[geometric].double().mean().item() == pytest.approx(0.25, abs=0.02)


def test_a_plan_is_a_function_of_its_seed():
    first, again, other = (plan(40, seed=seed, num_ops=3) for seed in (0, 0, 1))
    assert {name: (rows.dtype, tuple(rows.shape)) for name, rows in first.items()} == {
        "ops": (torch.int8, (40, 3)), "levels": (torch.float32, (40, 3)), "bicubic": (torch.bool, (40, 3))}
    for name, rows in first.items():
        assert torch.equal(rows, again[name]) and not torch.equal(rows, other[name])


# ---------------------------------------------------------------- operations, at strength = level / 10

def pillow(name, picture, strength, kind):
    """The same by Pillow, with the constants of timm's `rand` set, seen in what timm 0.6.13 and 1.0.31 do."""
    width, height = picture.size
    lut = {"Solarize": lambda i: i if i < int(256 * strength) else 255 - i,
           "SolarizeAdd": lambda i: min(255, i + int(110 * strength)) if i < 128 else i,
           "Posterize": lambda i: i // 2 ** (8 - int(4 * strength)) * 2 ** (8 - int(4 * strength))}
    matrix = {"ShearX": (1, 0.3 * strength, 0, 0, 1, 0), "ShearY": (1, 0, 0, 0.3 * strength, 1, 0),
              "TranslateX": (1, 0, 0.45 * strength * width, 0, 1, 0),
              "TranslateY": (1, 0, 0, 0, 1, 0.45 * strength * height)}
    if name in ("AutoContrast", "Equalize", "Invert"):
        return getattr(ImageOps, name.lower())(picture)
    if name in lut:
        return picture.point([lut[name](i) for i in range(256)] * 3)
    if name == "Rotate":
        return picture.rotate(30 * strength, resample=kind, fillcolor=FILL)
    if name in matrix:
        return picture.transform(picture.size, AFFINE, matrix[name], resample=kind, fillcolor=FILL)
    return getattr(ImageEnhance, name)(picture).enhance(0.1 + 1.8 * strength)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("level", [0.717, 3.371, 6.139, 9.713, -5.297])
def test_an_operation_is_pillows(pixels, name, level):
    """Colour to the bit; geometry to one grey level, in a few values of a thousand."""
    level = level if name in GEOMETRIC else abs(level)
    for bicubic, kind in ((False, LINEAR), (True, CUBIC)):
        ours = render(pixels, name, level, bicubic=bicubic).permute(0, 2, 3, 1).numpy().astype(int)
        for image, own in zip(pixels.permute(0, 2, 3, 1).numpy(), ours, strict=True):
            theirs = np.asarray(pillow(name, Image.fromarray(image), np.float32(level).item() / 10, kind))
            difference = np.abs(own - theirs)
            assert difference.max() <= (name in GEOMETRIC) and difference.mean() < 0.005


@pytest.mark.parametrize("name", OPERATIONS[3:])
def test_an_operation_changes_images_but_at_its_neutral_level(pixels, name):
    neutral = {"Solarize": 10, "SolarizeAdd": 0, **dict.fromkeys(GEOMETRIC, 0)}.get(name, 5)
    assert (render(pixels[:4], name, 6) != pixels[:4]).flatten(1).any(1).all()
    if name != "Posterize":                                     # which has none: 4 bits are kept at most
        for bicubic in (False, True):
            assert torch.equal(render(pixels, name, neutral, bicubic=bicubic), pixels)


# ---------------------------------------------------------------- batches

def test_a_batch_is_its_images_one_by_one_operation_after_operation(pixels):
    views = plan(len(pixels), seed=5, num_ops=4)
    together = apply_randaugment(pixels, **views, fill=FILL)
    assert len(views["ops"].unique()) > 8
    for i, image in enumerate(pixels):
        alone = image[None]
        rows = (views[name][i].tolist() for name in ("ops", "levels", "bicubic"))
        for op, level, bicubic in zip(*rows, strict=True):
            alone = render(alone, OPERATIONS[op], level, bicubic=bicubic) if op >= 0 else alone
        assert torch.equal(together[i:i + 1], alone)


def test_stored_views_are_rendered_again_bit_for_bit_and_the_images_are_left_alone(pixels):
    views, file, before = plan(len(pixels), num_ops=4), io.BytesIO(), pixels.clone()
    torch.save(views, file)
    file.seek(0)
    first = apply_randaugment(pixels, **views, fill=FILL)
    stored = torch.load(file, weights_only=True)
    again = apply_randaugment(pixels.contiguous(memory_format=torch.channels_last), **stored, fill=FILL)
    assert torch.equal(first, again) and first.dtype == torch.uint8 and first.shape == pixels.shape
    assert torch.equal(pixels, before) and not torch.equal(first, before)


def test_operations_not_applied_leave_a_copy(pixels):
    views = plan(len(pixels))
    views["ops"][:] = -1
    same = apply_randaugment(pixels, **views, fill=FILL)
    assert torch.equal(same, pixels) and same.data_ptr() != pixels.data_ptr()


def test_the_pieces_draw_and_apply_what_the_functions_do(pixels, gen):
    expected = plan(len(pixels), seed=5)
    drawn = RandAugment().draw(len(pixels), torch.Generator().manual_seed(5))
    assert {name: rows.dtype for name, rows in drawn.items()} == RandAugment.dtypes == RANDAUGMENT_DTYPES
    assert all(torch.equal(rows, expected[name]) for name, rows in drawn.items())
    assert torch.equal(RandAugment().apply(pixels, drawn, fill=list(FILL)),
                       apply_randaugment(pixels, **expected, fill=FILL))
    before = gen.get_state()
    assert ImageOperations().draw(3, gen) == {} == ImageOperations.dtypes
    assert torch.equal(gen.get_state(), before)  # it leaves the other draws as they are
    assert ImageOperations().apply(pixels, {}, fill=list(FILL)) is pixels


@pytest.mark.cuda
def test_a_gpu_renders_what_the_cpu_renders(pixels):
    for name in OPERATIONS:
        for level in (2.6, 6.1):
            there, here = (render(pixels.to(device), name, level, bicubic=True) for device in ("cuda", "cpu"))
            difference = (there.cpu().int() - here.int()).abs().double()
            assert there.is_cuda and difference.max() <= (name in GEOMETRIC) and difference.mean() < 0.005
