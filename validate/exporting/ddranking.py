"""A set as DD-Ranking 0.2.0 takes it: a tensor of images, soft labels, a learning rate, teachers, settings.

Of its metrics two work in that version, in mode M (validate/README.md); for these there are settings.
Source: DD-Ranking 0.2.0, config/user_config.py, utils/model.py, utils/data.py, metrics/.
N images, class by class, K classes, T teachers, H W pixels.
"""
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from models.registry import find_weights, parse_weights, read_state_dict
from utils.augment import normalize
from utils.files import load_tensors, sha256_file
from utils.formats import LabelManifest
from utils.metrics import logits_of
from utils.pieces import Values, option, require
from utils.runtime import choose_device, say
from validate.exporting.contents import Contents, File, copy_of, json_file
from validate.exporting.targets import ImageFolder, NetworkFlags
from validate.soft_labels import open_label_teachers

# Its name of a data set -> (ours, a student of whose full-data accuracy or training it knows).
DATASETS = {"imagenet-1k": ("ImageNet1K", "ResNet-18-BN"), "tiny-imagenet": ("TinyImageNet", "ResNet-18-BN"),
            "cifar10": ("CIFAR10", "ConvNet-3"), "cifar100": ("CIFAR100", "ConvNet-3")}
CACHED = ("ImageNet1K", "TinyImageNet")  # whose full-data accuracy it brings along
# Networks that it builds as torchvision does, and fills from a file.
TEACHERS = {"resnet18": "ResNet-18-BN", "resnet34": "ResNet-34-BN", "resnet50": "ResNet-50-BN"}
SMALL = (32, 64)  # pixels a side for which it takes the small stem


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDRanking(ImageFolder):
    """images.pt, labels.pt, lr.pt, teachers/ and the settings of the two metrics that work in 0.2.0."""

    lr: float = option(0.001, "learning rate of students, lr.pt", source="supplement table 1a", range="> 0")
    num_epochs: int = option(300, "of its students", source="supplement table 1a", range="in [1, 100000]")

    def check(self, contents: Contents) -> None:
        """As `ImageFolder.check`."""
        uneven = sorted({*contents.counts} - {contents.ipc})
        require(not uneven, f"--to ddranking wants {contents.ipc} images of every class, one here has "
                f"{uneven and uneven[0]}; choose a smaller --ipc")
        if contents.images.dataset not in DATASETS:
            say(f"DD-Ranking 0.2.0 knows no data set {contents.images.dataset}: its loader takes tensors, "
                f"its metrics cannot run, so that neither settings nor teachers are written")

    def holds(self, contents: Contents) -> str:
        """As `ImageFolder.holds`."""
        return ""

    def paths(self, contents: Contents) -> list[str]:
        """As `ImageFolder.paths`."""
        return []

    def files(self, contents: Contents, flags: NetworkFlags) -> Iterator[File]:
        """As `ImageFolder.files`."""
        images, labels = contents.images, contents.labels
        yield json_file("classes.json", images.class_names)
        yield _tensor("images.pt", 12 * len(contents.entries) * images.size**2, lambda: normalize(
            contents.pixels(), images.mean, images.std))
        yield _tensor("lr.pt", 1000, lambda: torch.tensor(self.lr))
        if labels:
            yield _tensor("labels.pt", 4 * len(contents.entries) * images.num_classes,
                          lambda: mean_logits(contents, labels, flags))
        else:
            say("no soft labels of these images, so that no teachers are known: labels.pt is left out")
        names = teachers_of(contents)
        for own, name in names.items():
            folder = f"teachers/{DATASETS[images.dataset][0]}/{name}"
            yield _teacher(f"{folder}/ckpt_best.pt", own, contents, flags)
        if names:
            for metric in ("lrs", "ars"):
                yield json_file(f"{metric}.yaml", self.settings(contents, metric, list(names.values())))

    def settings(self, contents: Contents, metric: str, teachers: list[str]) -> Values:
        """A metric's settings; JSON is YAML.   Args: metric: lrs or ars."""
        images = contents.images
        dataset, student = DATASETS[images.dataset]
        statistics = {"name": "Normalize", "args": [list(images.mean), list(images.std)]}
        seen: list[Values] = [{"name": "Resize", "args": [max(images.size, images.size // 7 * 8)]},
                              {"name": "CenterCrop", "args": [images.size]}, {"name": "ToTensor", "args": []},
                              statistics]
        shared: Values = {
            "dataset": dataset, "real_data_path": "DATA", "ipc": contents.ipc, "model_name": student,
            "soft_label_mode": "M", "soft_label_criterion": "kl", "optimizer": "adamw",
            "loss_fn_kwargs": {"temperature": 20, "scale_loss": False}, "lr_scheduler": "cosine",
            "weight_decay": 0.01, "momentum": [0.9, 0.999], "num_eval": 5, "im_size": [images.size] * 2,
            "num_epochs": self.num_epochs, "use_zca": False, "random_data_format": "image",
            "random_data_path": None, "data_aug_func": "cutmix", "aug_params": {"beta": 1.0},
            "step_size": None, "num_workers": 4, "stu_use_torchvision": student == "ResNet-18-BN",
            "tea_use_torchvision": True, "custom_train_trans": seen, "custom_val_trans": seen,
            "teacher_dir": "teachers", "teacher_model_names": teachers, "device": "cuda", "dist": False,
            "save_path": f"./results/{metric}.csv"}
        if metric == "ars":
            return {**shared, "label_type": "soft", "batch_size": 256}
        return {**shared, "real_batch_size": 256, "syn_batch_size": 256, "use_aug_for_hard": False,
                "eval_full_data": dataset not in CACHED}

    def usage(self, contents: Contents) -> str:
        """As `ImageFolder.usage`."""
        if not teachers_of(contents):
            return """```python
images = torch.load("HERE/images.pt", weights_only=True)  # (N, 3, H, W) normalised, class by class
```"""
        return """In an environment of its own (`pip install ddranking==0.2.0` wants numpy below 2), from this
folder, with the folder of your real data in place of DATA in both .yaml:

```python
from ddranking.config import Config
from ddranking.metrics import AugmentationRobustScore, LabelRobustScoreSoft

images, lr = (torch.load(f"{name}.pt", weights_only=True) for name in ("images", "lr"))
LabelRobustScoreSoft(Config.from_file("lrs.yaml")).compute_metrics(image_tensor=images, syn_lr=lr)
AugmentationRobustScore(Config.from_file("ars.yaml")).compute_metrics(image_tensor=images, syn_lr=lr)
```

Its LRS and ARS put percentages into a formula meant for fractions; HLR and IOR beside them are right in
percent. `python -m validate.evaluate` computes all four in fractions. labels.pt, the teachers' mean logits of
the images as they are, is for its mode S, which fails in 0.2.0; the settings take mode M, where its teachers
label each view."""


def teachers_of(contents: Contents) -> dict[str, str]:
    """The teachers of the labels that DD-Ranking can build: our name -> its name."""
    images, labels = contents.images, contents.labels
    fits = (images.stem == "small") == (images.size in SMALL)
    return {name: TEACHERS[name] for name in (labels.teachers if labels and fits else ())
            if name in TEACHERS and images.dataset in DATASETS}


@torch.no_grad()
def mean_logits(contents: Contents, labels: LabelManifest, flags: NetworkFlags) -> torch.Tensor:
    """(N, K) float32: the mean over the labels' teachers, of the images without any augmentation.

    Source: DD-Ranking 0.2.0, metrics/soft_label.py: its online labels are the mean logits of its teachers.
    """
    images, pixels, device = contents.images, contents.pixels(), choose_device(flags.device)
    teachers = open_label_teachers(labels, flags, device)
    parts = (normalize(part.to(device), images.mean, images.std) for part in pixels.split(100))
    return torch.cat([torch.stack([logits_of(teacher, part).float() for teacher in teachers]).mean(0).cpu()
                      for part in parts])


def _teacher(path: str, name: str, contents: Contents, flags: NetworkFlags) -> File:
    """A teacher's weights as a bare state dict: the file itself where it is one."""
    labels = contents.labels
    assert labels
    source = find_weights(name, weights=parse_weights(flags.weights), weights_dir=flags.weights_dir,
                          dataset=labels.dataset)
    require(sha256_file(source) == labels.weights[name], f"{source}: not the weights of {name} that the "
            f"labels were made with; name them with --weights-dir or --weights {name}=PATH")
    state = read_state_dict(source)
    if load_tensors(source.read_bytes()).keys() == state.keys():
        return copy_of(path, source, labels.weights[name])
    return _tensor(path, source.stat().st_size, lambda: state)


def _tensor(path: str, num_bytes: int, make: Any) -> File:
    return File(path, num_bytes, lambda file: torch.save(make(), file))  # gigabytes: not in memory twice
