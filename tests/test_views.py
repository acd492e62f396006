"""Views: the laws of epochs and mixes, and their replay bit for bit."""
import dataclasses
import io

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF

from utils.augment import resample, sample_positions
from utils.patch_shuffle import PatchShuffle
from utils.pieces import build, flatten, identity
from utils.randaugment import OPERATIONS as RANDAUGMENT
from utils.randaugment import apply_randaugment
from utils.runtime import generator
from utils.views import MIXES, OPERATIONS, VIEW_DTYPES, EpochViews, NoMix, Views, _sample_mix_boxes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def laws(mix_type="cutmix", *, size=16, batch_size=4, **more) -> Views:
    return build(Views, {"size": size, "batch_size": batch_size, "mix_type": mix_type, **more})


def plan(num=10, *, seed=0, **settings) -> EpochViews:
    return laws(**settings).draw(num, seeded(seed))


def unmixed(views: EpochViews) -> EpochViews:
    """The same views before they are mixed."""
    return dataclasses.replace(views, laws=dataclasses.replace(views.laws, mix_type=NoMix()))


def render(images, views, batch=0):
    chosen = images[views.index[views.rows(batch)].long()]
    return views.render(chosen, batch, mean=MEAN, std=STD)


@pytest.fixture
def images(gen):
    return torch.randint(0, 256, (10, 3, 16, 16), generator=gen, dtype=torch.uint8)


# ---------------------------------------------------------------- replay

@pytest.mark.parametrize("augment", OPERATIONS)
@pytest.mark.parametrize("mix_type", MIXES)
def test_a_plan_is_a_function_of_its_seed(mix_type, augment):
    first, again, other = (plan(40, seed=seed, mix_type=mix_type, augment=augment).tensors()
                           for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name in ("index", "crop", "flip", *OPERATIONS[augment].dtypes):
        assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("augment", OPERATIONS)
@pytest.mark.parametrize("mix_type", MIXES)
def test_stored_views_are_rendered_again_bit_for_bit(images, mix_type, augment):
    views, file = plan(mix_type=mix_type, augment=augment), io.BytesIO()
    torch.save(views.tensors(), file)
    file.seek(0)
    stored = EpochViews.of(views.laws, torch.load(file, weights_only=True))
    for batch in range(len(views)):
        assert torch.equal(render(images, views, batch), render(images, stored, batch))


def test_other_tensors_of_a_file_are_left():
    views = plan(augment="randaugment")
    again = EpochViews.of(views.laws, {**views.tensors(), "logits": torch.zeros(10, 7)})
    assert again.laws == views.laws and set(again.tensors()) == set(views.tensors()) \
        == {*VIEW_DTYPES, "ops", "levels", "bicubic"}
    assert set(EpochViews.of(laws(), views.tensors()).tensors()) == set(VIEW_DTYPES)


def test_the_views_of_labels_are_a_function_of_seed_and_epoch():
    def drawn(seed, epoch):
        return laws().draw_labelled(40, seed=seed, epoch=epoch).tensors()
    expected = laws().draw(40, generator(3, "labels", 5)).tensors()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in drawn(3, 5).items())
    for other in ((3, 4), (2, 5), (5, 3)):
        assert not torch.equal(drawn(*other)["index"], expected["index"])


@pytest.mark.cuda
def test_what_is_read_by_the_image_goes_along_and_what_is_read_by_the_batch_stays(images):
    views = plan(augment="randaugment")
    there = views.to(torch.device("cuda"))
    assert {name for name, tensor in there.tensors().items() if tensor.is_cuda} \
        == {"index", "crop", "flip", "mix_index"}
    for batch in range(len(views)):
        ours, theirs = render(images, views, batch), render(images.cuda(), there, batch)
        assert (ours - theirs.cpu()).abs().max() < 0.05


# ---------------------------------------------------------------- mixes

