"""Views for training at 224 pixels, no network: ours against Pillow, and what they cost a training loop.

    python -m benchmarks.augment            python -m benchmarks.augment --rounds 5 --images 500

Prints JSON lines.  First, images a second of whole views (crop, resize, flip, CutMix, normalise): one Pillow
process and a 2-worker Pillow loader, both from JPEG files as the lineage does it, our replay from resident
uint8, and our fallback that streams files through workers.  Then, the training epoch of a student against
the same loop on one constant batch.  Ratios are medians over interleaved rounds in one process.
"""
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torchvision.transforms.functional as TF
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.recover_step import smooth_images
from models.registry import build_model
from utils.augment import normalize
from utils.files import sha256_file
from utils.flags import parse_config
from utils.formats import Entry
from utils.loading import Images, ResidentImages, StreamedImages, load_distilled
from utils.pieces import Options, option
from utils.precision import set_precision
from utils.runtime import choose_device, command_line, generator, set_threads, versions
from utils.views import CutMix, EpochViews, NoMix, Views
from validate.losses import CE
from validate.soft_labels import HardLabels
from validate.training import Learner, Recipe, train_batch, train_epoch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig(Options):
    """What `python -m benchmarks.augment` takes."""

    images: int = option(400, "images of the set", range="in [1, 1000000]")
    size: int = option(224, "side of the images [pixels]", range="in [8, 8192]")
    batch_size: int = option(50, "views a batch", range="in [1, 32767]")
    rounds: int = option(5, "interleaved rounds, after one of warm-up", range="in [1, 1000]")
    views: bool = option(True, "time views without a network")
    training: bool = option(True, "time the training loop")
    model: str = option("resnet18", "student of the training loop")
    steps: int = option(4, "batches of the training loop", range="in [1, 1000000]")
    train_batch_size: int = option(16, "views a batch of the training loop", range="in [1, 32767]")
    threads: int = option(0, "CPU threads; 0 = all cores", range="in [0, 1024]")
    device: str = option("auto", "auto, cpu, cuda, ...")


