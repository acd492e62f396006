"""The zoo: every network by its name, and where its weights are found.

MODELS: name -> ModelSpec.  A torchvision network is one line; a new family is one file and one line.
"""
import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import torch
import torchvision.models as tv
from torch import nn

from models import narrow_cifar
from models.torchvision_cifar import small_stem
from utils.files import load_tensors, sha256_file
from utils.pieces import Values, require
from utils.records import Teacher as Record
from utils.records import read_record


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """How a network is built, and its public ImageNet-1K weights (IMAGENET1K_V1, never DEFAULT)."""

    build: Callable[[int, str], nn.Module]
    weights: tv.WeightsEnum | None = None

    @property
    def accuracy(self) -> float | None:
        """Published ImageNet-1K top-1 of the public weights, in [0, 1]."""
        return self.weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100 if self.weights else None

    @property
    def filename(self) -> str | None:
        """Name of the public weights file, as torchvision stores it."""
        return self.weights.url.rsplit("/", 1)[1] if self.weights else None


def _torchvision(builder: Callable[..., nn.Module], weights: tv.WeightsEnum) -> ModelSpec:
    def build(num_classes: int, stem: str) -> nn.Module:
        model = builder(weights=None, num_classes=num_classes)
        return small_stem(model) if stem == "small" else model
    return ModelSpec(build, weights)


MODELS = {
    "resnet18": _torchvision(tv.resnet18, tv.ResNet18_Weights.IMAGENET1K_V1),
    "resnet34": _torchvision(tv.resnet34, tv.ResNet34_Weights.IMAGENET1K_V1),
    "resnet50": _torchvision(tv.resnet50, tv.ResNet50_Weights.IMAGENET1K_V1),
    "resnet101": _torchvision(tv.resnet101, tv.ResNet101_Weights.IMAGENET1K_V1),
    "mobilenet_v2": _torchvision(tv.mobilenet_v2, tv.MobileNet_V2_Weights.IMAGENET1K_V1),
    "efficientnet_b0": _torchvision(tv.efficientnet_b0, tv.EfficientNet_B0_Weights.IMAGENET1K_V1),
    "shufflenet_v2_x0_5": _torchvision(tv.shufflenet_v2_x0_5, tv.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1),
    "shufflenet_v2_x1_0": _torchvision(tv.shufflenet_v2_x1_0, tv.ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1),
    "mnasnet1_0": _torchvision(tv.mnasnet1_0, tv.MNASNet1_0_Weights.IMAGENET1K_V1),
    "alexnet": _torchvision(tv.alexnet, tv.AlexNet_Weights.IMAGENET1K_V1),
    "convnext_tiny": _torchvision(tv.convnext_tiny, tv.ConvNeXt_Tiny_Weights.IMAGENET1K_V1),
    "vit_b_16": _torchvision(tv.vit_b_16, tv.ViT_B_16_Weights.IMAGENET1K_V1),
    "swin_t": _torchvision(tv.swin_t, tv.Swin_T_Weights.IMAGENET1K_V1),
    "narrow_resnet": ModelSpec(narrow_cifar.narrow_resnet),
    "narrow_mobilenet": ModelSpec(narrow_cifar.narrow_mobilenet),
    "narrow_efficientnet": ModelSpec(narrow_cifar.narrow_efficientnet),
    "narrow_shufflenet": ModelSpec(narrow_cifar.narrow_shufflenet),
    "narrow_plain": ModelSpec(narrow_cifar.narrow_plain),
    "narrow_alexnet": ModelSpec(narrow_cifar.narrow_alexnet),
}


TWO_HEADED = ("googlenet", "inception_v3")  # in training they return auxiliary logits too


def model_spec(name: str) -> ModelSpec:
    """The entry of a network: of MODELS, or any other image classifier that torchvision has by that name.

    Raises: ValueError listing the known names.
    """
    if name in MODELS:
        return MODELS[name]
    if name in tv.list_models(module=tv) and name not in TWO_HEADED:
        weights = tv.get_model_weights(name).__members__.get("IMAGENET1K_V1")
        return _torchvision(tv.get_model_builder(name), weights)
    raise ValueError(f"unknown network {name!r}; expected one of {', '.join(MODELS)}, or another classifier "
                     f"of torchvision.models")


