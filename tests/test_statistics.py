"""Statistics of real images: against numpy, stored once, and what networks of every kind align with them."""
import dataclasses

import numpy as np
import pytest
import torch
import torchvision.models as tv
from helpers import CLASSES, POOL, contents, pixels_of, write_data
from torch import nn
from torchvision.models.convnext import LayerNorm2d

from models import statistics
from models.registry import MODELS, build_model, build_skeleton
from models.statistics import Measurement, layers_of, measure, real_statistics, statistics_of
from recover.alignments import ALIGNMENTS
from recover.alignments.measured import MeasuredAlignment, chosen_kinds
from recover.selection import Pool
from recover.units import Inputs
from utils.data import RealSet
from utils.records import read_json
from utils.views import NoMix, Views

pytest_plugins = ["stage_fixtures"]
CPU, MEAN, STD = torch.device("cpu"), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
KINDS = ("conv", "batchnorm", "linear")


@pytest.fixture
def real(tmp_path):
    return RealSet(f"folder:{write_data(tmp_path / 'data', train=5)}", "", "train", size=16)


def measurement(**other) -> Measurement:
    views = Views(size=16, batch_size=8, min_scale=1.0, flip=False, mix_type=NoMix())
    return Measurement(**{"kinds": KINDS, "views": views, "mean": MEAN, "std": STD, **other})


def normalized(real) -> np.ndarray:
    pixels = np.stack([real[i][0].numpy() for i in range(len(real))]) / 255
    return (pixels - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]


def by_channel(x: np.ndarray, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of (N, ...) by the entries of one dimension."""
    rows = np.moveaxis(x, channel, 0).reshape(x.shape[channel], -1).astype(np.float64)
    mean = rows.sum(1) / rows.shape[1]
    return mean, ((rows - mean[:, None]) ** 2).sum(1) / rows.shape[1]


def entering(model, images: torch.Tensor) -> dict[str, np.ndarray]:
    """What enters each layer of a flat network."""
    found = {}
    for name, layer in model.named_children():
        found[name] = images.double().numpy()
        images = layer(images)
    return found


# ---------------------------------------------------------------- of one input

@pytest.mark.parametrize("layer, shape, channel", [
    (nn.Conv2d(5, 2, 1), (6, 5, 4, 3), 1), (nn.BatchNorm2d(5), (6, 5, 4, 3), 1),
    (nn.GroupNorm(1, 5), (6, 5, 4, 3), 1), (LayerNorm2d(5), (6, 5, 4, 3), 1),
    (nn.BatchNorm1d(5), (6, 5), 1), (nn.LayerNorm(5), (6, 7, 5), 2), (nn.LayerNorm(5), (6, 4, 3, 5), 3),
    (nn.Linear(5, 2), (6, 5), 1), (nn.Linear(5, 2), (6, 7, 5), 2)], ids=str)
def test_channels_are_where_each_layer_has_them(layer, shape, channel, gen):
    x = torch.randn(*shape, generator=gen, dtype=torch.float64) * 2 + 1
    found = statistics_of(layer, x.unflatten(0, (2, 3)))
    assert list(found) == ["mean", "var"]
    for s, own in enumerate(x.split(3)):
        mean, var = by_channel(own.numpy(), channel)
        np.testing.assert_allclose(found["mean"][s], mean, rtol=1e-12)
        np.testing.assert_allclose(found["var"][s], var, rtol=1e-12)


def enlarged(x: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Bilinear along one axis, half-pixel centres, clamped at the borders."""
    place = np.clip((np.arange(size) + 0.5) * x.shape[axis] / size - 0.5, 0, x.shape[axis] - 1)
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, x.shape[axis] - 1), place - low
    share = share.reshape([-1 if d == axis else 1 for d in range(x.ndim)])
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share


