"""bn-conv against numpy: averages with their gradients, places, classes, drops; a kill leaves no trace."""
import numpy as np
import pytest
import torch
from helpers import contents, write_data
from torch import nn

from models.statistics import Measurement, measure
from recover import synthesis
from recover.alignments import ALIGNMENTS
from recover.alignments.convolution import KINDS, ConvolutionAlignment
from recover.blocks import BLOCKS
from recover.data_synthesis import RecoverConfig
from recover.selection import Pool
from recover.units import Inputs
from utils.data import RealSet
from utils.records import read_json
from utils.runtime import seed_everything
from utils.views import NoMix, Views

pytest_plugins = ["stage_fixtures"]
CPU, MEAN, STD, N, PATCH = torch.device("cpu"), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 4, 8
TARGETS = torch.tensor([0, 2, 2, 3])


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("real") / "data", train=5)
    return RealSet(f"folder:{folder}", "", "train", size=16)


def measurement(**other) -> Measurement:
    views = Views(size=16, batch_size=8, min_scale=0.08, mix_type=NoMix())
    return Measurement(**{"kinds": KINDS, "views": views, "mean": MEAN, "std": STD, "patch": PATCH, **other})


@pytest.fixture
def model(tiny_teacher):
    return tiny_teacher(1)


@pytest.fixture
def own(model, real):
    return measure({"a": model}, real, measurement(by_class=True), CPU)["a"]


@pytest.fixture
def batches(gen):
    return [torch.randn(N, 3, 16, 16, generator=gen) * 1.5 + 0.3 for _ in range(3)]


def align(model, own, **other) -> ConvolutionAlignment:
    return ConvolutionAlignment(model, own, **{
        "name": "a", "first_multiplier": 1.0, "ema": 0.0, "drop_rate": 0.0, "patch": PATCH,
        "class_share": 0.0, **other})


def ask(alignment, images, **other) -> float:
    return alignment(images, TARGETS, **{"slices": 1, "aligned": 1, **other})[1].tolist()[0]


