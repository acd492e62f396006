"""Starts that networks choose, each against a computation written out in numpy here."""
import dataclasses

import numpy
import pytest
import torch
from helpers import CLASSES, POOL, Tiny, contents, pixels_of, write_data
from PIL import Image
from torch import nn

from models.registry import build_model
from recover.selection import Pool
from recover.starts import STARTS, observed
from recover.starts.centre_margin import CentreMargin, entropies, find_patterns, share_out
from recover.starts.coreset import Herding, KCentre
from recover.starts.medium import Medium, around_the_middle
from recover.starts.mosaic import Mosaic
from recover.starts.patches import centred, square_boxes, tiled
from recover.units import Inputs, Unit
from utils.data import RealSet
from utils.records import read_json
from utils.runtime import generator

pytest_plugins = ["stage_fixtures"]
MEAN, STD = numpy.array((0.4, 0.5, 0.6)), numpy.array((0.2, 0.25, 0.3))
SIZE, SEED, NUM = 16, 5, 9
CHOSEN = [name for name in STARTS if name not in ("real", "random", "noise", "latent")]


@pytest.fixture(scope="module")
def large(tiny, tmp_path_factory) -> Tiny:
    """Nine pictures a class, larger than the run's images, and the teachers of `tiny`."""
    return Tiny(write_data(tmp_path_factory.mktemp("large"), train=NUM, size=24), tiny.teachers)


@pytest.fixture(scope="module")
def networks(tiny) -> dict[str, nn.Module]:
    """The teachers, loaded by hand."""
    made = {}
    for name in POOL:
        made[name] = build_model(name, num_classes=4, stem="imagenet")
        made[name].load_state_dict(torch.load(tiny.teachers / f"{name}.pt", weights_only=True))
        made[name].eval().requires_grad_(False)
    return made


@pytest.fixture(scope="module")
def photographs(large, tmp_path_factory) -> set[bytes]:
    """Every picture of `large` as a run writes it."""
    run = large.recover(tmp_path_factory.mktemp("plain"), "--iteration", 0, "--ipc-end", NUM)
    return {image.tobytes() for image in pixels_of(run)}


@pytest.fixture
def inputs(large, networks):
    """f(ipc): what a run on the large pictures prepares its starts with."""
    real = RealSet(f"folder:{large.data}", "", "train", size=SIZE)

    def make(ipc: int = 2) -> Inputs:
        return Inputs(real, Pool(POOL), networks, SEED, SIZE, tuple(MEAN), tuple(STD), torch.device("cpu"),
                      ipc=ipc)
    return make


def all_images(start, inputs) -> numpy.ndarray:
    """(class, IPC index, H, W, C), every image of a set, by one unit a index."""
    make, classes = start.prepare(inputs), range(len(CLASSES))
    units = [Unit(i, 0, tuple((i, k) for k in classes)) for i in range(inputs.ipc)]
    return numpy.stack([make(unit).permute(0, 2, 3, 1).numpy() for unit in units], 1)


def normalised(pixels) -> numpy.ndarray:
    return (numpy.asarray(pixels, float) / 255 - MEAN) / STD


def picture(large, k: int, i: int) -> Image.Image:
    return Image.open(large.data / "train" / CLASSES[k] / f"{i:02d}.png").convert("RGB")


def test_views_of(large, k: int) -> numpy.ndarray:
    return numpy.stack([normalised(picture(large, k, i).resize((SIZE, SIZE), Image.BILINEAR))
                        for i in range(NUM)])


test_views_of.__test__ = False


