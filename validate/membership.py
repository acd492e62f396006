"""Can one tell from a student the data set's training images from others?  An attack.

    python -m validate.membership RUN --student RUN/validate/NAME/seed0

Members are the training images that its teachers saw; a student of a few real images and hard labels saw
fewer, which is said.  The attack is the loss threshold; LiRA needs many students of other images:
`python -m scripts.privacy`.
"""
import dataclasses
import math
from pathlib import Path

import torch
from torch import nn

from models.registry import build_model
from utils.augment import normalize
from utils.data import RealSet
from utils.files import is_whole, load_tensors
from utils.flags import ComputeFlags, first_words, parse_config
from utils.formats import ImageManifest
from utils.image_sets import SetFlags, are_real, holds
from utils.loading import read_batches
from utils.measures import command_of, save_measure
from utils.metrics import Batches, logits_of
from utils.pieces import Values, option, require
from utils.records import Result, read_record
from utils.runtime import command_line, generator, progress, say
from utils.session import open_session
from validate.attacks import bootstrapped, confidence, guessed


def load_student(folder: Path, *, num_classes: int) -> tuple[nn.Module, Result]:
    """The student of a seed folder as it was at the last epoch, and its result.

    Raises: FileNotFoundError or ValueError naming what is missing, changed or damaged.
    """
    path = folder / "result.json"
    if not path.is_file():
        raise FileNotFoundError(f"--student {folder}: expected a finished student's folder, such as "
                                f"RUN/validate/resnet18/seed0, with a result.json in it; run validate")
    result = read_record(path, Result)
    weights, made = folder / "student_last.pt", result["config"]
    promised = result.get("files", {}).get(weights.name)
    require(promised and is_whole(weights, promised), f"{weights}: missing, or not the weights that "
            f"result.json beside it was written for; run validate again")
    model = build_model(made["model"], num_classes=num_classes, stem=made["stem"])
    model.load_state_dict(load_tensors(weights.read_bytes()))
    return model, result


@torch.no_grad()
def confidences(model: nn.Module, batches: Batches, *, mean: tuple[float, ...], std: tuple[float, ...],
                device: torch.device) -> torch.Tensor:
    """`confidence` of every image as evaluation shows it, (N,) float64.   Args: as of `utils.metrics`."""
    model = model.eval().to(device)
    found = [(logits_of(model, normalize(pixels.to(device), mean, std)).cpu(), labels.cpu())
             for pixels, labels in batches]
    return torch.cat([confidence(*batch) for batch in found])


def real_confidences(model: nn.Module, real: RealSet, images: ImageManifest, *, most: int,
                     device: torch.device) -> torch.Tensor:
    """`confidences` of at most `most` real images, spread over the classes: (N,)."""
    real.check_classes(images.class_names, flag="--train-data-path / --val-dir", whose="the distilled images")
    positions = real.spread(most)
    real.check_readable(positions)
    parts = [positions[first:first + 250] for first in range(0, len(positions), 250)]
    return confidences(model, progress(read_batches(real, parts, workers=4), total=len(parts), text="attack"),
                       mean=images.mean, std=images.std, device=device)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembershipConfig(SetFlags, ComputeFlags):
    """What `python -m validate.membership` takes."""

    data: str = option("out/full_resnet18", "distilled set that the student learnt from", identity=False)
    student: str = option("", "the student's folder: <run>/validate/<model>/seed0", identity=False)
    dataset: str = option("", "data set, or folder:PATH; none: as the images'", identity=False)
    train_data_path: str = option("", "folder of the members, the real training data (holding train/, or the "
                                  "classes)", identity=False)
    val_dir: str = option("", "folder of the others, the real test data (holding val/ or test/, or the "
                          "classes)", identity=False)
    images: int = option(10000, "at most so many members, and so many others, spread over the classes",
                         range="in [100, 10000000]")
    resamples: int = option(1000, "of the bootstrap", range="in [100, 1000000]")
    seed: int = option(0, "seed of the bootstrap", range="in (-inf, inf)")


def attack(members: torch.Tensor, others: torch.Tensor, *, resamples: int, draw: torch.Generator) -> Values:
    """Both figures with their intervals; None where there are too few others for a rate of 1 %.

    Args:    as `bootstrapped`.
    Returns: {"members", "nonmembers", "auc": {"value", "interval"}, "tpr_at_1": {"value", "interval"}}.
    """
    found = guessed(members, others)
    area, rate = bootstrapped(members, others, resamples=resamples, draw=draw)
    resolved = not math.isnan(found.tpr_at_1)
    return {"members": len(members), "nonmembers": len(others),
            "auc": {"value": found.auc, "interval": area},
            "tpr_at_1": {"value": found.tpr_at_1 if resolved else None,
                         "interval": rate if resolved else None}}


def in_words(values: Values) -> str:
    """What `attack` found, in a line."""
    area, rate = values["auc"], values["tpr_at_1"]
    low, high = area["interval"]
    text = f"{values['members']} training and {values['nonmembers']} test images: AUC {area['value']:.3f} " \
           f"({low:.3f} to {high:.3f}; a guess has 0.5), TPR at 1 % FPR "
    if rate["value"] is None:
        return text + "is not resolved by so few test images (100 are needed)"
    low, high = rate["interval"]
    return text + f"{rate['value']:.1%} ({low:.1%} to {high:.1%}; a guess has 1 %)"


def main(argv: list[str] | None = None) -> Values:
    """Attacks one student by the loss threshold; writes measured/membership_<model>_<labels>.json by its set.

    Members are training images, the others test images: what tells these apart beside membership (other
    cameras, other years, a split that is not at random) counts as membership here.
    """
    config = parse_config(MembershipConfig, first_words(argv, "--data"), description=__doc__)
    require(config.student, "--student: expected a finished student's folder, such as "
            "RUN/validate/resnet18/seed0")
    device = open_session(config).device
    images = config.open_set(config.data)
    model, result = load_student(Path(config.student), num_classes=images.num_classes)
    ipc, name = result["config"]["ipc"], result["config"]["model"]
    labels = "soft" if result.get("labels") else "hard"
    require(holds(images, result.get("images", ""), ipc or images.ipc),
            f"--student {config.student}: it learnt from other images than --data {config.data} holds")
    size = result.get("images_config", {}).get("size", images.size)
    require(size == images.size, f"--student {config.student}: it learnt from images of {size} pixels, these "
            f"are taken at {images.size}; pass --size {size}")
    members, others = (real_confidences(model, RealSet(
        config.dataset or images.dataset, root, split, size=images.size), images, most=config.images,
        device=device) for root, split in ((config.train_data_path, "train"), (config.val_dir, "val")))
    values = {"model": name, "labels": labels, "attack": "loss", **attack(
        members, others, resamples=config.resamples, draw=generator(config.seed, "membership"))}
    save_measure(images, f"membership_{name}_{labels}", values, ipc=ipc, command=command_of(
        "validate.membership", config, lambda given: {}))
    say(f"{config.student}: loss threshold, {in_words(values)}")
    if labels == "hard" and are_real(images):
        say(f"this student saw {len(images.select(ipc))} real images and no teacher's labels: the others of "
            f"these {len(members)} were never in its training data")
    say("training and test images may differ in more than membership: python -m scripts.privacy draws both "
        "from one set")
    return values


if __name__ == "__main__":
    command_line(main)
