"""Soft, hard, soft: phases, the pool of labels, smoothed classes against numpy; a training that stops."""

import numpy as np
import pytest
import torch
from helpers import contents, run_through_stops

from utils.formats import open_labels
from utils.pieces import build_piece
from utils.randaugment import RandAugment
from utils.runtime import generator
from utils.views import CutMix, Views
from validate import train_FKD, training
from validate.losses import KL, ClassShares
from validate.soft_labels import HardLabels, SoftLabels, StoredLabels
from validate.trainings import TRAININGS, AsLabelled, LabelPool, SmoothedClasses, SoftHardSoft, gather

pytest_plugins = ["stage_fixtures"]
CPU, M, K = torch.device("cpu"), 11, 4
LAWS = Views(size=6, batch_size=4)  # 4, 4 and 3 of 11 images


class Recorded(SoftLabels):
    """Files of labels that say where each of their rows comes from, and a record of those that were read."""

    def __init__(self, files: int, laws: Views = LAWS):
        self.labels, self.laws, self.read = self, laws, []
        self.label_epochs = files

    def load(self, epoch):
        self.read.append(epoch)
        drawn = self.laws.draw_labelled(M, seed=5, epoch=epoch)
        return drawn, {"logits": 100.0 * epoch + torch.arange(len(drawn.index))[:, None].repeat(1, K)}

    def taught(self, drawn, stored):
        return drawn, lambda batch, views: stored["logits"][drawn.rows(batch)]


def teaching(soft_epochs: int, epochs: int, *, files: int = 2, seed: int = 1, laws: Views = LAWS):
    labels = Recorded(files, laws)
    return labels, SoftHardSoft(soft_epochs=soft_epochs)(
        labels, HardLabels(M, laws, seed), targets=torch.arange(M) % K, num_classes=K, epochs=epochs)


def rows_of(drawn, teach) -> list[list[int]]:
    """(file, first row) of every batch of an epoch, by what its labels say."""
    return [divmod(int(teach(batch, None)[0, 0]), 100) for batch in range(len(drawn))]


# ---------------------------------------------------------------- phases

@pytest.mark.parametrize("soft, epochs, lengths", [(150, 300, (75, 150, 75)), (5, 8, (2, 3, 3)),
                                                   (1, 3, (0, 2, 1)), (4, 4, (2, 0, 2))])
def test_half_of_the_soft_epochs_come_first_rounded_down(soft, epochs, lengths):
    _, plan = teaching(soft, epochs)
    chosen = KL()
    losses = [plan.loss(epoch, chosen) for epoch in range(epochs)]
    expected = ["soft"] * lengths[0] + ["hard"] * lengths[1] + ["soft"] * lengths[2]
    assert ["soft" if loss is chosen else "hard" for loss in losses] == expected
    assert all(loss is chosen or loss == ClassShares() for loss in losses)


def test_only_the_hard_phase_draws_views_of_its_own():
    labels, plan = teaching(4, 7)
    for epoch in range(7):
        labels.read.clear()
        drawn, _ = plan.epoch(epoch)
        assert bool(labels.read) == (epoch not in (2, 3, 4))
        if not labels.read:
            own = Views(size=6, batch_size=4, mix_type=CutMix()).draw(M, generator(1, "student", epoch))
            assert all(torch.equal(tensor, own.tensors()[name]) for name, tensor in drawn.tensors().items())


def test_as_labelled_is_the_labels_themselves():
    labels = Recorded(2)
    hard = HardLabels(M, LAWS, 0)
    assert AsLabelled()(labels, hard, targets=None, num_classes=K, epochs=3) is labels
    assert labels.loss(0, KL()) == KL()


# ---------------------------------------------------------------- the pool

