"""The loops of all three stages, through their mains, against the same written out here in plain torch.

Each test reads what a stage left on disk and computes it again without the stage's code.  What a view is has
its own tests, which this file takes for granted.
"""
import dataclasses
import hashlib
import io
import json
import math
import os
from pathlib import Path

import numpy
import pytest
import torch
import torch.nn.functional as F
from helpers import CLASSES, POOL, PROCESS, contents, pixels_of, words
from PIL import Image
from torch import nn

from models import registry, train_teachers
from models.preflight import check_class_names
from models.registry import ModelSpec, build_model, load_teachers
from recover.plans import UnitLaws
from recover.selection import Multi, Pool
from recover.starts import STARTS
from recover.starts.start import Start
from recover.units import Unit
from utils.augment import shared_view, to_uint8
from utils.files import sha256_bytes, sha256_file
from utils.flags import parse_config
from utils.formats import Entry, ImageManifest, image_set_digest, open_labels
from utils.pictures import decode_image, encode_image
from utils.schedule import CropLaw
from utils.views import NoMix, Views
from validate import diversity, plans, training
from validate.soft_labels import open_teaching
from validate.train_FKD import ValidateConfig
from validate.training import Learner, micro_parts

pytest_plugins = ["stage_fixtures"]
CPU = torch.device("cpu")


def read_json(path: Path):
    return json.loads(path.read_text())


def read_log(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def seed_of(*parts) -> int:
    """The seed of what these parts name, on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def seeded(*parts) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*parts))


def statistics_of(run: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the pixels, (1, 3, 1, 1) each, as the run's config has them."""
    config = read_json(run / "config.json")["config"]
    return tuple(torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))


def pictures(*paths: Path) -> torch.Tensor:
    """(N, 3, H, W) uint8."""
    pixels = numpy.stack([numpy.array(Image.open(path)) for path in paths])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def network(name: str, folder: Path) -> nn.Module:
    """A trained network, in eval mode."""
    model = build_model(name, num_classes=4, stem="small")
    model.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    return model.eval()


# ---------------------------------------------------------------- recover

def objective_by_hand(networks: dict, view, targets, draw, *, r_bn: float, first: float):
    """Cross-entropies and alignments of one view, by hooks of this function's own."""
    total, ce = 0.0, 0.0
    for name in {**draw.ce, **draw.align}:
        distances, handles = [], []

        def measure(layer, inputs, distances=distances):
            x = inputs[0]
            distances.append((x.mean((0, 2, 3)) - layer.running_mean).norm()
                             + (x.var((0, 2, 3), correction=0) - layer.running_var).norm())
        for layer in networks[name].modules():
            if isinstance(layer, nn.BatchNorm2d):
                handles.append(layer.register_forward_pre_hook(measure))
        logits = networks[name](view)
        for handle in handles:
            handle.remove()
        if name in draw.ce:
            ce = ce + draw.ce[name] * F.cross_entropy(logits, targets)
        if distances and name in draw.align:
            total = total + r_bn * draw.align[name] * (first * distances[0] + sum(distances[1:]))
    return total + ce, ce


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_recover_saves_what_a_loop_written_out_makes(engine, tiny, tmp_path):
    """Seed, chunks, draws, Adam, rates, the clamp after every step, truncation: to a pixel in a hundred.

    The rate is high, so that pixels reach black and white and a missing clamp shows.
    """
    flags = ("--engine", engine, "--selection", "intra", "--lr", 1.5, "--iteration", 6, "--iteration-step", 1,
             "--iteration-period", 2, "--r-bn", 0.05, "--first-bn-multiplier", 4, "--seed", 3, "--betas", 0.6,
             0.8, "--jitter", 3)
    run = tiny.recover(tmp_path, *flags)
    laws = UnitLaws(
        seed=3, iterations=lambda ipc_id: 6 - ipc_id, lr=1.5, size=16, min_scale=0.08, flip=True, jitter=3,
        crops=CropLaw(), selection=Multi(selection="intra"), pool=Pool(POOL, "small"))
    (mean, std), found = statistics_of(run), torch.from_numpy(pixels_of(run)).permute(0, 3, 1, 2)
    networks = {name: network(name, tiny.teachers) for name in POOL}
    low, high = (0 - mean) / std, (1 - mean) / std
    clamped = 0
    for i, chunk in ((0, 0), (0, 1), (1, 0), (1, 1)):
        classes = (2 * chunk, 2 * chunk + 1)
        targets, num = torch.tensor(classes), 6 - i
        block, = laws.plan(Unit(i, chunk, tuple((i, k) for k in classes))).blocks
        real = pictures(*(tiny.data / "train" / CLASSES[k] / f"{i:02d}.png" for k in classes))
        x = ((real / 255 - mean) / std).requires_grad_()
        adam = torch.optim.Adam([x], betas=(0.6, 0.8), eps=1e-8)
        for t in range(num):
            adam.param_groups[0]["lr"] = 1.5 * (1 + math.cos(math.pi * t / num)) / 2
            loss, ce = objective_by_hand(networks, shared_view(x, block.views, t), targets, block.draws[t],
                                         r_bn=0.05, first=4.0)
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                clamped += ((x < low) | (x > high)).sum().item()
                x.clamp_(low, high)
        saved = ((x.detach() * std + mean) * 255 + 1e-3).floor()
        own = found[[2 * k + i for k in classes]]
        assert (own == saved).double().mean() > 0.99 and (own - saved).abs().double().mean() < 0.1
        record = read_json(run / "units" / f"ipc{i:04d}_chunk{chunk:02d}.json")
        assert record["final"]["loss"] == pytest.approx(loss.item(), rel=1e-3)
        assert record["final"]["ce"] == pytest.approx(ce.item(), rel=1e-3)
        assert record["iterations"] == num and record["primary"] == {POOL[0]: num}
        assert record["aligned"] == {name: sum(name in draw.align for draw in block.draws)
                                     for draw in block.draws for name in draw.align}
    assert clamped > 1000


