"""Base recipes by data set: the same rows of matrix.py at a size that fits.

A recipe's settings lie below the protocol's and the row's, and what they say in ImageNet-1K's units is
scaled (a protocol's own settings of the data set are not): iterations, epochs, classes a chunk, networks.
Sources: demo-sized budgets are ours.
"""
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.files import sha256_bytes
from utils.methods import METHODS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a data set changes below every row.

    dataset: whose recipe it is, where it is not its name;
    networks: name in the matrix -> name here, "" = there is none;  iterations, epochs, chunk: factors on
    those settings;  ipc: images per class of rows whose own are out of reach;  recover, relabel, validate:
    settings below the protocol's;  teachers: of models.train_teachers, where there are no public weights;
    alike: option -> what a method's value becomes where methods are compared.
    """

    dataset: str = ""
    networks: dict[str, str] = dataclasses.field(default_factory=dict)
    iterations: float = 1.0
    epochs: float = 1.0
    chunk: float = 1.0
    ipc: dict[int, int] = dataclasses.field(default_factory=dict)
    recover: dict = dataclasses.field(default_factory=dict)
    relabel: dict = dataclasses.field(default_factory=dict)
    validate: dict = dataclasses.field(default_factory=dict)
    teachers: dict = dataclasses.field(default_factory=dict)
    alike: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """The networks that stand for others."""
        return tuple(sorted(set(self.networks.values()) - {""}))


NARROW = {"resnet18": "narrow_resnet", "mobilenet_v2": "narrow_mobilenet",
          "efficientnet_b0": "narrow_efficientnet", "shufflenet_v2_x0_5": "narrow_shufflenet",
          "alexnet": "narrow_alexnet", "resnet34": "narrow_plain", "resnet50": "narrow_plain",
          "shufflenet_v2_x1_0": "narrow_shufflenet", "mnasnet1_0": "narrow_mobilenet",
          "densenet121": "narrow_efficientnet",
          "resnet101": "", "convnext_tiny": "", "vit_b_16": "", "swin_t": ""}
# The same table at full width: six of torchvision's networks with a small stem stand for all.
FULL = {name: "" for name, own in NARROW.items() if not own} | {name: name for name in (
    "resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet", "resnet50")} | {
    "resnet34": "resnet50", "shufflenet_v2_x1_0": "shufflenet_v2_x0_5", "mnasnet1_0": "mobilenet_v2",
    "densenet121": "efficientnet_b0"}
THREE_SEEDS = (0, 1, 2)
PUBLISHED = METHODS["prism"].recover["iteration"]

PNG = {"image_format": lambda _: "png"}  # JPEG is for photographs of 224 pixels
# What 224 pixels allow and small images do not: mosaics have one tile (RDED up to 64 pixels), so there is no
# tile to shuffle; places of 4 pixels (G-VBSM).
SMALL_IMAGES = {**PNG, "factor": lambda tiles: min(tiles, 1), "patch": lambda side: min(side, 4),
                "augment": lambda name: "none" if name == "patch-shuffle" else name}


def alike(r_bn: float, eval_every: int, **others: Callable[[Any], Any]) -> Mapping[str, Callable[[Any], Any]]:
    """What a comparison changes for every method.

    Args: r_bn: the recipe's weight of an alignment for PRISM's 0.01, as narrow networks have few layers;
          others' are scaled by as much;  eval_every: epochs, so that the best is of equally many.
    """
    return {"r_bn": lambda weight: weight * r_bn / 0.01, "eval_every": lambda _: eval_every,
            "eval_from": lambda _: 0.0, **others}


RECIPES = {
    "imagenet-1k": Recipe(),
    # The demo's budgets; crops below half a digit show no digit.
    "digits": Recipe(
        networks=NARROW, iterations=150 / PUBLISHED, epochs=1 / 3, chunk=0.1, ipc={1300: 10, 50: 20, 100: 40},
        recover={"lr": 0.1, "r_bn": 0.3, "init": "noise", "min_scale_crops": 0.5, "log_every": 50},
        relabel={"min_scale_crops": 0.5},
        validate={"gradient_accumulation_steps": 1, "eval_every": 100, "seeds": THREE_SEEDS},
        teachers={"epochs": 8, "batch_size": 64, "optimizer": "adamw", "lr": 0.005, "min_scale_crops": 0.5},
        alike=alike(0.3, 100, **SMALL_IMAGES, **dict.fromkeys(
            ("min_scale_crops", "least_area", "real_area"), lambda least: max(least, 0.5)))),
    # What two CPU cores make in hours: 15 epochs of a narrow teacher reach 69 to 75 %, and a test of 10,000
    # images costs as much as 30 epochs at IPC 10; real starting points (prism.md 1).
    "cifar10": Recipe(
        networks=NARROW, iterations=1000 / PUBLISHED, epochs=1.0, chunk=0.1, ipc={1300: 50},
        recover={"r_bn": 0.1, "log_every": 100}, validate={"seeds": THREE_SEEDS, "eval_every": 100},
        teachers={"epochs": 15, "batch_size": 128, "optimizer": "adamw", "lr": 0.005,
                  "min_scale_crops": 0.5},
        alike=alike(0.1, 100, **PNG)),
}
# The same data and budgets for a GPU.  The networks are others, with them their teachers' training, and the
# weight of an alignment, which is the published one for networks of so many layers.  Nobody has run it yet.
RECIPES["cifar10-full"] = dataclasses.replace(
    RECIPES["cifar10"], dataset="cifar10", networks=FULL, recover={"log_every": 100},
    alike=alike(0.01, 100, **PNG), teachers=RECIPES["cifar10"].teachers | {"epochs": 30, "lr": 0.0005})
# Any folder of classes: cifar10's budgets at 32 pixels.  Its own pictures are the only teachers' data.
FOLDER = dataclasses.replace(
    RECIPES["cifar10"], recover=RECIPES["cifar10"].recover | {"size": 32, "image_format": "png"},
    teachers=RECIPES["cifar10"].teachers | {"size": 32}, alike=alike(0.1, 100, **SMALL_IMAGES))


def recipe_of(dataset: str) -> Recipe:
    """The base recipe of a data set of RECIPES, or of folder:PATH."""
    return FOLDER if dataset.startswith("folder:") else RECIPES[dataset]


def data_of(dataset: str) -> str:
    """The data set of a recipe, as the stages call it."""
    return recipe_of(dataset).dataset or dataset


def folder_of(dataset: str) -> str:
    """The name of a data set's folder of runs: data of one name are told apart by where they lie."""
    kind, _, path = dataset.partition(":")
    where = Path(path).resolve()
    return f"{kind}-{where.name}-{sha256_bytes(str(where).encode())[:8]}" if path else kind