def run_network(network, views: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """(N, H, W, C) views: what goes into the last Linear, and the logits, float64."""
    seen = []
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    logits = network(torch.tensor(views, dtype=torch.float32).permute(0, 3, 1, 2))
    hook.remove()
    return seen[0].double().numpy(), logits.double().numpy()


def softmax(logits: numpy.ndarray) -> numpy.ndarray:
    powers = numpy.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


# ---------------------------------------------------------------- crops and tiles

@pytest.mark.parametrize("width, height, least", [(40, 30, 0.08), (8, 8, 0.08), (9, 8, 0.9), (100, 3, 0.08),
                                                  (4, 101, 0.5)])
def test_square_crops_are_those_of_the_law(width, height, least, gen):
    uniform = torch.rand(50, 10, 3, dtype=torch.float64, generator=gen)
    fallbacks = 0
    for box, draws in zip(square_boxes(width, height, uniform, least_area=least), uniform.numpy(),
                          strict=True):
        sides = [round((width * height * (least + (1 - least) * area)) ** 0.5) for area, _, _ in draws]
        fitting = [(side, *draw[1:]) for side, draw in zip(sides, draws, strict=True)
                   if side <= min(width, height)]
        if fitting:
            side, down, right = fitting[0]
            expected = (int(down * (height - side + 1)), int(right * (width - side + 1)), side)
        else:
            fallbacks += 1
            side = min(width, height)
            expected = ((height - side) // 2, (width - side) // 2, side)
        assert box == expected
        assert 0 <= box[0] <= height - box[2] and 0 <= box[1] <= width - box[2]
    assert (fallbacks == 50) == (min(width, height) < 5)


def test_a_crop_lies_in_the_middle_of_zeros():
    there = centred(torch.ones(2, 3, 4, 4), 8)
    assert there.shape == (2, 3, 8, 8) and there[:, :, 2:6, 2:6].eq(1).all() and there.sum() == 2 * 3 * 16
    assert torch.equal(centred(torch.ones(1, 3, 8, 8), 8), torch.ones(1, 3, 8, 8))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_tiles_stand_row_by_row(factor):
    pieces = torch.arange(2 * factor**2).view(-1, 1, 1, 1) + torch.arange(6).view(1, 1, 2, 3) / 10
    made = tiled(pieces.expand(-1, 3, -1, -1), factor)
    for image in range(2):
        for tile in range(factor**2):
            row, column = divmod(tile, factor)
            assert torch.equal(made[image, 0, 2 * row:2 * row + 2, 3 * column:3 * column + 3],
                               pieces[image * factor**2 + tile, 0])


# ---------------------------------------------------------------- mosaics and medium scores

def scored_crops(large, networks, names, k, *, candidates, crops, factor):
    """A class's candidates in file order: (pixels of its best crop, mean logits of it), written out."""
    pool = sorted(torch.randperm(NUM, generator=generator(SEED, "candidates", k)).tolist()[:candidates])
    uniform = torch.rand(len(pool), crops, 10, 3, dtype=torch.float64, generator=generator(SEED, "crops", k))
    side, found = SIZE // factor, []
    for i, draws in zip(pool, uniform, strict=True):
        whole = picture(large, k, i)
        options = []
        for top, left, own in square_boxes(*whole.size, draws, least_area=0.08):
            crop = whole.crop((left, top, left + own, top + own)).resize((side, side), Image.BILINEAR)
            view = numpy.zeros((1, SIZE, SIZE, 3))
            at = (SIZE - side) // 2
            view[0, at:at + side, at:at + side] = normalised(crop)
            logits = numpy.mean([run_network(networks[name], view)[1] for name in names], 0)
            options.append((-numpy.log(softmax(logits)[0, k]), normalised(crop)))
        found.append(min(options, key=lambda option: option[0]))
    return found


@pytest.mark.parametrize("observers, factor, ipc", [(1, 2, 2), (3, 1, 3)])
def test_a_mosaic_is_of_the_crops_of_least_cross_entropy(observers, factor, ipc, inputs, large, networks):
    start = Mosaic(candidates=8, crops=3, factor=factor, observers=observers)
    made, half = all_images(start, inputs(ipc)), SIZE // 2
    for k in range(len(CLASSES)):
        found = scored_crops(large, networks, POOL[:observers], k, candidates=8, crops=3, factor=factor)
        ranked = [crop for _, crop in sorted(found, key=lambda option: option[0])]
        for j in range(ipc):
            if factor == 1:
                numpy.testing.assert_allclose(made[k, j], ranked[j], atol=1e-5)
                continue
            for rank, (down, right) in ((j, (0, 0)), (ipc + j, (0, 1)), (2 * ipc + j, (1, 0)),
                                        (3 * ipc + j, (1, 1))):
                part = made[k, j, down * half:down * half + half, right * half:right * half + half]
                numpy.testing.assert_allclose(part, ranked[rank], atol=1e-5)


def test_the_order_around_the_middle():
    assert [around_the_middle(num) for num in range(7)] == [
        [], [0], [1, 0], [2, 1, 0], [2, 3, 1, 0], [3, 4, 2, 1, 0], [3, 4, 2, 5, 1, 0]]
    assert all(sorted(around_the_middle(num)) == list(range(num)) for num in range(50))


def test_medium_photographs_are_delts_ranking(inputs, large, networks):
    made = all_images(Medium(), inputs(NUM))
    for k in range(len(CLASSES)):
        views = test_views_of(large, k)
        sure = softmax(run_network(networks[POOL[0]], views)[1])[:, k]
        assert len(set(sure)) == NUM  # no ties here: ascending, then 5 6 4 7 3 8 2 1 0
        expected = views[numpy.argsort(sure)[[5, 6, 4, 7, 3, 8, 2, 1, 0]]]
        numpy.testing.assert_allclose(made[k], expected, atol=1e-5)


@pytest.mark.parametrize("factor, ipc", [(1, 4), (2, 2)])
def test_medium_crops_are_rdeds_from_the_middle_on(factor, ipc, inputs, large, networks):
    made, side = all_images(Medium(factor=factor, candidates=8, crops=2), inputs(ipc)), SIZE // factor
    for k in range(len(CLASSES)):
        found = scored_crops(large, networks, POOL[:1], k, candidates=8, crops=2, factor=factor)
        ascending = sorted(found, key=lambda option: numpy.exp(-option[0]))
        ranked = [ascending[rank][1] for rank in (4, 5, 3, 6, 2, 7, 1, 0)]
        for j in range(ipc):
            for tile in range(factor**2):
                row, column = divmod(tile, factor)
                part = made[k, j, row * side:row * side + side, column * side:column * side + side]
                numpy.testing.assert_allclose(part, ranked[j + tile * ipc], atol=1e-5)


# ---------------------------------------------------------------- herding and k-centre

def test_features_are_computed_once_a_process_while_they_are_few(inputs, tiny, monkeypatch):
    def again(name: str = POOL[0], **changes) -> observed.Features:
        return observed.Features(dataclasses.replace(
            inputs(), weights={name: tiny.teachers / f"{name}.pt"}, **changes), name)
    monkeypatch.setattr(observed.Features, "_kept", {})
    asked = []
    photographs = observed.photographs
    monkeypatch.setattr(observed, "photographs", lambda own, k: asked.append(k) or photographs(own, k))
    first = again()(1)
    assert all(map(torch.equal, first, again(seed=9, ipc=7)(1))) and asked == [1]
    again()(2), again(POOL[1])(1), again(mean=(0.0, 0.0, 0.0))(1)
    assert asked == [1, 2, 1, 1]  # another class, network, scale
    observed.Features(inputs(), POOL[0])(1)
    assert len(asked) == 5  # networks whose file nobody names are not known again
    monkeypatch.setattr(observed, "KEPT", sum(tensor.nbytes for tensor in first))
    monkeypatch.setattr(observed.Features, "_kept", {})
    for _ in range(2):
        again()(1), again()(3)
    assert asked[5:] == [1, 3, 3] and len(observed.Features._kept) == 1  # no room for a second



def random_features(num=40, width=6, seed=0) -> numpy.ndarray:
    rows = numpy.random.default_rng(seed).normal(1, 1, (num, width))
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def choose(start, features, num, *, logits=None, seed=0) -> list[int]:
    logits = numpy.zeros((len(features), 3)) if logits is None else logits
    return start.choose(torch.tensor(features), torch.tensor(logits), num, seed=seed)


def herd(features, num, *, sign=1) -> list[int]:
    mean, chosen = features.mean(0), []
    for k in range(1, num + 1):
        unused = [n for n in range(len(features)) if n not in chosen]
        chosen.append(min(unused, key=lambda n: sign * numpy.linalg.norm(
            mean - (features[chosen].sum(0) + features[n]) / k)))
    return chosen


def test_herding_keeps_the_mean_near_and_deepcores_reversed_sign_is_not_ours():
    features = random_features()
    ours, reversed_sign = choose(Herding(), features, 12), herd(features, 12, sign=-1)
    assert ours == herd(features, 12) and len(set(ours)) == 12
    assert ours[0] == numpy.linalg.norm(features - features.mean(0), axis=1).argmin()
    far = {name: numpy.linalg.norm(features[chosen].mean(0) - features.mean(0))
           for name, chosen in (("ours", ours), ("reversed", reversed_sign))}
    assert ours[0] != reversed_sign[0] and 5 * far["ours"] < far["reversed"]


def test_k_centre_takes_the_farthest():
    features = random_features()
    ours = choose(KCentre(), features, 12)
    assert ours[0] == numpy.linalg.norm(features - features.mean(0), axis=1).argmin()
    for k in range(1, 12):
        distances = numpy.linalg.norm(features[:, None] - features[ours[:k]], axis=2).min(1)
        assert ours[k] == distances.argmax()


@pytest.mark.parametrize("start", [Herding(), KCentre()], ids=["herding", "k-centre"])
def test_selections_of_a_smaller_ipc_are_the_first_of_a_larger_and_ties_keep_the_files_order(start):
    features = random_features()
    assert not start.whole_set
    assert choose(start, features, 5) == choose(start, features, 40)[:5]
    assert sorted(choose(start, features, 40)) == list(range(40))
    assert choose(start, numpy.repeat(features[:1], 5, 0), 5) == [0, 1, 2, 3, 4]
    twice = numpy.concatenate([features, features])
    assert all(n < 40 for n in choose(start, twice, 1))


@pytest.mark.parametrize("start, rule", [
    (Herding(), herd), (KCentre(), None)], ids=["herding", "k-centre"])
def test_features_are_penultimate_of_length_one_in_the_test_view(start, rule, inputs, large, networks):
    made = all_images(start, inputs(4))
    for k in range(len(CLASSES)):
        views = test_views_of(large, k)
        features = run_network(networks[POOL[0]], views)[0]
        features /= numpy.linalg.norm(features, axis=1, keepdims=True)
        order = rule(features, 4) if rule else choose(start, features, 4)
        numpy.testing.assert_allclose(made[k], views[order], atol=1e-5)


# ---------------------------------------------------------------- centre and margin

@pytest.mark.parametrize("num, sizes, expected", [
    (10, [50, 30, 20], [5, 3, 2]), (1, [25, 25, 25, 25], [1, 0, 0, 0]), (3, [25, 40, 35], [1, 1, 1]),
    (2, [25, 25, 25, 25], [1, 1, 0, 0]),  # halves go to even, 0: two are missing
    (6, [25, 25, 25, 25], [1, 1, 2, 2]),  # 1.5 goes to 2: two too many, from the first of the largest
    (3, [26, 24, 50], [1, 1, 1]),  # 2 of the largest at first: one too many
    (4, [1, 1, 98], [0, 0, 4]), (5, [10], [5])])
def test_budgets_are_shares_rounded_and_mended_from_the_largest_pattern_on(num, sizes, expected):
    assert share_out(num, sizes) == expected


def test_patterns_are_clusters_and_never_more_than_there_are_images(gen):
    blobs = numpy.concatenate([numpy.random.default_rng(m).normal(10 * m, 0.1, (7, 3)) for m in range(3)])
    nearest = find_patterns(torch.tensor(blobs), 3, gen).numpy().reshape(3, 7)
    assert (nearest == nearest[:, :1]).all() and len(set(nearest[:, 0])) == 3
    assert not find_patterns(torch.tensor(blobs), 1, gen).any()
    assert sorted(find_patterns(torch.tensor(blobs[:2]), 5, gen).tolist()) == [0, 1]
    assert not find_patterns(torch.ones(4, 3), 3, gen).any()  # equal images are one pattern
    spread = random_features(300)
    nearest = find_patterns(torch.tensor(spread), 5, gen).numpy()  # where Lloyd's moves nothing any more
    means = numpy.stack([spread[nearest == m].mean(0) for m in range(5)])
    assert (numpy.linalg.norm(spread[:, None] - means, axis=2).argmin(1) == nearest).all()


@pytest.mark.parametrize("num, margin_share, centre", [(1, 0.5, 1), (5, 0.5, 3), (6, 0.5, 3), (8, 0.25, 6),
                                                       (4, 0.0, 4), (4, 1.0, 0), (1, 1.0, 1)])
def test_centre_and_margin_of_one_pattern(num, margin_share, centre):
    features, logits = random_features(), numpy.random.default_rng(1).normal(0, 2, (40, 3))
    ours = choose(CentreMargin(clusters=1, noise_share=0.2, margin_share=margin_share), features, num,
                  logits=logits)
    mean = features.mean(0) / numpy.linalg.norm(features.mean(0))
    typical = sorted(range(40), key=lambda n: -features[n] @ mean)[:centre]
    shares = softmax(logits)
    own = -(shares * numpy.log(shares)).sum(1)
    numpy.testing.assert_allclose(entropies(torch.tensor(logits)).numpy(), own)
    uncertain = sorted(range(40), key=lambda n: -own[n])
    assert ours == typical + [n for n in uncertain[8:] if n not in typical][:num - centre]


def test_centre_and_margin_fill_up_from_the_typical_and_take_small_classes_whole():
    features, logits = random_features(), numpy.random.default_rng(1).normal(0, 2, (40, 3))
    noisy = CentreMargin(clusters=1, noise_share=0.975)  # a margin of one image
    typical = sorted(range(40), key=lambda n: -features[n] @ features.mean(0))
    surest = int(entropies(torch.tensor(logits)).argmin())
    assert surest not in typical[:7]
    assert choose(noisy, features, 8, logits=logits) == [*typical[:4], surest, *typical[4:7]]
    assert choose(CentreMargin(), features, 40) == choose(CentreMargin(), features, 99) == list(range(40))
    apart = numpy.concatenate([features[:38] * 0.01 + numpy.eye(6)[:1] * 9, numpy.eye(6)[1:3]])
    logits[38:] = 0  # the most uncertain, and a pattern of two that is taken whole
    assert {38, 39} <= set(choose(CentreMargin(clusters=2), apart, 39, logits=logits))
    for num in range(1, 40):
        chosen = choose(CentreMargin(clusters=6), features, num, logits=logits)
        assert len(chosen) == len(set(chosen)) == num
    assert choose(CentreMargin(clusters=1, margin_share=1.0, noise_share=0.0), features, 3) == [0, 1, 2]


# ---------------------------------------------------------------- what a run asks of them

def test_what_depends_on_the_whole_sets_ipc(inputs):
    whole = {name: STARTS[name]().whole_set for name in CHOSEN}
    assert whole == {"mosaic": True, "medium": False, "herding": False, "k-centre": False,
                     "centre-margin": True}
    assert Medium(factor=2).whole_set and not Medium(factor=1).whole_set and not Mosaic(factor=1).whole_set
    for start in (Medium(), Medium(factor=1), Mosaic(factor=1), Herding(), KCentre()):
        numpy.testing.assert_array_equal(all_images(start, inputs(3))[:, :2], all_images(start, inputs(2)))
    assert (all_images(Mosaic(), inputs(2))[:, :1] != all_images(Mosaic(), inputs(1))).any()


def test_a_class_with_too_few_images_gives_those_that_it_has(inputs):
    short = Mosaic().prepare(inputs(5))  # 9 photographs are 2 mosaics
    two = Mosaic().prepare(inputs(2))
    unit = Unit(1, 0, ((1, 0), (1, 3)))
    assert torch.equal(short(unit), two(unit))
    everything = all_images(Herding(), inputs(NUM))
    numpy.testing.assert_array_equal(Herding().prepare(inputs(99))(unit).permute(0, 2, 3, 1).numpy(),
                                     everything[[0, 3], 1])


def test_how_many_starts_there_are_and_what_is_opened_for_them(inputs):
    real, unit = inputs().real, Unit(1, 0, ((1, 0), (1, 2)))
    own = real.by_class[0] + real.by_class[2]
    assert [STARTS[name]().available(real, 0) for name in CHOSEN] == [2, 9, 9, 9, 9]
    assert Mosaic(factor=1, candidates=7).available(real, 0) == 7
    assert Mosaic(candidates=7).available(real, 0) == Medium(factor=2, candidates=7).available(real, 0) == 1
    for name in CHOSEN:
        assert STARTS[name]().positions(real, unit, SEED) == own, name
    few = Mosaic(candidates=4).positions(real, unit, SEED)
    assert len(few) == 8 and set(few) < set(own) and few == sorted(few)
    assert few != Mosaic(candidates=4).positions(real, unit, SEED + 1)
    assert [STARTS[name]().networks(Pool(POOL)) for name in CHOSEN] == [POOL[:1]] * 5
    assert Mosaic(observers=3).networks(Pool(POOL)) == POOL[:3]


def test_equal_scores_keep_the_files_order(inputs):
    class Blind(nn.Module):
        """The same logits for every image."""

        def __init__(self):
            super().__init__()
            self.last = nn.Linear(3, 4)

        def forward(self, x):
            return self.last(torch.ones(len(x), 3))
    blind = dataclasses.replace(inputs(NUM), networks={POOL[0]: Blind().eval()})
    plain = all_images(STARTS["real"](), blind)
    for start, order in ((Medium(), (5, 6, 4, 7, 3, 8, 2, 1, 0)), (Herding(), range(9)),
                         (KCentre(), range(9)), (CentreMargin(), range(9))):
        numpy.testing.assert_array_equal(all_images(start, blind), plain[:, list(order)])
    whole = Mosaic(factor=1, crops=1, least_area=1.0)  # the only crop is the picture
    numpy.testing.assert_allclose(all_images(whole, blind), plain, atol=1e-5)


def test_the_runs_networks_are_left_alone(inputs):
    given, seen = inputs(), []
    name = POOL[0]
    before = [type(module) for module in given.networks[name].modules()]
    for start in (Mosaic(), Herding()):
        make = start.prepare(given)
        hook = given.networks[name].register_forward_hook(lambda *_: seen.append(None))
        make(Unit(0, 0, ((0, 0),)))
        hook.remove()
    assert not seen and [type(module) for module in given.networks[name].modules()] == before


@pytest.mark.parametrize("start", [
    *(STARTS[name]() for name in STARTS if name != "latent"), Mosaic(candidates=8, crops=3, observers=2),
    Medium(factor=1, candidates=NUM + 1, crops=2)], ids=repr)
def test_every_view_that_a_network_sees_is_counted(start, inputs):
    given, seen = inputs(), dict.fromkeys(POOL, 0)

    def watch(name: str):
        def count(module, views):
            seen[name] += len(views[0])
        first = next(own for own in given.networks[name].modules() if isinstance(own, nn.Conv2d))
        return first.register_forward_pre_hook(count)
    hooks = [watch(name) for name in POOL]
    all_images(start, given)
    for hook in hooks:
        hook.remove()
    looks = len(CLASSES) * start.looks(NUM)
    assert seen == {name: looks if name in start.networks(given.pool) else 0 for name in POOL}
    assert (looks > 0) == bool(start.networks(given.pool))


@pytest.mark.parametrize("init, flags", [
    ("mosaic", ("--candidates", 8, "--observers", 2, "--crops", 2)), ("medium", ()),
    ("medium", ("--factor", 1, "--crops", 2)), ("herding", ()), ("k-centre", ()),
    ("centre-margin", ("--clusters", 2))])
def test_each_start_through_recover(init, flags, large, photographs, tmp_path):
    run = large.recover(tmp_path, "--init", init, "--iteration", 0, *flags)
    assert list(read_json(run / "config.json")["weights"]) == list(POOL[:2 if "--observers" in flags else 1])
    made = [image.tobytes() for image in pixels_of(run)]
    assert len(set(made)) == 8
    assert (set(made) <= photographs) == (init != "mosaic" and "--factor" not in flags)


def test_a_mosaic_is_the_same_by_shards_and_under_optimisation(large, tmp_path):
    flags = ("--init", "mosaic", "--crops", 2)
    whole = large.recover(tmp_path / "whole", *flags, "--iteration", 0)
    for shard in ("0/3", "1/3", "2/3"):
        run = large.recover(tmp_path / "shards", *flags, "--iteration", 0, "--shard", shard)
    assert {k: v for k, v in contents(run).items() if "syn" in k} == {
        k: v for k, v in contents(whole).items() if "syn" in k}
    optimised = large.recover(tmp_path / "optimised", *flags, "--lr", 0.001, "--engine", "reference")
    assert 0 < abs(pixels_of(optimised) - pixels_of(whole)).mean() < 3


def test_what_cannot_start_is_refused(tiny, refused, tmp_path):
    def refusal(*flags):
        text = refused(lambda argv: tiny.recover(tmp_path, *argv), flags)
        assert not list(tmp_path.iterdir())
        return text
    text = refusal("--init", "mosaic")  # 6 images a class, 8 pieces
    assert "class 'ant' has" in text and "--ipc-end needs 2" in text
    assert "--observers 5: the pool has 4 networks" in refusal("--init", "mosaic", "--ipc-end", 1,
                                                                      "--observers", 5)
    assert "--factor 3: --size 16 is no multiple of it" in refusal("--init", "mosaic", "--factor", 3)
    assert "--clusters must be in [1, 10000], got 0" in refusal("--init", "centre-margin", "--clusters", 0)
    assert "--crops is of --init mosaic or --init medium" in refusal("--init", "herding", "--crops", 2)
