"""Accuracy and diversity against explicit pairs and counts."""
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recover.synthesis import peak_memory
from utils.formats import Entry, ImageManifest
from utils.metrics import evaluate, intra_class_cosine, logits_of, mean_and_std, topk_hits
from validate import features

CPU = torch.device("cpu")


def test_intra_class_cosine_is_the_mean_over_explicit_pairs(gen):
    features = torch.randn(12, 6, generator=gen) * torch.linspace(0.1, 9, 12)[:, None]
    labels = torch.tensor([2, 0, 2, 5, 0, 2, 0, 2, 7, 0, 7, 2])  # class 5 has a single image
    expected = []
    for label in (0, 2, 7):
        members = features[labels == label].double().numpy()
        expected.append(np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                                 for a, b in itertools.combinations(members, 2)]))
    for size in (12, 5, 1):  # classes are spread over the batches
        batches = zip(features.split(size), labels.split(size), strict=True)
        assert intra_class_cosine(batches, num_classes=9) == pytest.approx(expected, rel=1e-6)


def test_equal_images_have_cosine_one_and_orthogonal_ones_zero():
    labels = torch.tensor([0, 0, 0, 1, 1])
    features = torch.tensor([[1.0, 2], [2, 4], [3, 6], [1, 0], [0, 5]])
    assert intra_class_cosine([(features, labels)], num_classes=2) == pytest.approx([1.0, 0.0])


def test_a_single_image_a_class_has_no_cosine():
    assert intra_class_cosine([(torch.eye(3), torch.arange(3))], num_classes=3) == []


def test_the_images_whose_diversity_is_measured_are_decoded_a_hundred_at_a_time(monkeypatch):
    decoded = []

    def load(run, entries, *, size, device):
        decoded.append(len(entries))
        return (torch.zeros(len(entries), 3, size, size, dtype=torch.uint8),
                torch.tensor([entry.label for entry in entries]))
    monkeypatch.setattr(features, "load_distilled", load)
    entries = [Entry(f"{i}.png", "", i % 7) for i in range(230)]
    images = ImageManifest(run=Path("run"), dataset="digits", class_names=[], ipc=1, size=2,
                           mean=(0.5,) * 3, std=(0.5,) * 3, stem="small")
    network = features.Network("flat", nn.Flatten(), False)
    seen = list(features.distilled_features(network, images, entries, CPU))
    assert decoded == [100, 100, 30] and [tuple(own.shape) for own, _ in seen] == [
        (100, 12), (100, 12), (30, 12)]
    assert torch.cat([labels for _, labels in seen]).tolist() == [entry.label for entry in entries]


@pytest.mark.parametrize("values, mean, std", [
    ([3.0], 3, 0), ([1, 2, 4, 5], 3, np.sqrt(10 / 3)), (iter([0.5, 0.25]), 0.375, 0.125 * np.sqrt(2))])
def test_mean_and_std_divide_by_one_less(values, mean, std):
    assert mean_and_std(values) == pytest.approx((mean, std))


def test_topk_hits_count_the_labels_among_the_largest(gen):
    logits, labels = torch.randn(50, 9, generator=gen), torch.randint(0, 9, (50,), generator=gen)
    for k in (1, 5, 20):
        largest = np.argsort(-logits.numpy(), axis=1)[:, :k]
        expected = sum(label in row for row, label in zip(largest, labels.tolist(), strict=True))
        assert topk_hits(logits, labels, k) == expected


class Spy(nn.Module):
    """Its logits are the mean pixel of eight bands of the image; notes how it is called."""

    def __init__(self):
        super().__init__()
        self.norm, self.calls = nn.BatchNorm2d(3), []

    def forward(self, images):
        self.calls.append((self.training, torch.is_grad_enabled(), images.dtype, len(images)))
        return self.norm(images).mean(1).mean(2)


def test_evaluate_is_the_share_of_hits_over_all_images(gen):
    pixels = torch.randint(0, 256, (10, 3, 8, 8), generator=gen, dtype=torch.uint8)
    labels = torch.randint(0, 8, (10,), generator=gen)
    model, mean, std = Spy().train(), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = list(zip(pixels.split(4), labels.split(4), strict=True))
    seen = evaluate(model, batches, mean=mean, std=std, device=CPU)
    normal = (pixels.numpy() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    order = np.argsort(-normal.mean(1).mean(2), axis=1)
    top1, top5 = (np.mean([label in row[:k] for row, label in zip(order, labels.tolist(), strict=True)])
                  for k in (1, 5))
    assert seen == {"top1": pytest.approx(top1), "top5": pytest.approx(top5), "images": 10}
    assert 0 < top1 < top5
    assert model.calls == [(False, False, torch.float32, n) for n in (4, 4, 2)]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Cramped(torch.nn.Module):
    """Runs out of memory above three images."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(len(images))
        if len(images) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return images.flatten(1)


def test_a_batch_that_memory_does_not_hold_is_evaluated_in_halves(gen):
    images = torch.randn(10, 2, 1, 1, generator=gen)
    model = Cramped()
    assert torch.equal(logits_of(model, images), images.flatten(1))
    assert max(model.seen[1:]) <= 5 and sum(n for n in model.seen if n <= 3) == 10


def test_a_batch_that_memory_did_not_hold_is_not_tried_again(gen):
    pixels = torch.randint(0, 256, (30, 2, 1, 1), generator=gen, dtype=torch.uint8)
    labels, model = torch.zeros(30, dtype=torch.int64), Cramped()
    batches = list(zip(pixels.split(12), labels.split(12), strict=True))
    for _ in range(2):
        assert evaluate(model, batches, mean=(0.0,) * 2, std=(1.0,) * 2, device=CPU)["images"] == 30
    assert model.seen == [12, 6, *[3] * 4, *[3] * 4, *[3] * 2, *[3] * 10]
    other = Cramped()
    logits_of(other, torch.zeros(4, 1))
    assert other.seen == [4, 2, 2]  # memory is another for every network


def test_a_single_image_that_does_not_fit_is_an_error():
    class Full(torch.nn.Module):
        def forward(self, images):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.cuda.OutOfMemoryError):
        logits_of(Full(), torch.zeros(2, 1))


def test_recover_logs_its_peak_memory_on_cuda_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2.5e9)
    assert peak_memory(torch.device("cuda", 1)) == {"peak_memory_gb": 2.5} and peak_memory(CPU) == {}