def check_pool(pool: Sequence[str]) -> None:
    """Raises ValueError unless every name of a --pool is known and none stands twice."""
    for name in pool:
        model_spec(name)
    if len(set(pool)) < len(pool):
        raise ValueError(f"--pool names a network twice: {' '.join(pool)}")


def primary_first(pool: Sequence[str], primary: str) -> tuple[str, ...]:
    """The pool with the primary first; outside the pool it takes the first place.   Source: prism.md 1."""
    others = pool if primary in pool else pool[1:]
    return (primary, *(name for name in others if name != primary))


def build_model(name: str, *, num_classes: int, stem: str = "imagenet") -> nn.Module:
    """A network with fresh weights.   Args: stem: `imagenet`, or `small` for 64 pixels and less."""
    return model_spec(name).build(num_classes, stem)


def build_skeleton(name: str, *, num_classes: int, stem: str = "imagenet") -> nn.Module:
    """A network of shapes alone, on the meta device: to be counted, not run."""
    try:
        with torch.device("meta"):
            return build_model(name, num_classes=num_classes, stem=stem)
    except NotImplementedError:  # some builders compute widths with tensors, which need values
        return build_model(name, num_classes=num_classes, stem=stem).to("meta")


def penultimate(model: nn.Module) -> nn.Module:
    """The same network returning its penultimate features (N, F): its last Linear becomes the identity.

    Raises: ValueError for a network without one.
    """
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    require(names, f"{type(model).__name__} has no linear layer before which its features are; choose "
            f"another network")
    name = names[-1]
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Identity())
    return model


def has_batchnorm(model: nn.Module) -> bool:
    """Whether the network has a BatchNorm layer to align with."""
    return any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def names_that(names: Iterable[str], holds: Callable[[nn.Module], bool], *, stem: str) -> list[str]:
    """The names of whose networks something holds, such as `has_batchnorm`, without allocating weights."""
    return [n for n in names if holds(build_skeleton(n, num_classes=2, stem=stem))]


# ---------------------------------------------------------------- weights

@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen network in eval mode, with what is known of its weights.

    path, sha256: the weights file;  accuracy: recorded top-1 in [0, 1] or None;
    class_names: the label order it was trained with, None where no record lies beside the weights;
    recipe: of its training where that is recorded: size [pixels], mean, std and more.
    """

    name: str
    model: nn.Module
    sha256: str
    accuracy: float | None
    class_names: list[str] | None
    recipe: Values = dataclasses.field(default_factory=dict)
    path: Path = Path()

    def channels_last(self) -> nn.Module:
        """The network with its weights channels last in memory, as those that are asked for labels run."""
        return self.model.to(memory_format=torch.channels_last)


def parse_weights(pairs: tuple[str, ...]) -> dict[str, str]:
    """`--weights name=path ...` as a dict.   Raises: ValueError on another spelling or an unknown name."""
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"--weights {pair}: expected name=path, for example resnet18=r18.pth")
        model_spec(pair.partition("=")[0])
    return dict(pair.split("=", 1) for pair in pairs)


def find_weights(name: str, *, weights: dict[str, str], weights_dir: str, dataset: str) -> Path:
    """The weights file of a teacher: --weights, then --weights-dir, then (ImageNet-1K) torchvision's cache.

    Public weights that are nowhere on disk are downloaded to torchvision's cache.
    Raises: ValueError naming the file and where to put it.
    """
    spec, tried = model_spec(name), []
    if name in weights:
        tried = [Path(weights[name])]
    else:
        folders = [Path(weights_dir)] if weights_dir else []
        tried = [folder / f"{name}.pt" for folder in folders]
        if dataset == "imagenet-1k" and spec.filename:
            folders = [*folders, Path(torch.hub.get_dir(), "checkpoints")]
            tried += [folder / spec.filename for folder in folders]
    for path in tried:
        if path.is_file():
            return path
    if name in weights or dataset != "imagenet-1k" or not (spec.weights and spec.filename):
        places = " or ".join(map(str, tried)) or "--weights-dir"
        raise ValueError(f"no weights for {name} on {dataset}: expected {places}; train teachers with "
                         f"python -m models.train_teachers, or pass --weights-dir or --weights {name}=PATH "
                         f"(relabel and validate look where recover did, by <run>/places.json)")
    try:
        tried[-1].parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(spec.weights.url, str(tried[-1]), hash_prefix=_hash_of(spec.filename))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"weights of {name} are not on this machine and cannot be downloaded "
                         f"({type(error).__name__}); put {spec.filename} (torchvision's IMAGENET1K_V1) into "
                         f"{tried[-1].parent}, or name its folder with --weights-dir") from error
    return tried[-1]


def _hash_of(filename: str) -> str | None:
    digest = filename.rsplit("-", 1)[-1].split(".")[0]
    return digest if len(digest) in (8, 10) else None


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """A state dict, bare or under `state_dict` or `model`, with or without a `module.` prefix.

    Raises: ValueError naming the file when it holds none, or needs unpickling of anything but tensors.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file")
    try:
        loaded = load_tensors(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: damaged, or not a weights file that loads with weights_only=True ({error})"
                         f"; save model.state_dict() with torch.save") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
            isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in loaded.items()):
        raise ValueError(f"{path}: expected a state dict of tensors, got {type(loaded).__name__}")
    return {key.removeprefix("module."): value for key, value in loaded.items()}


