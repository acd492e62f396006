"""Crops, recover's shared view, the resampler, pixels: against torchvision, Pillow and numpy."""
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image, ImageOps
from torchvision.transforms import RandomResizedCrop

from utils.augment import (
    denormalize,
    normalize,
    pixel_bounds,
    plan_shared_views,
    resample,
    sample_crops,
    sample_positions,
    shared_view,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def crop_and_resize(images, crop, flip, *, size):
    return resample(images, sample_positions(crop, flip, size=size, side=images.shape[-1]))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images(gen):
    return torch.randint(0, 256, (10, 3, 16, 16), generator=gen, dtype=torch.uint8)


# ---------------------------------------------------------------- crops

@pytest.mark.parametrize("size, min_scale", [(224, 0.08), (224, 0.25), (32, 0.25)])
def test_crops_lie_within_the_image_and_the_law(size, min_scale):
    boxes = sample_crops(4000, size=size, min_scale=min_scale, generator=seeded())
    top, left, height, width = boxes.double().T
    assert min(top.min(), left.min()) >= 0 and min(height.min(), width.min()) >= 1
    assert (top + height).max() <= size and (left + width).max() <= size
    rounding = 1 / size  # half a pixel on each side of the box
    area, ratio = height * width / size**2, width / height
    assert area.min() >= min_scale - 2 * rounding and area.max() <= 1
    shortest = torch.minimum(height, width)
    assert (ratio >= 3 / 4 - 1.5 / shortest).all() and (ratio <= 4 / 3 + 1.5 / shortest).all()


def test_crops_are_distributed_as_torchvisions():
    size, num = 224, 6000
    ours = sample_crops(num, size=size, min_scale=0.08, generator=seeded()).double()
    torch.manual_seed(1)
    blank = torch.empty(3, size, size)
    theirs = [RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(num)]
    theirs = torch.tensor(theirs).double()
    at = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    for measure in (lambda b: b[:, 2] * b[:, 3] / size**2, lambda b: b[:, 3] / b[:, 2],
                    lambda b: b[:, 0] / size, lambda b: b[:, 1] / size):
        assert (measure(ours).quantile(at) - measure(theirs).quantile(at)).abs().max() < 0.03


def test_every_position_of_a_crop_is_equally_likely():
    top, left, height, width = sample_crops(20000, size=8, min_scale=0.08, generator=seeded()).numpy().T
    for start, length in ((top, height), (left, width)):
        for side in (3, 5, 7):
            share = np.bincount(start[length == side]) / (length == side).sum()
            np.testing.assert_allclose(share, np.full(9 - side, 1 / (9 - side)), atol=0.03)


@pytest.mark.parametrize("size", [16, 32, 224])
def test_a_crop_that_cannot_fit_falls_back_to_the_whole_image(size):
    boxes = sample_crops(500, size=size, min_scale=1.0, generator=seeded())
    assert boxes.dtype == torch.int16 and boxes.unique(dim=0).tolist() == [[0, 0, size, size]]


def test_each_view_can_have_its_own_least_scale():
    low = torch.tensor([1.0, 0.08]).repeat_interleave(1000)
    area = sample_crops(2000, size=64, min_scale=low, generator=seeded()).double()[:, 2:].prod(1) / 64**2
    assert area[:1000].min() == 1 and area[1000:].mean() == pytest.approx(0.53, abs=0.05)


# ---------------------------------------------------------------- recover's shared view

def test_flips_and_rolls_follow_their_laws():
    views = plan_shared_views(4000, size=16, min_scale=0.08, flip=True, jitter=3, generator=seeded())
    assert np.mean(views.flips) == pytest.approx(0.5, abs=0.04)
    assert set(map(tuple, views.rolls)) == {(y, x) for y in range(4) for x in range(4)}
    still = plan_shared_views(50, size=16, min_scale=0.08, flip=False, jitter=0, generator=seeded())
    assert not any(still.flips) and set(map(tuple, still.rolls)) == {(0, 0)}


def test_a_shared_view_is_one_crop_flip_and_roll_of_every_image(gen):
    x = torch.randn(3, 3, 16, 16, generator=gen)
    views = plan_shared_views(20, size=16, min_scale=0.08, flip=True, jitter=4, generator=gen)
    assert len(set(views.flips)) == 2
    for step in range(20):
        for image, view in zip(x, shared_view(x, views, step), strict=True):
            expected = TF.resized_crop(image, *views.boxes[step], [16, 16], antialias=False)
            expected = expected.numpy()[..., ::-1] if views.flips[step] else expected.numpy()
            expected = np.roll(np.roll(expected, views.rolls[step][0], 1), views.rolls[step][1], 2)
            np.testing.assert_allclose(view, expected, rtol=1e-5, atol=1e-6)


def test_a_shared_view_has_its_gradient_inside_the_crop_alone(gen):
    x = torch.randn(2, 3, 16, 16, generator=gen, requires_grad=True)
    views = plan_shared_views(5, size=16, min_scale=0.08, flip=True, jitter=4, generator=gen)
    for step, (top, left, height, width) in enumerate(views.boxes):
        gradient, = torch.autograd.grad(shared_view(x, views, step).sum(), x)
        inside = torch.zeros(16, 16, dtype=torch.bool)
        inside[top:top + height, left:left + width] = True
        assert (gradient[..., inside] > 0).all() and (gradient[..., ~inside] == 0).all()
        assert gradient.sum().item() == pytest.approx(x.numel(), rel=1e-4)  # bilinear weights sum to one


# ---------------------------------------------------------------- resampling

def test_resampling_is_pillows_to_within_a_grey_level(gen):
    size = 48
    pixels = torch.randint(0, 256, (40, 3, size, size), generator=gen, dtype=torch.uint8)
    crop = sample_crops(40, size=size, min_scale=0.02, generator=gen)
    crop[:4] = torch.tensor([[0, 0, size, size], [0, 0, 1, 1], [size - 3, size - 2, 3, 2], [5, 0, 1, size]])
    flip = torch.arange(40) % 2 == 1
    views = crop_and_resize(pixels.float(), crop, flip, size=size)
    for image, box, mirrored, view in zip(pixels, crop.tolist(), flip, views, strict=True):
        top, left, height, width = box
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        picture = picture.crop((left, top, left + width, top + height))
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        picture = ImageOps.mirror(picture) if mirrored else picture
        assert np.abs(view.permute(1, 2, 0).numpy() - np.asarray(picture, np.float64)).max() < 1.001


def test_the_whole_image_is_resampled_to_itself(images):
    whole = torch.tensor([[0, 0, 16, 16]]).repeat(10, 1)
    unflipped = crop_and_resize(images.float(), whole, torch.zeros(10, dtype=torch.bool), size=16)
    flipped = crop_and_resize(images.float(), whole, torch.ones(10, dtype=torch.bool), size=16)
    np.testing.assert_allclose(unflipped, images, atol=1e-3)
    np.testing.assert_allclose(flipped, images.flip(-1), atol=1e-3)


# ---------------------------------------------------------------- pixels

def test_normalisation_is_numpys_and_has_an_inverse(images):
    normal = normalize(images, MEAN, STD)
    expected = (images.numpy() / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    np.testing.assert_allclose(normal, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(denormalize(normal, MEAN, STD), images, atol=1e-3)


def test_pixel_bounds_are_black_and_white():
    low, high = pixel_bounds(MEAN, STD)
    for channel in range(3):
        assert low[0, channel].item() == pytest.approx((0 - MEAN[channel]) / STD[channel])
        assert high[0, channel].item() == pytest.approx((1 - MEAN[channel]) / STD[channel])