@pytest.mark.parametrize("height, width, patch", [(8, 12, 4), (7, 12, 4), (1, 1, 4), (9, 5, 4), (6, 6, 2)])
def test_places_are_a_grid_over_images_channels_and_pixels(height, width, patch, gen):
    x = torch.randn(6, 5, height, width, generator=gen, dtype=torch.float64) + 1
    found = statistics_of(nn.Conv2d(5, 2, 1), x.unflatten(0, (2, 3)), patch=patch)
    rows, columns = -(-height // patch), -(-width // patch)
    for s, own in enumerate(x.numpy().reshape(2, 3, 5, height, width)):
        own = enlarged(enlarged(own, rows * patch, 2), columns * patch, 3)
        cells = [own[:, :, u * patch:(u + 1) * patch, v * patch:(v + 1) * patch]
                 for u in range(rows) for v in range(columns)]
        np.testing.assert_allclose(found["patch mean"][s], [cell.mean() for cell in cells], rtol=1e-9)
        np.testing.assert_allclose(found["patch var"][s], [cell.var() for cell in cells], rtol=1e-9)
    assert "patch mean" not in statistics_of(nn.BatchNorm2d(5), x[None], patch=patch)


def test_the_published_numbers_of_places():
    for side, places in ((224, 196), (112, 49), (56, 16), (28, 4), (14, 1), (7, 1)):
        found = statistics_of(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 1, side, side), patch=16)
        assert found["patch mean"].shape == (1, places)


# ---------------------------------------------------------------- of a set