def vectors(model, images) -> dict[str, dict[str, np.ndarray]]:
    """Every aligned layer's statistics of a batch, walked by hand through a flat network."""
    found = {}
    for name, layer in model.named_children():
        x = images.double().numpy()
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
            found[name] = {"mean": x.mean((0, 2, 3)), "var": x.var((0, 2, 3))}
        if isinstance(layer, nn.Conv2d):  # sides here are multiples of PATCH
            places = x.reshape(len(x), x.shape[1], x.shape[2] // PATCH, PATCH, x.shape[3] // PATCH, PATCH)
            found[name] |= {"patch mean": places.mean((0, 1, 3, 5)).ravel(),
                            "patch var": places.var((0, 1, 3, 5)).ravel()}
        images = layer(images)
    return found


def targets_of(model, own) -> dict[str, dict[str, np.ndarray]]:
    """What each vector is aligned with: measured, or a BatchNorm layer's running statistics."""
    found = {name: {key: value.double().numpy() for key, value in vectors.items()}
             for name, vectors in own.layers.items()}
    for name, layer in model.named_children():
        if isinstance(layer, nn.BatchNorm2d):
            found[name] = {"mean": layer.running_mean.double().numpy(),
                           "var": layer.running_var.double().numpy()}
    return found


def of_classes(own) -> dict[str, dict[str, np.ndarray]]:
    return {name: {key: np.mean([value[k].double().numpy() for k in TARGETS], 0)
                   for key, value in vectors.items()} for name, vectors in own.classes.items()}


def distances(found, wanted) -> dict[str, float]:
    """Each layer's sum of unsquared distances."""
    return {name: sum(np.linalg.norm(vector - wanted[name][key]) for key, vector in own.items())
            for name, own in found.items()}


def test_a_batch_without_averages_is_the_closed_form(model, own, batches):
    each = distances(vectors(model, batches[0]), targets_of(model, own))
    assert list(each) == ["0", "1", "3", "4"]
    assert ask(align(model, own), batches[0]) == pytest.approx(sum(each.values()), rel=1e-4)


def test_the_first_layer_by_name_is_the_view_at_conv1(model, own, batches):
    each = distances(vectors(model, batches[0]), targets_of(model, own))
    weighted = ask(align(model, own, first_multiplier=10.0), batches[0])
    assert weighted == pytest.approx(sum(each.values()) + 9 * each["0"], rel=1e-4)


def test_the_average_begins_at_zero_and_moves_before_it_is_compared(model, own, batches):
    alignment, wanted, average = align(model, own, ema=0.6), targets_of(model, own), {}
    for images in batches:
        for name, found in vectors(model, images).items():
            average[name] = {key: 0.6 * average.get(name, {}).get(key, 0.0) + 0.4 * vector
                             for key, vector in found.items()}
        expected = sum(distances(average, wanted).values())
        assert ask(alignment, images) == pytest.approx(expected, rel=1e-4)


def test_the_gradient_is_that_of_the_batch_alone(own, model, real):
    """By hand at a first convolution's mean: (d~ - real) / ||d~ - real||, through s and not (1 - ema) s."""
    first = nn.Sequential(model[0]).eval()
    own = measure({"a": first}, real, measurement(patch=0), CPU)["a"]
    alignment = align(first, own, ema=0.6, patch=0)
    images = torch.zeros(N, 3, 16, 16, dtype=torch.float32).add_(0.7).requires_grad_()
    alignment(images, TARGETS, slices=1, aligned=1)[1].sum().backward()
    moved = 0.4 * 0.7 - own.layers["0"]["mean"].numpy()  # the variance of a constant batch has no slope
    expected = moved / np.linalg.norm(moved) / (N * 16 * 16)
    np.testing.assert_allclose(images.grad[0, :, 0, 0], expected, rtol=1e-4)


def test_half_of_the_distance_is_the_classes(model, own, batches):
    found = vectors(model, batches[0])
    everywhere = sum(distances(found, targets_of(model, own)).values())
    of_class = sum(distances(found, of_classes(own)).values())
    for share in (0.5, 1.0):
        expected = (1 - share) * everywhere + share * of_class
        assert ask(align(model, own, class_share=share), batches[0]) == pytest.approx(expected, rel=1e-4)


def test_a_dropped_convolution_counts_nothing_and_keeps_its_average(model, own, batches):
    each = distances(vectors(model, batches[0]), targets_of(model, own))
    norms = each["1"] + each["4"]
    expected = [norms + a * each["0"] + b * each["3"] for a in (0, 1) for b in (0, 1)]
    torch.manual_seed(3)
    alignment = align(model, own, drop_rate=0.4)
    got = [ask(alignment, batches[0]) for _ in range(300)]
    counts = [sum(abs(value - wanted) < 1e-3 * wanted for value in got) for wanted in expected]
    assert sum(counts) == 300
    share = (counts[0] + counts[1]) / 300  # of the first convolution
    assert abs(share - 0.4) < 0.1 and abs(counts[0] / 300 - 0.16) < 0.08
    moving = align(model, own, ema=0.5, drop_rate=1 - 1e-9)
    ask(moving, batches[0])
    assert sorted(moving.state()["averages"]) == ["1 mean", "1 var", "4 mean", "4 var"]


def test_a_step_that_drops_everything_still_has_a_gradient(tiny_teacher, real, batches):
    plain = tiny_teacher(1, bn=False)
    own = measure({"a": plain}, real, measurement(), CPU)["a"]
    images = batches[0].clone().requires_grad_()
    align(plain, own, drop_rate=1 - 1e-9)(images, TARGETS, slices=1, aligned=1)[1].sum().backward()
    assert torch.equal(images.grad, torch.zeros_like(images))


def test_units_draw_their_own_drops_and_a_state_repeats_them(model, own, batches):
    def values(alignment, num=12):
        return [ask(alignment, batches[i % 3]) for i in range(num)]
    alignment = align(model, own, ema=0.5, drop_rate=0.4)
    fresh = alignment.state()
    seed_everything(0, "unit", 0, 0)
    first = values(alignment)
    alignment.load(fresh)
    assert values(alignment) == first  # the same unit again
    alignment.load(fresh)
    seed_everything(0, "unit", 0, 1)
    assert values(alignment) != first
    alignment.load(fresh)
    seed_everything(0, "unit", 0, 0)
    assert values(alignment, 6) == first[:6]
    state, other = alignment.state(), align(model, own, ema=0.5, drop_rate=0.4)
    rest = values(alignment, 6)
    assert rest == first[6:]
    assert all(not torch.equal(state["averages"][key], value)
               for key, value in alignment.state()["averages"].items())  # a state is left alone
    seed_everything(7)
    model[0]._forward_pre_hooks.clear()  # one alignment a network: of the first nothing may be left
    for layer in model:
        layer._forward_pre_hooks.clear()
    other = align(model, own, ema=0.5, drop_rate=0.4)
    other.load(state)
    assert values(other, 6) == rest


def test_slices_are_apart_without_averages_and_refused_with_them(model, own, batches):
    each = [ask(align(model, own, class_share=0.5), images) for images in batches]
    for layer in model:
        layer._forward_pre_hooks.clear()
    alignment = align(model, own, class_share=0.5)
    images = torch.cat(batches)
    logits, found = alignment(images, TARGETS, slices=3, aligned=2)
    assert found.tolist() == pytest.approx(each[:2], rel=1e-5)
    torch.testing.assert_close(logits, model(images))
    assert alignment(images, TARGETS, slices=3, aligned=0)[1].shape == (0,)
    with pytest.raises(ValueError, match="--ema above 0 needs --slices-per-batch 1"):
        align(model, own, ema=0.4)(images, TARGETS, slices=3, aligned=2)
    piece = {"alignment": ALIGNMENTS["bn-conv"](), "slices_per_batch": 2}
    with pytest.raises(ValueError, match="--slices-per-batch 2: the averages of --ema are one unit's"):
        RecoverConfig(**piece)
    RecoverConfig(**{**piece, "alignment": ALIGNMENTS["bn-conv"](ema=0.0)})


def test_views_of_several_sizes_have_other_places():
    blocks = BLOCKS["residual"](num_blocks=2, block_sizes=(200, 224))
    with pytest.raises(ValueError, match="bn-conv compares places: expected views of one size, --block-sizes "
                                         "gives 200 224"):
        RecoverConfig(alignment=ALIGNMENTS["bn-conv"](), blocks=blocks)
    RecoverConfig(alignment=ALIGNMENTS["statistics"](), blocks=blocks)


def test_a_piece_measures_crops_and_flips_of_all_images(model, own, real, batches):
    inputs = Inputs(real=real, pool=Pool(("a",)), networks={"a": model}, seed=5, size=16, mean=MEAN, std=STD,
                    device=CPU)
    expected = ask(align(model, own, first_multiplier=10.0, ema=0.4, class_share=0.5), batches[0])
    for layer in model:
        layer._forward_pre_hooks.clear()
    aligned = ALIGNMENTS["bn-conv"](patch=PATCH, class_share=0.5, real_batch=8).prepare(inputs, ("a",))["a"]
    assert len(aligned) == 4 and ask(aligned, batches[0]) == expected


def test_its_options_are_checked_and_are_those_of_g_vbsm():
    piece = ALIGNMENTS["bn-conv"]()
    assert (piece.r_bn, piece.first_bn_multiplier, piece.ema, piece.drop_rate, piece.patch,
            piece.class_share, piece.real_batch) == (0.01, 10.0, 0.4, 0.0, 16, 0.0, 256)
    for name, value in {"ema": 1.0, "drop_rate": -0.1, "patch": 0, "class_share": 1.1}.items():
        with pytest.raises(ValueError, match="--" + name.replace("_", "-")):
            ALIGNMENTS["bn-conv"](**{name: value})


# ---------------------------------------------------------------- through the stages

def test_a_kill_is_invisible(tiny, tmp_path, monkeypatch):
    flags = ("--alignment", "bn-conv", "--patch", 4, "--class-share", 0.5, "--drop-rate", 0.4, "--ema", 0.8,
             "--real-batch", 8, "--selection", "intra", "--iteration", 6, "--ipc-end", 1,
             "--arch-name", "narrow_plain", "--pool", "narrow_plain", "narrow_alexnet")
    whole = tiny.recover(tmp_path / "whole", *flags)
    assert "bn-conv/narrow_alexnet" in read_json(whole / "units" / "ipc0000_chunk00.json")["final"]
    seen, step = [], synthesis.shared_view

    def kill(*args):
        seen.append(None)
        if len(seen) in (4, 10):
            raise KeyboardInterrupt
        return step(*args)
    monkeypatch.setattr(synthesis, "shared_view", kill)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tiny.recover(tmp_path / "killed", *flags, "--save-every", 0)
    run = tiny.recover(tmp_path / "killed", *flags, "--save-every", 0)
    assert contents(run) == contents(whole)