def load_weights(model: nn.Module, path: Path, *, name: str) -> None:
    """Loads a state dict into `model`.   Raises: ValueError naming the first tensor that does not fit."""
    state, own = read_state_dict(path), model.state_dict()
    for key in sorted(own.keys() | state.keys()):
        if key.endswith("num_batches_tracked") and key not in state:
            continue
        got = tuple(state[key].shape) if key in state else "nothing"
        expected = tuple(own[key].shape) if key in own else "nothing"
        if got != expected:
            raise ValueError(f"{path}: does not fit {name}: {key} is {got}, expected {expected}; check the "
                             f"architecture, the number of classes and the stem")
    model.load_state_dict(state, strict=False)


def load_teacher(name: str, path: Path, *, num_classes: int, stem: str, device: torch.device) -> Teacher:
    """A teacher from its weights file, frozen, in eval mode, with the record that lies beside the weights.

    Raises: ValueError when weights and network do not fit, or the record contradicts the stem.
    """
    model = build_model(name, num_classes=num_classes, stem=stem)
    load_weights(model, path, name=name)
    record, digest = path.with_suffix(".json"), sha256_file(path)
    info = read_record(record, Record) if record.is_file() else Record()
    if info.get("sha256", digest) != digest:
        raise ValueError(f"{path}: not the weights that {record.name} beside it was written for (truncated "
                         f"or changed); train the teacher again, or delete the record")
    if info.get("stem", stem) != stem:
        raise ValueError(f"{path}: trained with --stem {info['stem']}, but this run uses --stem {stem}")
    accuracy = info.get("accuracy")
    public = model_spec(name) if path.name == model_spec(name).filename else None
    return Teacher(name, model.eval().requires_grad_(False).to(device), digest,
                   public.accuracy if accuracy is None and public else accuracy, info.get("class_names"),
                   info.get("recipe", {}), path)


def check_recipes(teachers: Iterable[Teacher], **here: object) -> None:
    """Raises ValueError where a teacher was trained at another size, mean or std than this run has.

    Args: here: name -> this run's value, compared where the teacher's record has one.
    """
    for teacher in teachers:
        for name, value in here.items():
            own, theirs = (tuple(v) if isinstance(v, (tuple, list)) else v
                           for v in (value, teacher.recipe.get(name, value)))
            require(own == theirs, f"{teacher.name} was trained with --{name} {_spelt(theirs)}, the images "
                    f"here have {_spelt(own)}; use teachers and images of one --{name}, or let the accuracy "
                    f"on these images decide: --min-teacher-accuracy")


def _spelt(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def load_teachers(names: Iterable[str], *, weights: tuple[str, ...], weights_dir: str, dataset: str,
                  num_classes: int, stem: str, device: torch.device,
                  on_host: Collection[str] = ()) -> dict[str, Teacher]:
    """The named teachers, each loaded once, by name in the given order.

    Args: on_host: those that are not put on the device.   Raises: as `find_weights`.
    """
    given = parse_weights(weights)
    paths = {n: find_weights(n, weights=given, weights_dir=weights_dir, dataset=dataset) for n in names}
    return {n: load_teacher(n, path, num_classes=num_classes, stem=stem,
                            device=torch.device("cpu") if n in on_host else device)
            for n, path in paths.items()}