class PillowViews(Dataset):
    """The lineage's data path: decode a JPEG, crop and resize with Pillow, flip, to a normalised tensor."""

    def __init__(self, paths: list[Path], drawn: EpochViews):
        self._paths, self._drawn, self._size = paths, drawn, drawn.laws.size

    def __len__(self):
        return len(self._paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        with Image.open(self._paths[self._drawn.index[i]]) as picture:
            picture = picture.convert("RGB")
        top, left, height, width = self._drawn.crop[i].tolist()
        view = TF.resized_crop(picture, top, left, height, width, [self._size, self._size])
        view = TF.hflip(view) if self._drawn.flip[i] else view
        return TF.normalize(TF.to_tensor(view), MEAN, STD)


def write_set(folder: Path, num: int, size: int) -> list[Entry]:
    """`num` JPEGs of quality 75 in a folder, as entries of a run."""
    entries = []
    for i, image in enumerate(smooth_images(num, size, seed=1)):
        pixels = (128 + 50 * image).clamp(0, 255).to(torch.uint8)
        TF.to_pil_image(pixels).save(folder / f"{i}.jpg", quality=75)
        entries.append(Entry(f"{i}.jpg", sha256_file(folder / f"{i}.jpg"), i % 10))
    return entries


def pillow_epoch(views: PillowViews, drawn: EpochViews, *, workers: int) -> None:
    """All batches of an epoch by a loader, CutMix pasted as the lineage does."""
    loader = DataLoader(views, batch_size=drawn.laws.batch_size, num_workers=workers,
                        multiprocessing_context="fork" if workers else None)
    for batch, images in enumerate(loader):
        top, left, bottom, right = drawn.mix_box[batch].tolist()
        partner = drawn.mix_index[drawn.rows(batch)].long()
        images[:, :, top:bottom, left:right] = images[partner][:, :, top:bottom, left:right]


def our_epoch(images: Images, drawn: EpochViews) -> None:
    """All batches of an epoch, replayed on the device."""
    moved = drawn.to(images.device)
    for batch, pixels in enumerate(images.batches(moved.index, drawn.laws.batch_size)):
        moved.render(pixels, batch, mean=MEAN, std=STD)
    synchronize(images.device)


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def interleaved(ways: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, the first round dropped."""
    seconds = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: own[1:] for name, own in seconds.items()}


def median_ratio(ours: list[float], base: list[float]) -> float:
    """Median over the rounds of the ratio of two ways' seconds."""
    return statistics.median(a / b for a, b in zip(ours, base, strict=True))


def measure_views(config: AugmentConfig, folder: Path, device: torch.device) -> dict:
    """Images a second of each way, and how often ours fits into the Pillow ways' time."""
    entries = write_set(folder, config.images, config.size)
    laws = Views(size=config.size, batch_size=config.batch_size, min_scale=0.25, flip=True,
                 mix_type=CutMix(mix_alpha=1.0))
    drawn = laws.draw(config.images, generator("plan"))
    views = PillowViews([folder / entry.path for entry in entries], drawn)
    kept = ResidentImages(load_distilled(folder, entries, size=config.size, device=device)[0])
    streamed = StreamedImages(folder, entries, size=config.size, device=device, workers=2)
    seconds = interleaved({
        "pillow": lambda: pillow_epoch(views, drawn, workers=0),
        "pillow_2_workers": lambda: pillow_epoch(views, drawn, workers=2),
        "resident": lambda: our_epoch(kept, drawn),
        "streamed_2_workers": lambda: our_epoch(streamed, drawn)}, config.rounds)
    rates = {name: config.images / statistics.median(s) for name, s in seconds.items()}
    return {"images_per_second": rates,
            "resident_over_pillow": median_ratio(seconds["pillow"], seconds["resident"]),
            "resident_over_2_workers": median_ratio(seconds["pillow_2_workers"], seconds["resident"]),
            "streamed_over_2_workers": median_ratio(seconds["pillow_2_workers"],
                                                    seconds["streamed_2_workers"])}


def measure_training(config: AugmentConfig, device: torch.device) -> dict:
    """Seconds of a training epoch over those of as many steps on one constant batch."""
    num = config.steps * config.train_batch_size
    pixels = (128 + 50 * smooth_images(num, config.size, seed=2)).clamp(0, 255).to(torch.uint8).to(device)
    student = build_model(config.model, num_classes=1000).to(device, memory_format=torch.channels_last)
    learner = Learner(student, torch.optim.AdamW(student.parameters(), lr=1e-4), precision="fp32",
                      device=device)
    targets = torch.arange(num, device=device) % 1000
    recipe = Recipe(loss=CE(), micro_batches=1, mean=MEAN, std=STD, epochs=1, rate=lambda epoch: 1e-4)
    teaching = HardLabels(num, Views(size=config.size, batch_size=config.train_batch_size, min_scale=0.25,
                                     flip=True, mix_type=NoMix()), seed=0)
    constant = normalize(pixels[:config.train_batch_size], MEAN, STD).contiguous(
        memory_format=torch.channels_last)

    def on_views():
        train_epoch(learner, ResidentImages(pixels), targets, *teaching.epoch(0), recipe, losses=[]).item()

    def on_a_constant_batch():
        student.train()
        for _ in range(config.steps):
            loss = train_batch(learner, constant, None, targets[:config.train_batch_size], recipe)
            learner.step()
        loss.item()

    seconds = interleaved({"views": on_views, "constant": on_a_constant_batch}, config.rounds)
    return {"model": config.model, "train_batch_size": config.train_batch_size,
            "train_images_per_second": num / statistics.median(seconds["views"]),
            "views_over_constant_batch": median_ratio(seconds["views"], seconds["constant"])}


def main(argv=None) -> None:
    """Prints one line for the views and one for the training loop, where they are wanted."""
    config = parse_config(AugmentConfig, argv, description=__doc__)
    device = choose_device(config.device)
    set_precision("fp32", device)
    about = {"benchmark": "augment", "device": device.type, "threads": set_threads(config.threads),
             "images": config.images, "size": config.size, "batch_size": config.batch_size,
             "rounds": config.rounds, **versions()}
    if config.views:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({**about, **measure_views(config, Path(folder), device)}), flush=True)
    if config.training:
        print(json.dumps({**about, **measure_training(config, device)}), flush=True)


if __name__ == "__main__":
    command_line(main)