@pytest.mark.parametrize("size", [16, 224])
def test_mix_lam_is_the_share_outside_the_box(size):
    views = plan(4000, size=size, batch_size=2)
    top, left, bottom, right = views.mix_box.numpy().astype(np.int64).T
    assert top.min() >= 0 and left.min() >= 0 and bottom.max() <= size and right.max() <= size
    np.testing.assert_allclose(views.mix_lam, 1 - (bottom - top) * (right - left) / size**2, atol=1e-6)


def test_a_mix_box_has_the_side_of_its_lambda_and_is_clipped():
    lam, size = torch.rand(3000, generator=seeded(3), dtype=torch.float64), 32
    boxes = _sample_mix_boxes(lam, size, seeded()).numpy().astype(int)
    for low, high in (boxes[:, [0, 2]].T, boxes[:, [1, 3]].T):
        side = 2 * (np.floor(size * np.sqrt(1 - lam.numpy())).astype(int) // 2)
        unclipped = (low > 0) & (high < size)
        assert unclipped.sum() > 300 and (high - low)[unclipped].tolist() == side[unclipped].tolist()
        clipped = (high - low)[~unclipped]
        assert (clipped >= side[~unclipped] // 2).all() and (clipped <= side[~unclipped]).all()


@pytest.mark.parametrize("alpha, spread", [(1.0, 1 / 12), (0.8, 1 / 10.4)])
def test_mixup_lambda_is_a_beta_variable(alpha, spread):
    lam = plan(6000, batch_size=2, mix_type="mixup", mix_alpha=alpha).mix_lam
    assert lam.dtype == torch.float32 and lam.mean().item() == pytest.approx(0.5, abs=0.02)
    assert lam.var().item() == pytest.approx(spread, rel=0.06)  # 1 / (4 (2 alpha + 1))


def test_every_mix_has_its_own_alpha_or_none():
    assert flatten(laws("cutmix"))["mix_alpha"] == 1.0 and flatten(laws("mixup"))["mix_alpha"] == 0.8
    assert "mix_alpha" not in flatten(laws("none"))
    same, narrow = plan(4000, batch_size=2, mix_alpha=1.0), plan(4000, batch_size=2, mix_alpha=20.0)
    assert torch.equal(plan(4000, batch_size=2).mix_box, same.mix_box)
    assert (same.mix_lam == 1).double().mean().item() == pytest.approx(1 / 64, abs=0.01)  # too small
    assert not (narrow.mix_lam == 1).any()
    with pytest.raises(ValueError, match=r"--mix-alpha must be in \[0.001, 1000\], got 0.0"):
        laws("mixup", mix_alpha=0.0)


def test_cutmix_pastes_the_partners_box(images):
    views = plan(seed=3)
    for batch in range(3):
        own, mixed = (render(images, drawn, batch) for drawn in (unmixed(views), views))
        top, left, bottom, right = views.mix_box[batch].tolist()
        for i, partner in enumerate(views.mix_index[4 * batch:4 * batch + 4].tolist()):
            expected = own[i].numpy().copy()
            expected[:, top:bottom, left:right] = own[partner].numpy()[:, top:bottom, left:right]
            np.testing.assert_array_equal(mixed[i], expected)
    assert (views.mix_lam < 1).any()


def test_mixup_blends_with_the_partner(images):
    views = plan(mix_type="mixup")
    own, mixed = (render(images, drawn).numpy() for drawn in (unmixed(views), views))
    lam = views.mix_lam[0].item()
    assert 0 < lam < 1
    expected = lam * own + (1 - lam) * own[views.mix_index[:4]]
    np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-6)


def test_no_mix_leaves_every_image_whole(images):
    views = plan(mix_type="none")
    assert views.mix_lam.tolist() == [1, 1, 1] and not views.mix_box.any()
    assert views.mix_index.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_a_view_is_the_indexed_image_cropped_and_normalised(images):
    views = plan(mix_type="none")
    for i, view in zip(views.index.tolist()[4:8], render(images, views, 1), strict=True):
        position = views.index.tolist().index(i)
        positions = sample_positions(views.crop[position:position + 1], views.flip[position:position + 1],
                                     size=16, side=16)
        expected = resample(images[i:i + 1].float(), positions)[0].numpy()
        expected = (expected / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
        np.testing.assert_allclose(view, expected, rtol=1e-4, atol=1e-5)


def test_operations_come_before_the_crop_and_bring_in_the_mean(images):
    views = plan(mix_type="none", augment="randaugment", seed=2)
    changed = apply_randaugment(images[views.index.long()], **views.operations, fill=(124, 116, 104))
    assert not torch.equal(changed, images[views.index.long()])
    plain = dataclasses.replace(views, laws=laws("none"), operations={})
    for batch in range(3):
        expected = plain.render(changed[plain.rows(batch)], batch, mean=MEAN, std=STD)
        assert torch.equal(render(images, views, batch), expected)


# ---------------------------------------------------------------- padded crops

@pytest.mark.parametrize("padding", [1, 4, 20])
def test_a_padded_view_is_torchvisions(images, padding):
    views = plan(mix_type="none", crop="padded", crop_padding=padding)
    for batch in range(3):
        for row, view in zip(range(10)[views.rows(batch)], render(images, views, batch), strict=True):
            top, left, height, width = views.crop[row].tolist()
            image = TF.pad(TF.to_tensor(TF.to_pil_image(images[views.index[row]])), [padding] * 4)
            image = TF.crop(image, top + padding, left + padding, height, width)
            image = TF.normalize(TF.hflip(image) if views.flip[row] else image, MEAN, STD)
            torch.testing.assert_close(view, image, rtol=1e-6, atol=1e-6)
    assert views.flip.any() and (views.crop[:, :2] < 0).any() and (views.crop[:, :2] > 0).any()


def test_padded_crops_are_uniform_shifts_of_the_whole_image():
    crop = plan(20000, crop="padded", crop_padding=3).crop
    assert crop.dtype == torch.int16 and (crop[:, 2:] == 16).all()
    places = (crop[:, 0] + 3) * 7 + crop[:, 1] + 3
    share = torch.bincount(places.long(), minlength=49) / 20000
    np.testing.assert_allclose(share, np.full(49, 1 / 49), atol=0.005)


def test_boxes_fit_the_law_that_drew_them_alone():
    padded, resized = plan(200, crop="padded", seed=1), plan(200, seed=1)
    assert padded.fits(200) and resized.fits(200)
    assert not dataclasses.replace(padded, laws=laws()).fits(200)
    assert not dataclasses.replace(resized, laws=laws(crop="padded")).fits(200)
    assert not dataclasses.replace(padded, laws=laws(crop="padded", crop_padding=3)).fits(200)
    assert torch.equal(padded.index, resized.index)
    for value, column in ((-5, 0), (5, 1), (15, 2), (17, 3)):
        crop = padded.crop.clone()
        crop[7, column] = value
        assert not dataclasses.replace(padded, crop=crop).fits(200)


def test_laws_of_before_are_spelt_as_before():
    before = {"size": 16, "batch_size": 4, "min_scale": 0.25, "flip": True, "num_batches": None,
              "mix_type": "cutmix", "mix_alpha": 1.0, "augment": "none"}
    assert identity(laws()) == before and build(Views, before) == laws()
    assert identity(laws(augment="randaugment")) == before | {"augment": "randaugment"}
    strong = laws(augment="randaugment", magnitude=5.0, operations=4, crop="padded")
    assert identity(strong) == before | {"augment": "randaugment", "magnitude": 5.0, "operations": 4,
                                         "crop": "padded", "crop_padding": 4}


# ---------------------------------------------------------------- tiles, and other strengths

@pytest.mark.parametrize("factor", [2, 4])
def test_tiles_change_columns_then_rows(images, factor):
    piece = PatchShuffle(shuffle_factor=factor)
    drawn = piece.draw(10, seeded())
    shuffled = piece.apply(images, drawn, fill=[0, 0, 0]).numpy()
    assert drawn.keys() == piece.dtypes.keys() and drawn["tile_rows"].shape == (10, factor)
    for image, result, columns, rows in zip(images.numpy(), shuffled, drawn["tile_columns"].tolist(),
                                            drawn["tile_rows"].tolist(), strict=True):
        strips = np.split(image, factor, axis=2)
        image = np.concatenate([strips[i] for i in columns], axis=2)
        strips = np.split(image, factor, axis=1)
        np.testing.assert_array_equal(result, np.concatenate([strips[i] for i in rows], axis=1))


@pytest.mark.parametrize("factor, arrangements", [(2, 4), (3, 36)])
def test_every_arrangement_of_columns_and_rows_is_as_likely(factor, arrangements):
    drawn = PatchShuffle(shuffle_factor=factor).draw(20000, seeded(2))
    both = torch.cat([drawn["tile_columns"], drawn["tile_rows"]], 1)
    assert (both[:, :factor].sort(1).values == torch.arange(factor)).all()
    found, counts = both.unique(dim=0, return_counts=True)
    assert len(found) == arrangements
    np.testing.assert_allclose(counts / 20000, np.full(arrangements, 1 / arrangements), atol=0.01)


def test_tiles_are_equal():
    with pytest.raises(ValueError, match="of 16 pixels a side do not fall into --shuffle-factor 3 equal"):
        laws(augment="patch-shuffle", shuffle_factor=3)


def test_tiles_are_exchanged_before_the_crop(images):
    views = plan(mix_type="none", augment="patch-shuffle", seed=2)
    changed = PatchShuffle().apply(images[views.index.long()], views.operations, fill=[0, 0, 0])
    plain = dataclasses.replace(views, laws=laws("none"), operations={})
    for batch in range(3):
        expected = plain.render(changed[plain.rows(batch)], batch, mean=MEAN, std=STD)
        assert torch.equal(render(images, views, batch), expected)


def test_operations_of_another_law_do_not_fit():
    tiles = plan(augment="patch-shuffle")
    twice = {name: torch.zeros_like(order) for name, order in tiles.operations.items()}
    assert tiles.fits(10) and not dataclasses.replace(tiles, operations=twice).fits(10)
    assert not dataclasses.replace(tiles, laws=laws(augment="patch-shuffle", shuffle_factor=4)).fits(10)
    four = plan(augment="randaugment", operations=4)
    assert four.fits(10) and not dataclasses.replace(four, laws=laws(augment="randaugment")).fits(10)


def test_randaugments_strengths():
    drawn = laws(augment="randaugment", magnitude=4.0, operations=3).draw(20000, seeded()).operations
    assert drawn["ops"].shape == drawn["levels"].shape == drawn["bicubic"].shape == (20000, 3)
    assert drawn["levels"].abs().double().mean().item() == pytest.approx(4, abs=0.02)
    plain = laws(augment="randaugment").draw(50, seeded()).operations
    spelt = laws(augment="randaugment", magnitude=6.0, operations=2).draw(50, seeded()).operations
    assert all(torch.equal(plain[name], spelt[name]) for name in plain)


# ---------------------------------------------------------------- epochs

def test_an_epoch_is_a_shuffle_whose_last_partial_batch_is_kept(images):
    views = plan(10)
    assert sorted(views.index.tolist()) == list(range(10)) != views.index.tolist()
    assert len(views) == len(views.mix_box) == len(views.mix_lam) == 3 and len(render(images, views, 2)) == 2
    partners = [sorted(part.tolist()) for part in views.mix_index.split(4)]
    assert partners == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]
    assert [views.index[views.rows(batch)].tolist() for batch in range(3)] \
        == [views.index.tolist()[:4], views.index.tolist()[4:8], views.index.tolist()[8:]]
    dtypes = {name: tensor.dtype for name, tensor in views.tensors().items()}
    assert dtypes == VIEW_DTYPES == {
        "index": torch.int32, "crop": torch.int16, "flip": torch.bool, "mix_index": torch.int16,
        "mix_box": torch.int16, "mix_lam": torch.float32}


def test_num_batches_takes_the_start_of_the_shuffle():
    short, whole = plan(10, num_batches=2), plan(10)
    assert short.index.tolist() == whole.index.tolist()[:8]
    assert {len(short.tensors()[name]) for name in ("crop", "flip", "mix_index")} == {8}
    assert len(short) == len(short.mix_box) == 2
    assert plan(10, num_batches=9).index.tolist() == whole.index.tolist()


@pytest.mark.parametrize("num_images, num_batches", [(8, None), (9, None), (9, 2), (9, 5), (1, 3)])
def test_the_number_of_batches_is_known_before_they_are_drawn(num_images, num_batches):
    laws = Views(size=6, batch_size=4, num_batches=num_batches)
    drawn = laws.draw(num_images, torch.Generator().manual_seed(0))
    assert laws.count(num_images) == len(drawn) == len(drawn.lengths())
    assert [drawn.rows(batch).stop - drawn.rows(batch).start for batch in range(len(drawn) - 1)] == \
        drawn.lengths()[:-1] and sum(drawn.lengths()) == len(drawn.index)


def test_flips_can_be_left_out():
    assert plan(2000).flip.double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert not plan(200, flip=False).flip.any()


@pytest.mark.parametrize("name, value, message", [
    ("size", 0, "--size must be > 0, got 0"), ("batch_size", 0, "--batch-size must be > 0, got 0"),
    ("min_scale", 1.5, r"--min-scale must be in \(0, 1\], got 1.5"),
    ("mix_type", "mosaic", "--mix-type mosaic: expected one of cutmix, mixup, none"),
    ("augment", "auto", "--augment auto: expected one of none, randaugment, patch-shuffle"),
    ("crop", "round", "--crop round: expected one of resized, padded")])
def test_laws_that_cannot_be_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        laws(**{name: value})


def test_the_images_of_a_large_batch_are_each_rendered_by_themselves(gen):
    images = torch.randint(0, 256, (21, 3, 16, 16), generator=gen, dtype=torch.uint8)
    views = plan(21, batch_size=21, mix_type="none")
    together = render(images, views)
    for row in range(21):
        alone = dataclasses.replace(views, **{name: getattr(views, name)[row:row + 1] for name in (
            "index", "crop", "flip", "mix_index")})
        assert torch.equal(render(images, alone)[0], together[row])


def test_mix_boxes_reach_every_edge_of_the_image():
    boxes = plan(4000, batch_size=2, size=8).mix_box
    assert set(boxes[:, :2].unique().tolist()) >= set(range(7))
    assert set(boxes[:, 2:].unique().tolist()) >= set(range(2, 9))


@pytest.mark.parametrize("min_scale", [0.08, 0.25, 0.8])
def test_crops_have_the_least_area_of_the_laws(min_scale):
    area = plan(3000, size=200, min_scale=min_scale).crop.double()[:, 2:].prod(1) / 200**2
    assert min_scale - 0.01 < area.min() < min_scale + 0.02


@pytest.mark.parametrize("mix_type", ["cutmix", "mixup"])
def test_partners_are_a_random_permutation_of_every_batch(mix_type):
    partners = plan(8000, batch_size=8, mix_type=mix_type).mix_index.view(1000, 8)
    assert (partners.sort(1).values == torch.arange(8)).all()
    for place in range(8):  # each place has every partner equally often, itself among them
        share = torch.bincount(partners[:, place].long(), minlength=8) / 1000
        np.testing.assert_allclose(share, np.full(8, 1 / 8), atol=0.05)


def test_what_an_operation_brings_in_is_the_datas_mean():
    black = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    still = torch.tensor([[0, 0, 16, 16]], dtype=torch.int16)
    views = dataclasses.replace(
        plan(1, mix_type="none", augment="randaugment"), crop=still, flip=torch.tensor([False]), operations={
            "ops": torch.tensor([[RANDAUGMENT.index("TranslateX")]]), "levels": torch.tensor([[10.0]]),
            "bicubic": torch.tensor([[False]])})
    rendered = render(black, views)[0]
    grey = torch.tensor([124, 116, 104])  # the mean, in whole grey levels
    expected = (grey / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(rendered[:, :, -1], expected[:, None].expand(3, 16), rtol=1e-3, atol=1e-3)
    kept = -torch.tensor(MEAN) / torch.tensor(STD)
    torch.testing.assert_close(rendered[:, :, 0], kept[:, None].expand(3, 16))