def test_a_pool_is_drawn_without_replacement_and_filled_anew_when_it_is_empty():
    _, plan = teaching(16, 17, files=3)  # 8 soft, 1 hard, 8 soft; a full pool of 9 batches lasts 3 epochs
    drawn = {epoch: rows_of(*plan.epoch(epoch)) for epoch in range(17) if epoch != 8}
    everything = sorted((file, row) for file in range(3) for row in (0, 4, 8))
    refills = [(0, 1, 2), (3, 4, 5), (6, 7), (9, 10, 11), (12, 13, 14), (15, 16)]  # 8 is hard, 9 starts anew
    orders = []
    for epochs in refills:
        order = sum((drawn[epoch] for epoch in epochs), [])
        assert len(set(order)) == len(order) and set(order) <= set(everything)
        assert sorted(order) == everything or len(epochs) == 2
        orders.append(tuple(order))
    assert len(set(orders)) == len(orders)  # every refill has an order of its own
    assert any(len({file for file, _ in drawn[epoch]}) > 1 for epoch in drawn)


def test_the_order_is_a_permutation_by_seed_and_refill():
    pool = LabelPool(Recorded(3), 3, seed=7)
    order = torch.randperm(9, generator=generator(7, "label pool", 4)).tolist()
    assert [pool.draw(4, part) for part in range(3)] == \
        [[(i // 3, i % 3) for i in order[3 * part:3 * part + 3]] for part in range(3)]
    assert LabelPool(Recorded(3), 3, seed=8).draw(4, 0) != pool.draw(4, 0)


def test_drawn_batches_are_the_stored_ones_whatever_their_lengths():
    """Partial batches lie anywhere: each batch's tensors are those of its file, and so is its rendering."""
    laws = Views(size=6, batch_size=4, augment=RandAugment())
    labels, batches = Recorded(3, laws), [(1, 2), (0, 0), (2, 2), (1, 0)]
    drawn, stored = gather(labels.load, batches)
    assert labels.read == [0, 1, 2]  # each file once
    assert len(drawn) == 4 and drawn.lengths() == [3, 4, 3, 4]
    assert [drawn.rows(i) for i in range(4)] == [slice(0, 3), slice(3, 7), slice(7, 10), slice(10, 14)]
    pixels = torch.randint(0, 256, (M, 3, 6, 6), dtype=torch.uint8, generator=generator("pixels"))
    statistics = {"mean": (0.4,) * 3, "std": (0.2,) * 3}
    for place, (file, batch) in enumerate(batches):
        whole, theirs = labels.load(file)
        rows, own = whole.rows(batch), drawn.rows(place)
        assert torch.equal(stored["logits"][own], theirs["logits"][rows])
        assert torch.equal(drawn.index[own], whole.index[rows])
        assert torch.equal(drawn.render(pixels[drawn.index[own].long()], place, **statistics),
                           whole.render(pixels[whole.index[rows].long()], batch, **statistics))


# ---------------------------------------------------------------- classes

@pytest.mark.parametrize("smoothing", [0.0, 0.8, 1.0])
def test_targets_are_smoothed_and_mixed_by_the_share_of_the_box(smoothing):
    targets = torch.arange(M) % K
    hard = HardLabels(M, Views(size=6, batch_size=4, mix_type=CutMix()), 3)
    drawn, teach = SmoothedClasses(hard, targets, K, smoothing).epoch(2)
    for batch in range(len(drawn)):
        index = drawn.index[drawn.rows(batch)].numpy()
        partner = drawn.mix_index[drawn.rows(batch)].numpy()
        top, left, bottom, right = drawn.mix_box[batch].tolist()
        share = 1 - (bottom - top) * (right - left) / 36
        labels = teach(batch, torch.zeros(len(index), 3, 6, 6)).numpy()
        assert labels.sum(1) == pytest.approx(np.ones(len(index)))
        for i, row in enumerate(labels):
            expected = np.zeros(K)
            for image, weight in ((index[i], share), (index[partner[i]], 1 - share)):
                own = np.full(K, smoothing / K)
                own[image % K] = 1 - smoothing + smoothing / K
                expected += weight * own
            assert row == pytest.approx(expected, abs=1e-6)


# ---------------------------------------------------------------- through the stage

@pytest.fixture(scope="module")
def pooled(tiny, tmp_path_factory):
    """Images, and labels of two epochs for five, stored and online; batches of 5 and 3."""
    run = tiny.recover(tmp_path_factory.mktemp("pooled"), "--iteration", 0)
    for form in ("fp16", "online"):
        tiny.relabel(run, "--fkd-path", run / form, "--label-format", form, "--epochs", 5,
                     "--label-epochs", 2)
    return run


def flags_of(run, form: str, *flags) -> tuple:
    return ("--fkd-path", run / form, "--training", "soft-hard-soft", "--soft-epochs", 4, "--loss-type", "kl",
            "--seeds", 0, *flags)


@pytest.mark.parametrize("form, stops", [("fp16", {2, 7}), ("online", {8})])
def test_a_stopped_training_goes_on_to_the_same_student(form, stops, pooled, tiny, tmp_path, monkeypatch):
    flags = flags_of(pooled, form, "--save-every", 0, "--weights-dir", tiny.teachers)
    tiny.validate(pooled, "--output-dir", tmp_path / "whole", *flags)
    run_through_stops(monkeypatch, training, "train_batch", stops,
                      lambda: tiny.validate(pooled, "--output-dir", tmp_path / "out", *flags))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_each_phase_trains_with_its_own_labels_and_loss_and_all_with_one_optimizer(pooled, tiny, tmp_path,
                                                                                  monkeypatch):
    seen, train_batch = [], training.train_batch

    def recorded(learner, views, soft_labels, targets, recipe):
        seen.append((type(recipe.loss), len(views), soft_labels.clone(), id(learner.optimizer),
                     learner.optimizer.param_groups[0]["lr"]))
        return train_batch(learner, views, soft_labels, targets, recipe)
    monkeypatch.setattr(training, "train_batch", recorded)
    summary = tiny.validate(pooled, "--output-dir", tmp_path, *flags_of(pooled, "fp16"), "--smoothing", 0.5,
                            "--schedule", "linear")
    kinds, lengths, labels, optimizers, rates = zip(*seen, strict=True)
    assert kinds == (KL,) * 4 + (ClassShares,) * 2 + (KL,) * 4 and len(set(optimizers)) == 1
    assert rates == pytest.approx([1e-3 * (1 - batch // 2 / 5) for batch in range(10)])
    assert lengths[4:6] == (5, 3) and sorted(lengths[:4]) == sorted(lengths[6:]) == [3, 3, 5, 5]
    stored = StoredLabels(open_labels(str(pooled / "fp16"), 0, write=False))
    rows = torch.cat([stored.load(file)[1]["logits"].float() for file in range(2)])
    for phase in (labels[:4], labels[6:]):  # two soft epochs empty the pool of four batches
        assert sorted(torch.cat(phase).tolist()) == sorted(rows.tolist())
    for shares in labels[4:6]:
        assert shares.sum(1).tolist() == pytest.approx([1] * len(shares)) and (shares >= 0.125 - 1e-6).all()
    config = summary["results"][0]["config"]
    assert (config["training"], config["soft_epochs"], config["smoothing"]) == ("soft-hard-soft", 4, 0.5)


def test_what_cannot_be_trained_so_is_refused_in_one_line(pooled, tiny, refused, tmp_path):
    def line(run, *flags):
        return refused(train_FKD.main, tiny.validate_flags(run, "--output-dir", tmp_path / "out", *flags))
    assert "--soft-epochs 6 of a training of 5 epochs: expected at most 5" in line(
        pooled, *flags_of(pooled, "fp16"), "--soft-epochs", 6)
    assert "--training soft-hard-soft needs soft labels: give --fkd-path" in line(
        pooled, "--fkd-path", "", "--loss-type", "ce", "--epochs", 3, "--batch-size", 5,
        "--training", "soft-hard-soft", "--soft-epochs", 2)
    assert "--soft-epochs is of --training soft-hard-soft" in line(pooled, "--soft-epochs", 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("values, named", [
    ({"soft_epochs": 0}, r"--soft-epochs must be in \[1, 100000\], got 0"),
    ({"smoothing": 1.5}, r"--smoothing must be in \[0, 1\], got 1.5"),
    ({"smoothing": float("nan")}, "--smoothing must be in")])
def test_phases_that_cannot_be_are_refused(values, named):
    with pytest.raises(ValueError, match=named):
        build_piece(TRAININGS, "soft-hard-soft", values)