def test_pixels_are_truncated_to_bytes_and_none_wraps_around():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    levels = torch.tensor([-40.0, -0.4, 0.0, 0.7, 17.0, 17.49, 17.5, 17.99, 254.6, 255.0, 255.9, 301.0])
    pixels = levels.repeat(3, 1).view(1, 3, 3, 4)
    images = (pixels / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    stored = to_uint8(images, mean=mean, std=std)
    assert stored.dtype == torch.uint8
    for channel in stored[0]:
        assert channel.flatten().tolist() == [0, 0, 0, 0, 17, 17, 17, 17, 254, 255, 255, 255]
    every = torch.arange(256.0).repeat(3, 1).view(1, 3, 16, 16)
    images = (every / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert torch.equal(to_uint8(images, mean=mean, std=std), every.to(torch.uint8))  # rounding darkens none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Global(Start):
    """A start of somebody's own, from torch's global generator."""

    def prepare(self, inputs):
        return lambda unit: torch.rand(len(unit.members), 3, inputs.size, inputs.size)


def test_a_piece_that_draws_from_the_global_generator_draws_by_seed_and_unit(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(STARTS, "global", Global)
    flags = ("--init", "global", "--iteration", 0)
    images = pixels_of(tiny.recover(tmp_path / "0", *flags))
    assert len({image.tobytes() for image in images}) == 8  # neither chunks nor indices share a draw
    other = pixels_of(tiny.recover(tmp_path / "1", *flags, "--seed", 1))
    sharded = tiny.recover(tmp_path / "2", *flags, "--shard", "1/2")
    assert not (images == other).all((1, 2, 3)).any()
    again = {path.name: numpy.asarray(Image.open(path)).tobytes() for path in sharded.glob("syn/*/*")}
    assert len(again) == 4 and set(again.values()) < {image.astype(numpy.uint8).tobytes() for image in images}


def test_noise_is_normal_and_that_of_seed_index_and_class(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--init", "noise", "--iteration", 0, "--seed", 5)
    mean, std = statistics_of(run)
    for k, name in enumerate(CLASSES):
        for i in range(2):
            drawn = torch.randn(3, 16, 16, generator=seeded(5, "noise", i, k))
            expected = ((drawn * std + mean) * 255 + 1e-3).clamp(0, 255).floor()[0]
            stored = pictures(run / "syn" / name / f"{name}_ipc{i:04d}.png")[0]
            assert ((stored - expected).abs() <= 1).all() and (stored == expected).double().mean() > 0.99


def test_random_starts_are_a_shuffle_by_seed_and_class(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--init", "random", "--iteration", 0, "--seed", 5)
    for k, name in enumerate(CLASSES):
        order = torch.randperm(6, generator=seeded(5, "real image", k)).tolist()
        for i in range(2):
            stored = pictures(run / "syn" / name / f"{name}_ipc{i:04d}.png")
            assert torch.equal(stored, pictures(tiny.data / "train" / name / f"{order[i]:02d}.png"))


def test_the_verifiers_accuracy_is_its_top1_on_the_images(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--init", "noise", "--iteration", 1, "--batch-size", 4, "--verifier",
                       "--verifier-arch", POOL[2])
    mean, std = statistics_of(run)
    rows = [row for row in read_log(run / "log.jsonl") if row.get("done")]
    for i, row in enumerate(rows):
        images = pictures(*(run / "syn" / name / f"{name}_ipc{i:04d}.png" for name in CLASSES))
        hits = network(POOL[2], tiny.teachers)((images / 255 - mean) / std).argmax(1) == torch.arange(4)
        assert row["verifier_top1"] == hits.double().mean().item()
    assert any(row["verifier_top1"] < 1 for row in rows)


# ---------------------------------------------------------------- relabel

@pytest.mark.parametrize("ensemble", ["primary-half", "equal-norm", "primary"])
def test_labels_are_the_ensembles_of_each_epochs_views(ensemble, made, tiny, tmp_path):
    folder = tiny.relabel(made, "--fkd-path", tmp_path, "--ensemble", ensemble, "--seed", 3, "--epochs", 2,
                          "--candidate-number", 2)
    images = pictures(*sorted(made.glob("syn/*/*")))
    teachers = [network(name, tiny.teachers) for name in POOL[:2]]
    mean, std = statistics_of(made)
    for epoch in range(2):
        stored = torch.load(folder / f"epoch_{epoch:03d}.pt", weights_only=True)
        drawn = Views(size=16, batch_size=5).draw(8, seeded(3, "labels", epoch))
        assert all(torch.equal(stored[name], tensor) for name, tensor in drawn.tensors().items())
        for batch, part in enumerate((slice(0, 5), slice(5, 8))):
            views = drawn.render(images[drawn.index[part].long()], batch, mean=tuple(mean.flatten().tolist()),
                                 std=tuple(std.flatten().tolist()))
            with torch.no_grad():
                first, second = (teacher(views) for teacher in teachers)
            both = (first.norm() + second.norm()) / 2
            if ensemble == "equal-norm":
                expected = (first * both / first.norm() + second * both / second.norm()) / 2
            else:
                expected = first if ensemble == "primary" else (first + second) / 2
            if ensemble == "primary-half":
                norms = expected.norm(dim=1, keepdim=True)
                expected = expected * norms.mean() / norms
            torch.testing.assert_close(stored["logits"][part].float(), expected, rtol=2e-3, atol=2e-3)


def test_the_primary_counts_half_among_three(made, tiny, tmp_path):
    folder = tiny.relabel(made, "--fkd-path", tmp_path, "--ensemble", "primary-half", "--arch-name", POOL[1],
                          "--mix-type", "none", "--epochs", 1)
    labels, online = open_labels(str(folder), 0), tiny.relabel(
        made, "--fkd-path", tmp_path / "online", "--ensemble", "primary-half", "--arch-name", POOL[1],
        "--mix-type", "none", "--epochs", 1, "--label-format", "online")
    drawn, stored = labels.load(0)
    images, (mean, std) = pictures(*sorted(made.glob("syn/*/*"))), statistics_of(made)
    views = drawn.render(images[drawn.index[:5].long()], 0, mean=tuple(mean.flatten().tolist()),
                         std=tuple(std.flatten().tolist()))
    with torch.no_grad():
        primary, *others = (network(name, tiny.teachers)(views) for name in (POOL[1], POOL[0], POOL[3]))
    combined = primary / 2 + (others[0] + others[1]) / 4
    norms = combined.norm(dim=1, keepdim=True)
    expected = combined * norms.mean() / norms
    torch.testing.assert_close(stored["logits"][:5].float(), expected, rtol=2e-3, atol=2e-3)
    config = parse_config(ValidateConfig, tiny.validate_flags(
        made, "--fkd-path", online, "--weights-dir", tiny.teachers))
    again, teach = open_teaching(open_labels(str(online), 0), config, CPU, 5).epoch(0)
    assert torch.equal(again.index, drawn.index)
    torch.testing.assert_close(teach(0, views), expected, rtol=1e-4, atol=1e-4)


def test_a_students_own_batch_of_online_labels_is_that_of_its_views(made, tiny, tmp_path):
    folder = tiny.relabel(made, "--fkd-path", tmp_path / "online", "--label-format", "online", "--seed", 2)
    flags = ("--fkd-path", folder, "--weights-dir", tiny.teachers, "--batch-size", 3, "--output-dir",
             tmp_path / "out", "--seeds", 0)
    config = parse_config(ValidateConfig, tiny.validate_flags(made, *flags))
    drawn, _ = open_teaching(open_labels(str(folder), 0), config, CPU, 3).epoch(1)
    expected = Views(size=16, batch_size=3).draw(8, seeded(2, "labels", 1))
    assert all(torch.equal(tensor, expected.tensors()[name]) for name, tensor in drawn.tensors().items())
    assert len(drawn) == 3 and drawn.laws == expected.laws
    tiny.validate(made, *flags)
    assert read_json(tmp_path / "out" / "config.json")["config"]["batch_size"] == 3


# ---------------------------------------------------------------- validate

def adamw_by_hand(parameters, moments, step, *, rate, decay):
    """One step of AdamW; decay on tensors of two or more dimensions alone."""
    with torch.no_grad():
        for p, (first, second) in zip(parameters, moments, strict=True):
            if p.ndim > 1:
                p.mul_(1 - rate * decay)
            first.mul_(0.9).add_(0.1 * p.grad)
            second.mul_(0.999).add_(0.001 * p.grad**2)
            mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
            p.sub_(rate * mean / (square.sqrt() + 1e-8))
            p.grad = None


def ssrs_by_hand(t: int, epochs: int, zeta: float) -> float:
    factor = (1 + math.cos(math.pi * min(t, 5 * epochs / 6) / (zeta * epochs))) / 2
    return factor if t <= 5 * epochs / 6 else factor * (6 * epochs - 6 * t) / (6 * epochs)


def test_a_student_is_trained_as_written_out(made, tiny, tmp_path):
    """Train mode, micro-batches of unequal size (2 and 3 of 5, then 3), decay, rates, targets, accuracies."""
    tiny.validate(made, "--output-dir", tmp_path, "--seeds", 4, "--gradient-accumulation-steps", 2,
                  "--zeta", 2, "--adamw-weight-decay", 0.3, "--adamw-lr", 0.01, "--ce-weight", 0.4)
    images, (mean, std) = pictures(*sorted(made.glob("syn/*/*"))), statistics_of(made)
    targets = torch.arange(4).repeat_interleave(2)
    test = pictures(*sorted((tiny.data / "val").glob("*/*")))
    test, answers = (test / 255 - mean) / std, torch.arange(4).repeat_interleave(3)
    torch.manual_seed(seed_of(4, "student", POOL[0]))
    student = build_model(POOL[0], num_classes=4, stem="small").to(memory_format=torch.channels_last)
    parameters = list(student.parameters())
    moments, step = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters], 0
    rows, best = read_log(tmp_path / "seed4" / "log.jsonl"), -1.0
    for epoch in range(3):
        drawn, stored = open_labels(str(made / "fkd" / "2"), 0, write=False).load(epoch)
        losses, rate = [], 0.01 * ssrs_by_hand(epoch, 3, 2.0)
        student.train()
        for batch, start, ends in ((0, 0, (2, 5)), (1, 5, (8,))):
            index = drawn.index[start:start + 5].long()
            views = drawn.render(images[index], batch, mean=tuple(mean.flatten().tolist()),
                                 std=tuple(std.flatten().tolist()))
            total = 0.0
            for low, high in zip((start, *ends), ends, strict=False):
                part = slice(low - start, high - start)
                logits = student(views[part])
                loss = (logits - stored["logits"][low:high].float()).square().mean() \
                    + 0.4 * F.cross_entropy(logits, targets[index[part]])
                loss = loss * (high - low) / len(index)  # the gradient is that of the batch's mean
                loss.backward()
                total += loss.item()
            losses.append(total)
            step += 1
            adamw_by_hand(parameters, moments, step, rate=rate, decay=0.3)
        student.eval()
        with torch.no_grad():
            top1 = (student(test).argmax(1) == answers).double().mean().item()
        assert rows[epoch]["loss"] == pytest.approx(sum(losses) / 2, rel=1e-4)
        assert rows[epoch]["lr"] == pytest.approx(rate) and rows[epoch]["top1"] == pytest.approx(top1)
        if top1 > best:
            best, kept = top1, {name: value.clone() for name, value in student.state_dict().items()}
    for kind, expected in (("last", student.state_dict()), ("best", kept)):
        saved = torch.load(tmp_path / "seed4" / f"student_{kind}.pt", weights_only=True)
        for name, value in expected.items():
            torch.testing.assert_close(saved[name], value, rtol=1e-4, atol=1e-4)
    result = read_json(tmp_path / "seed4" / "result.json")
    assert (result["last"]["top1"], result["best"]["top1"]) == (pytest.approx(top1), pytest.approx(best))


class Dropping(nn.Module):
    """A linear network behind a mask that it draws at every batch."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(768, num_classes)

    def forward(self, x):
        return self.head(self.drop(x.flatten(1)))


@pytest.fixture
def dropping(monkeypatch) -> str:
    """The name of a network with dropout."""
    monkeypatch.setitem(registry.MODELS, "dropping", ModelSpec(lambda classes, stem: Dropping(classes)))
    return "dropping"


def test_hard_labels_are_crops_and_flips_drawn_by_the_students_seed_and_sgd(made, tiny, tmp_path, dropping):
    flags = ("--fkd-path", "", "--loss-type", "ce", "--epochs", 3, "--batch-size", 3, "--steps-per-epoch", 2,
             "--optimizer", "sgd", "--adamw-lr", 0.02, "--adamw-weight-decay", 0.1, "--momentum", 0.7,
             "--schedule", "linear", "--model", dropping, "--seeds", 6, "--output-dir", tmp_path)
    tiny.validate(made, *flags)
    images, (mean, std) = pictures(*sorted(made.glob("syn/*/*"))), statistics_of(made)
    torch.manual_seed(seed_of(6, "student", dropping))
    student = Dropping(4).train()
    memory = {p: torch.zeros_like(p) for p in student.parameters()}
    rows = read_log(tmp_path / "seed6" / "log.jsonl")
    for epoch in range(3):
        drawn = Views(size=16, batch_size=3, min_scale=0.25, num_batches=2, mix_type=NoMix()).draw(
            8, seeded(6, "student", epoch))
        losses = []
        for batch in range(2):
            index = drawn.index[3 * batch:3 * batch + 3].long()
            views = drawn.render(images[index], batch, mean=tuple(mean.flatten().tolist()),
                                 std=tuple(std.flatten().tolist()))
            loss = F.cross_entropy(student(views), index // 2)
            loss.backward()
            losses.append(loss.item())
            with torch.no_grad():
                for p, velocity in memory.items():
                    velocity.mul_(0.7).add_(p.grad + (0.1 * p if p.ndim > 1 else 0))
                    p.sub_(0.02 * (1 - epoch / 3) * velocity)
                    p.grad = None
        assert rows[epoch]["loss"] == pytest.approx(sum(losses) / 2, rel=1e-4)
    saved = torch.load(tmp_path / "seed6" / "student_last.pt", weights_only=True)
    torch.testing.assert_close(saved["head.weight"], student.head.weight.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory", [(), ("--resident-gb", 0, "--workers", 0)], ids=["resident", "streamed"])
def test_a_student_with_dropout_goes_on_with_the_masks_that_it_would_have_drawn(
        memory, made, tiny, tmp_path, dropping, monkeypatch):
    def students(out, *flags):
        tiny.validate(made, "--model", dropping, "--output-dir", out, "--save-every", 0, *flags)
    students(tmp_path / "whole")
    train_batch, calls = training.train_batch, []

    def interrupted(*args):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train_batch(*args)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "train_batch", interrupted)
        students(tmp_path / "out", *memory)
    torch.rand(3)  # whatever else a process draws
    students(tmp_path / "out", *memory)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_micro_batches_part_the_batch_and_none_is_of_one_image():
    for num in range(1, 60):
        for micro_batches in range(1, 9):
            parts = micro_parts(num, micro_batches)
            sizes = [part.stop - part.start for part in parts]
            assert [i for part in parts for i in range(num)[part]] == list(range(num))
            assert len(parts) <= micro_batches and max(sizes) - min(sizes) <= 1
            assert min(sizes) > 1 or num == 1
            assert len(parts) == micro_batches or min(sizes) < 4  # fewer only where images are few


def test_the_last_epoch_is_reported_and_the_first_best_kept(monkeypatch, tmp_path):
    student, seen = nn.Linear(2, 2), iter([(0.5, 0.6), (0.75, 0.8), (0.75, 0.9), (0.25, 1.0)])
    monkeypatch.setattr(training, "evaluate", lambda *args, **kwargs: {
        **dict(zip(("top1", "top5"), next(seen), strict=True)), "images": 4})
    recipe = training.Recipe(loss=None, micro_batches=1, mean=(0,), std=(1,), epochs=8, rate=lambda _: 0.1)
    journal = training.Journal(tmp_path / "seed0", (), seed=0, eval_every=3, recipe=recipe, about={})
    journal.begin(0, None)
    for epoch in range(8):
        nn.init.constant_(student.weight, epoch)
        journal.after_epoch(student, epoch, torch.tensor(1.0), 0.1)
    journal.finish(student, CPU)
    result = read_json(tmp_path / "seed0" / "result.json")
    assert result["last"] == {"epoch": 7, "top1": 0.25, "top5": 1.0, "images": 4}  # 0, 3, 6 and the last one
    assert result["best"] == {"epoch": 3, "top1": 0.75, "top5": 0.8, "images": 4}
    kept = {kind: torch.load(tmp_path / "seed0" / f"student_{kind}.pt", weights_only=True)["weight"][0, 0]
            for kind in ("last", "best")}
    assert kept == {"last": 7, "best": 3}


def test_a_step_that_overflows_is_skipped_and_the_scale_falls_and_is_kept():
    def learner():
        student = nn.Linear(2, 2)
        return Learner(student, torch.optim.SGD(student.parameters(), lr=0.1), precision="fp16", device=CPU)
    own, other = learner(), learner()
    before = own.scaler.get_scale()
    for value, factor in ((math.inf, 0.5), (1.0, 0.5)):
        weight = own.student.weight.detach().clone()
        own.scaler.scale(own.student(torch.full((1, 2), value)).sum()).backward()
        own.step()
        assert torch.equal(own.student.weight, weight) == (value == math.inf)
        assert own.scaler.get_scale() == factor * before and own.student.weight.grad is None
    other.load(own.state())
    assert other.scaler.get_scale() == before / 2
    assert torch.equal(other.student.weight, own.student.weight)


def test_views_without_labels_flip_as_the_data_set_does(tmp_path):
    def planned(dataset, **flags):
        images = ImageManifest(
            run=tmp_path, dataset=dataset, class_names=["a", "b"], ipc=2, size=16, mean=(0.5,) * 3,
            std=(0.2,) * 3, stem="small", entries=tuple(Entry(f"syn/{name}/{name}_ipc{i:04d}.png", "", k)
                                                        for k, name in enumerate("ab") for i in range(2)))
        return plans.plan_students(plans.StudyFlags(batch_size=3, epochs=7, **flags), images, None)
    assert planned("cifar10").views == Views(size=16, batch_size=3, min_scale=0.25, mix_type=NoMix())
    assert not planned("digits").views.flip
    given = planned("cifar10", min_scale_crops=0.5, steps_per_epoch=1, ipc=1)
    assert (given.views.min_scale, given.views.num_batches, given.epochs, given.ipc) == (0.5, 1, 7, 1)
    assert [entry.label for entry in given.entries] == [0, 1]


# ---------------------------------------------------------------- diversity

def test_diversity_is_of_penultimate_features_of_normalised_images(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--init", "noise", "--iteration", 0)
    found = diversity.main(words("--data", run, "--arch-name", POOL[2], "--weights-dir", tiny.teachers,
                                 *PROCESS))
    images, (mean, std) = pictures(*sorted(run.glob("syn/*/*"))), statistics_of(run)
    model, kept = network(POOL[2], tiny.teachers), []
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        model((images / 255 - mean) / std)
    pairs = kept[0].view(4, 2, -1)
    expected = F.cosine_similarity(pairs[:, 0], pairs[:, 1])
    assert [1 - value for value in found["classes"]] == pytest.approx((1 - expected).tolist(), rel=1e-2)
    assert found["std"] == pytest.approx(expected.std().item(), rel=1e-2)


# ---------------------------------------------------------------- teachers

@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_teacher_is_trained_as_written_out(optimizer, tiny, tmp_path, dropping):
    """Cross-entropy of crops and flips, decay on all parameters, a cosine over all steps, dropout."""
    own = ("--momentum", 0.6) if optimizer == "sgd" else ()
    train_teachers.main(tiny.teacher_flags(
        tmp_path, "--models", dropping, "--epochs", 2, "--batch-size", 7, "--optimizer", optimizer, "--lr",
        0.02, "--weight-decay", 0.1, "--seed", 2, *own))
    config = read_json(tmp_path / "config.json")["config"]
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    images = pictures(*sorted((tiny.data / "train").glob("*/*")))
    labels = torch.arange(4).repeat_interleave(6)
    torch.manual_seed(seed_of(2, "teacher", dropping))
    model = Dropping(4)
    memory = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()}
    step, rows = 0, read_log(tmp_path / "log.jsonl")
    for epoch in range(2):
        torch.manual_seed(seed_of(2, "teacher", dropping, epoch))
        drawn = Views(size=16, batch_size=7, min_scale=0.5, mix_type=NoMix()).draw(
            24, seeded(2, "teacher views", dropping, epoch))
        losses = []
        for batch in range(4):
            index = drawn.index[7 * batch:7 * batch + 7].long()
            views = drawn.render(images[index], batch, mean=tuple(config["mean"]), std=tuple(config["std"]))
            loss = F.cross_entropy(model(views), labels[index])
            loss.backward()
            losses.append(loss.item())
            rate, step = 0.02 * (1 + math.cos(math.pi * step / 8)) / 2, step + 1
            with torch.no_grad():
                for p, (first, second) in memory.items():
                    if optimizer == "sgd":
                        p.sub_(rate * first.mul_(0.6).add_(p.grad + 0.1 * p))
                    else:
                        p.mul_(1 - rate * 0.1)
                        first.mul_(0.9).add_(0.1 * p.grad)
                        second.mul_(0.999).add_(0.001 * p.grad**2)
                        p.sub_(rate * first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8))
                    p.grad = None
        assert rows[epoch]["loss"] == pytest.approx(sum(losses) / 4, rel=1e-4)
    saved = torch.load(tmp_path / f"{dropping}.pt", weights_only=True)
    torch.testing.assert_close(saved["head.weight"], model.head.weight.detach(), rtol=1e-4, atol=1e-5)
    test = pictures(*sorted((tiny.data / "val").glob("*/*")))
    with torch.no_grad():
        hits = model.eval()((test / 255 - mean) / std).argmax(1) == torch.arange(4).repeat_interleave(3)
    assert read_json(tmp_path / f"{dropping}.json")["accuracy"] == pytest.approx(hits.double().mean().item())


def test_a_teachers_accuracy_is_the_share_whose_first_guess_is_right(capfd):
    """Of more classes than five, so that the first five guesses are not all."""
    config = parse_config(train_teachers.TeacherConfig, [], description="", presets=train_teachers.presets)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 6))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([4.0, 3.0, 5.0, 2.0, 1.0, 0.0]))
    test = [(torch.zeros(4, 3, 4, 4, dtype=torch.uint8), torch.tensor([2, 2, 1, 5]))]
    assert train_teachers.accuracy(model, test, config=config, name="six", epochs=1) == 0.5
    assert "six: 50.0% of 4 test images right" in capfd.readouterr().err


def test_teachers_differ_by_name_and_seed_in_weights_and_views(tiny, tmp_path, dropping, monkeypatch):
    monkeypatch.setitem(registry.MODELS, "twin", registry.MODELS[dropping])
    weights = {}
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        train_teachers.main(tiny.teacher_flags(folder, "--models", dropping, "twin", "--epochs", 1, "--seed",
                                               seed))
        weights |= {(name, seed): torch.load(folder / f"{name}.pt", weights_only=True)["head.bias"]
                    for name in (dropping, "twin")}
    assert len({tensor.numpy().tobytes() for tensor in weights.values()}) == 4


def test_an_interrupted_teacher_goes_on_with_its_optimizer_and_masks(tiny, tmp_path, dropping, monkeypatch):
    def train(out):
        train_teachers.main(tiny.teacher_flags(out, "--models", dropping, "--epochs", 4, "--optimizer", "sgd",
                                               "--save-every", 0))
    train(tmp_path / "whole")
    train_epoch, calls = train_teachers.train_epoch, []

    def interrupted(*args, **kwargs):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train_epoch(*args, **kwargs)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_teachers, "train_epoch", interrupted)
        train(tmp_path / "out")
    train(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


# ---------------------------------------------------------------- what a run is

def test_every_folder_says_how_many_threads_rounded_it(tiny, tmp_path, monkeypatch):
    """On a CPU `--threads 0` is no number: another machine has other cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    run = tiny.recover(tmp_path, "--threads", 0, "--iteration", 0)
    labels = tiny.relabel(run, "--threads", 0, "--epochs", 1)
    tiny.validate(run, "--threads", 0, "--seeds", 0)
    teachers = tmp_path / "teachers"
    train_teachers.main(tiny.teacher_flags(teachers, "--threads", 0, "--models", POOL[2], "--epochs", 1))
    for folder in (run, labels, run / "validate" / POOL[0], teachers):
        assert read_json(folder / "config.json")["config"]["threads"] == 3


def test_class_names_in_another_order_than_a_teachers_are_refused(tiny):
    teachers = load_teachers(POOL[:1], weights=(), weights_dir=str(tiny.teachers), dataset="x", num_classes=4,
                             stem="small", device=CPU)
    check_class_names(teachers, list(CLASSES))
    with pytest.raises(ValueError, match="class 1 is 'bee', in the data it is 'cat'"):
        check_class_names(teachers, ["ant", "cat", "bee", "dog"])


def test_a_digest_is_of_every_byte(tmp_path):
    content = bytes(range(256)) * 9000
    for name, value in (("a", content), ("b", content[:-1] + b"\0")):
        (tmp_path / name).write_bytes(value)
        assert sha256_file(tmp_path / name) == sha256_bytes(value) == hashlib.sha256(value).hexdigest()


def test_a_set_of_images_is_its_paths_its_bytes_and_its_order():
    entries = [Entry("syn/a/a_ipc0000.png", "01", 0), Entry("syn/b/b_ipc0000.png", "02", 1)]
    others = [entries[::-1], entries[:1], entries[1:], [*entries, Entry("syn/c/c_ipc0000.png", "03", 2)],
              [entries[0]._replace(path="syn/b/b_ipc0001.png"), entries[1]],
              [entries[0], entries[1]._replace(sha256="05")]]
    assert len({image_set_digest(own) for own in (entries, *others)}) == 7


def test_sixteen_bits_of_grey_are_shares_of_their_whole_range():
    levels = numpy.array([[0, 256, 257, 513, 514, 30000, 65278, 65279, 65535]], numpy.uint16)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    found = numpy.asarray(decode_image(file.getvalue()))
    assert found[0, :, 0].tolist() == [int(255 * int(level) / 65535) for level in levels[0]]
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize("quality", [40, 75])
def test_a_jpeg_has_the_quality_that_is_asked_for_and_halved_colours(quality, gen):
    pixels = torch.randint(0, 256, (3, 16, 16), generator=gen, dtype=torch.uint8)
    content, file = encode_image(pixels, image_format="jpg", jpeg_quality=quality), io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    assert content == file.getvalue()