def test_a_set_is_the_weighted_mean_of_its_batches(real, tiny_teacher):
    model, what = tiny_teacher(0), measurement()
    own = measure({"a": model}, real, what, CPU)["a"]
    index = what.views.draw(20, statistics.generator("statistics of real images")).index.tolist()
    assert sorted(index) == list(range(20)) != index
    images = torch.tensor(normalized(real)[index]).float()
    expected = {}
    for part in images.split(8):  # 8, 8, 4
        for name, x in entering(model, part).items():
            mean, var = by_channel(x, 1)
            total = expected.setdefault(name, [0, 0])
            expected[name] = [total[0] + len(part) / 20 * mean, total[1] + len(part) / 20 * var]
    assert list(own.layers) == ["0", "1", "3", "4", "8"] and own.classes == {}
    for name, found in own.layers.items():
        np.testing.assert_allclose(found["mean"], expected[name][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["var"], expected[name][1], rtol=1e-4, atol=1e-5)


def test_a_class_is_the_mean_of_its_images_own_statistics(real, tiny_teacher):
    model = tiny_teacher(0)
    own = measure({"a": model}, real, measurement(by_class=True, patch=8), CPU)["a"]
    images = torch.tensor(normalized(real)).float()
    for k in range(len(CLASSES)):
        for name, x in entering(model, images[5 * k:5 * k + 5]).items():
            if name not in own.classes:
                continue
            each = [by_channel(image[None], 1) for image in x]
            np.testing.assert_allclose(own.classes[name]["mean"][k], np.mean([m for m, _ in each], 0),
                                       rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(own.classes[name]["var"][k], np.mean([v for _, v in each], 0),
                                       rtol=1e-4, atol=1e-5)
    corner = images[5:10, :, :8, 8:].numpy().astype(np.float64).reshape(5, -1)  # of the second class
    np.testing.assert_allclose(own.classes["0"]["patch mean"][1][1], corner.mean(), rtol=1e-4)
    np.testing.assert_allclose(own.classes["0"]["patch var"][1][1], corner.var(1).mean(), rtol=1e-4)
    assert "patch mean" not in own.classes["1"]


def test_several_networks_in_one_pass_are_those_of_each_alone(real, tiny_teacher):
    models = {"a": tiny_teacher(0), "b": tiny_teacher(1, bn=False)}
    both = measure(models, real, measurement(), CPU)
    for name, model in models.items():
        alone = measure({name: model}, real, measurement(), CPU)[name]
        assert all(torch.equal(both[name].layers[layer][key], value)
                   for layer, vectors in alone.layers.items() for key, value in vectors.items())
        assert not any(module._forward_pre_hooks for module in model.modules())


def test_only_layers_that_every_batch_enters_once_count(real):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.never, self.once = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.windows, self.attend = nn.LayerNorm(3), nn.MultiheadAttention(3, 1, batch_first=True)

        def forward(self, x):
            tokens = self.once(self.twice(self.twice(x))).flatten(2).transpose(1, 2)
            return self.attend(*[self.windows(tokens.reshape(-1, 16, 3)).reshape_as(tokens)] * 3)[0].mean(1)
    own = measure({"odd": Odd().eval()}, real, measurement(kinds=("norm", "conv", "linear")), CPU)["odd"]
    assert list(own.layers) == ["once"]


def test_fewer_images_are_spread_over_the_classes(real, tiny_teacher):
    own = measure({"a": tiny_teacher(0)}, real, measurement(images=8), CPU)["a"]
    chosen = [0, 2, 5, 7, 10, 12, 15, 17]
    mean, _ = by_channel(normalized(real)[chosen], 1)
    np.testing.assert_allclose(own.layers["0"]["mean"], mean, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- stored

@pytest.fixture
def stored(tmp_path, real, tiny_teacher):
    """f(**changes): statistics of a network whose weights file is there, and whether they were measured."""
    weights = tmp_path / "weights" / "a.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    model = tiny_teacher(0)

    def ask(what=None, data=real):
        measured, own = [], statistics.measure
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(statistics, "measure", lambda *args: measured.append(args) or own(*args))
            found = real_statistics({"a": model}, data, what or measurement(), weights={"a": weights},
                                    device=CPU)
        return found["a"], bool(measured)
    ask.folder = weights.parent
    return ask


def test_they_are_measured_once_and_stored_beside_the_weights(stored, real, tmp_path):
    first, measured = stored()
    assert measured
    path, = stored.folder.glob("statistics_*.pt")
    again, measured = stored()
    assert not measured and all(torch.equal(again.layers[layer][key], value)
                                for layer, own in first.layers.items() for key, value in own.items())
    what = torch.load(path, weights_only=True)["what"]
    assert (what["network"], what["images"], what["kinds"]) == ("a", 20, list(KINDS))
    for other in ({"patch": 4}, {"by_class": True}, {"images": 8}, {"mean": STD}, {"precision": "bf16"},
                  {"kinds": ("conv",)},
                  {"views": dataclasses.replace(measurement().views, min_scale=0.08)}):
        assert stored(measurement(**other))[1] and not stored(measurement(**other))[1]
    more = RealSet(f"folder:{write_data(tmp_path / 'more', train=6)}", "", "train", size=16)
    assert stored(data=more)[1]
    (stored.folder / "a.pt").write_bytes(b"others")
    assert stored()[1] and len(list(stored.folder.glob("statistics_*.pt"))) == 10


def test_a_damaged_file_is_named_and_made_anew(stored, capsys, monkeypatch):
    monkeypatch.setattr("utils.runtime._said", set())
    first, _ = stored()
    path, = stored.folder.glob("statistics_*.pt")
    whole = path.read_bytes()
    for damage in (whole[:-100], b"", whole.replace(b"batch_size", b"bitch_size")):
        path.write_bytes(damage)
        assert stored()[1] and path.read_bytes() == whole
    err = capsys.readouterr().err
    assert err.count(f"warning: {path}: damaged (") == 2  # a message is said once
    assert "these statistics are measured anew" in err


def test_a_folder_that_cannot_be_written_is_said(stored, capsys, monkeypatch):
    def refuse(path, tensors):
        raise PermissionError(13, "Permission denied", str(path))
    monkeypatch.setattr("utils.runtime._said", set())
    monkeypatch.setattr(statistics, "save_tensors", refuse)
    assert stored()[1] and not stored()[1]  # this process keeps them
    assert f"warning: {stored.folder}: cannot be written (Permission denied): every process measures" \
        in capsys.readouterr().err


# ---------------------------------------------------------------- --alignment statistics

def inputs(real, **networks) -> Inputs:
    return Inputs(real=real, pool=Pool(tuple(networks)), networks=networks, seed=0, size=16, mean=MEAN,
                  std=STD, device=CPU)


@pytest.mark.parametrize("name, settings", [
    ("bn", {}), ("bn-conv", {"real_batch": 8, "patch": 4}), ("statistics", {}),
    ("statistics", {"real_images": 8}), ("statistics", {"real_images": 0})])
def test_every_real_image_that_a_network_sees_is_counted(name, settings, real, tiny_teacher):
    piece, models, seen = ALIGNMENTS[name](**settings), {"a": tiny_teacher(0), "b": tiny_teacher(1)}, {}
    for own, model in models.items():
        seen[own] = 0

        def count(module, views, own=own):
            seen[own] += len(views[0])
        model.register_forward_pre_hook(count)
    piece.prepare(inputs(real, **models), tuple(models))
    assert seen == dict.fromkeys(models, piece.looks(len(real)))
    assert (piece.looks(len(real)) > 0) == (name != "bn")


def test_the_distance_is_the_closed_form_slice_by_slice(real, tiny_teacher, gen):
    model = tiny_teacher(1)
    aligned = ALIGNMENTS["statistics"](layers=("norm", "linear")).prepare(inputs(real, a=model), ("a",))["a"]
    views = dataclasses.replace(measurement().views, batch_size=256)
    own = measure({"a": model}, real, measurement(kinds=("norm", "linear"), views=views), CPU)["a"]
    images = torch.randn(12, 3, 16, 16, generator=gen) * 1.5
    logits, distances = aligned(images, torch.arange(4), slices=3, aligned=2)
    assert len(aligned) == 3
    torch.testing.assert_close(logits, model(images))
    for s in range(2):
        expected, x = 0.0, entering(model, images[4 * s:4 * s + 4])
        for name, real_ones in own.layers.items():
            mean, var = by_channel(x[name], 1)
            unit = real_ones["var"].double().mean().item()
            expected += np.sqrt(((mean - real_ones["mean"].numpy()) ** 2).sum() / unit)
            expected += np.sqrt(((var - real_ones["var"].numpy()) ** 2).sum()) / unit
        assert distances[s].item() == pytest.approx(expected, rel=1e-4)


def test_the_scale_of_a_network_does_not_change_its_share(real, gen):
    def network(scale):
        first = nn.Conv2d(3, 4, 1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            nn.init.normal_(first.weight)
        first.weight.data.mul_(scale)
        first.bias.data.zero_()
        return nn.Sequential(first, nn.GroupNorm(2, 4), nn.Flatten()).eval().requires_grad_(False)
    images = torch.randn(4, 3, 16, 16, generator=gen)
    small, large = (ALIGNMENTS["statistics"]().prepare(inputs(real, a=network(scale)), ("a",))["a"](
        images, torch.arange(4), slices=1, aligned=1)[1].item() for scale in (1, 100))
    assert large == pytest.approx(small, rel=1e-4) and small > 0


def tiny_networks() -> dict[str, nn.Module]:
    block = tv.convnext.CNBlockConfig
    return {"vit": tv.VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=4),
            "swin": tv.SwinTransformer([2, 2], 8, [2, 2], [2, 2], [4, 4], num_classes=4),
            "convnext": tv.ConvNeXt([block(8, 16, 1), block(16, None, 1)], num_classes=4),
            "narrow_alexnet": build_model("narrow_alexnet", num_classes=4, stem="small")}


@pytest.mark.parametrize("name", ["vit", "swin", "convnext", "narrow_alexnet"])
def test_networks_without_batchnorm_contribute(name, real, gen):
    model = tiny_networks()[name].eval().requires_grad_(False)
    assert not ALIGNMENTS["bn"]().can_align(model) and ALIGNMENTS["statistics"]().can_align(model)
    aligned = ALIGNMENTS["statistics"]().prepare(inputs(real, a=model), ("a",))["a"]
    assert len(aligned) == {"vit": 5, "swin": 11, "convnext": 5, "narrow_alexnet": 5}[name]
    images = torch.randn(4, 3, 16, 16, generator=gen, requires_grad=True)
    logits, distances = aligned(images, torch.arange(4), slices=1, aligned=1)
    distances.sum().backward()
    assert images.grad.abs().sum() > 0 and logits.shape == (4, 4)


def test_every_network_of_the_zoo_has_something_to_align():
    piece = ALIGNMENTS["statistics"]()
    for name in MODELS:
        skeleton = build_skeleton(name, num_classes=2)
        assert piece.can_align(skeleton), name
        expected = ("conv", "linear") if name in ("alexnet", "narrow_alexnet") else ("norm",)
        assert chosen_kinds(skeleton, ("auto",)) == expected
    assert not ALIGNMENTS["statistics"](layers=("norm",)).can_align(build_skeleton("alexnet", num_classes=2))


def test_whom_dual_may_take_is_asked_of_the_alignment():
    names = ("narrow_alexnet", "narrow_plain")
    assert Pool(names, "small", ALIGNMENTS["statistics"]().can_align).alignable == set(names)
    assert Pool(names, "small", ALIGNMENTS["bn-conv"]().can_align).alignable == set(names)
    assert Pool(names, "small", ALIGNMENTS["bn"]().can_align).alignable == {"narrow_plain"}


def test_a_network_without_such_layers_is_said(real, capsys, monkeypatch):
    monkeypatch.setattr("utils.runtime._said", set())
    model = build_model("narrow_alexnet", num_classes=4, stem="small").eval()
    aligned = ALIGNMENTS["statistics"](layers=("norm",)).prepare(inputs(real, plain=model), ("plain",))
    assert len(aligned["plain"]) == 0
    err = capsys.readouterr().err
    assert "warning: plain has no layer of --layers norm: drawn as a BN teacher its term is 0" in err
    assert "published" not in err


@pytest.mark.parametrize("layers", [("auto", "norm"), ("bias",), ("conv", "conv"), ()])
def test_layers_are_checked(layers):
    with pytest.raises(ValueError, match="--layers .*: expected auto, or of norm, conv, linear, each once"):
        ALIGNMENTS["statistics"](layers=layers)


def test_kinds_of_layers_are_in_the_networks_order():
    model = tiny_networks()["vit"]
    names = list(layers_of(model, ("norm", "linear", "conv")))
    assert names[0] == "conv_proj" and names[-1] == "heads.head"
    assert isinstance(MeasuredAlignment(model, statistics.Measured({}, {})), MeasuredAlignment)


# ---------------------------------------------------------------- through the stages

def test_alexnet_contributes_where_it_only_diluted(tiny, tmp_path):
    flags = ("--teachers", "single", "--arch-name", POOL[3], "--iteration", 4)
    run = tiny.recover(tmp_path, *flags, "--alignment", "statistics", "--slices-per-batch", 2)
    final = read_json(run / "units" / "ipc0000_chunk00.json")["final"]
    assert final[f"statistics/{POOL[3]}"] > 0
    silent = tiny.recover(tmp_path, *flags, "--exp-name", "silent", "--slices-per-batch", 2)
    assert read_json(silent / "units" / "ipc0000_chunk00.json")["final"][f"bn/{POOL[3]}"] == 0
    assert (pixels_of(run) != pixels_of(silent)).any()
    before = contents(run)
    again = tiny.recover(tmp_path / "again", *flags, "--alignment", "statistics", "--slices-per-batch", 2)
    assert contents(again)["syn/ant/ant_ipc0000.png"] == before["syn/ant/ant_ipc0000.png"]
    alone = tiny.recover(tmp_path, *flags, "--alignment", "statistics", "--exp-name", "alone")
    assert abs(pixels_of(run) - pixels_of(alone)).max() <= 2  # slices side by side: equal to rounding
    tiny.relabel(run)
    assert tiny.validate(run)["n"] == 2
