"""Intra-class cosine similarity of distilled sets (paper figure 4): lower is more diverse.

    python -m validate.diversity RUN --arch-name resnet18
    python -m validate.diversity A B                  paired by class
    python -m validate.diversity A0,A1,A2 B0,B1,B2    paired by draw

The features are the penultimate ones of a trained network, by default one that taught nobody.  What is
measured of a set lies beside it, <run>/measured/diversity_<network>.json.  Over classes an interval holds for
these images alone; the spread over image sets is that over draws, each of a recover --seed of its own.
"""
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch

from models.places import inherited_places
from models.registry import model_spec
from utils.flags import ComputeFlags, WeightFlags, first_words, parse_config
from utils.formats import ImageManifest, image_set_digest
from utils.image_sets import SetFlags
from utils.measures import command_of, save_measure
from utils.metrics import Paired, intra_class_cosine, mean_and_std, paired
from utils.pieces import Values, option, require
from utils.runtime import command_line, say
from utils.session import open_session
from validate.features import Network, distilled_features, open_network, teachers_of
from validate.results import listed_folders, verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiversityConfig(WeightFlags, SetFlags, ComputeFlags):
    """What `python -m validate.diversity` takes."""

    data: tuple[str, ...] = option(("out/full_resnet18",), "run of recover, or folder of images; two are "
                                   "compared; A0,A1,A2 are draws of one", identity=False)
    ipc: int = option(0, "images per class; 0 = all complete ones", range="in [0, 10000]")
    arch_name: str = option("", "feature network; none: the first at hand that taught nobody",
                            source="paper figure 4: resnet18")
    stem: Literal["imagenet", "small"] | None = option(None, "its first layers; none: as the images")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.data) in (1, 2), f"--data takes one set, or two to compare, got {len(self.data)}; "
                f"draws of one are joined by commas: A0,A1,A2 B0,B1,B2")
        if self.arch_name:
            model_spec(self.arch_name)

    @property
    def sides(self) -> list[list[str]]:
        """The sets of each side."""
        return [listed_folders(word) for word in self.data]


def presets(given: Values) -> Values:
    """Where the first set says that weights lie."""
    return inherited_places(listed_folders(given.get("data", DiversityConfig.data)[0])[0], given)


# ---------------------------------------------------------------- two sets

def class_differences(a: Values, b: Values) -> Paired:
    """B - A paired over the classes that both have, of two measures.

    Raises: ValueError with fewer than two common classes, of whose spread nothing is known.
    """
    common = [name for name in a["classes"] if name in b["classes"]]
    require(len(common) > 1, f"the sets share {len(common)} classes of two images or more; a difference over "
            f"classes needs two: compare draws, --data A0,A1 B0,B1")
    return paired([b["classes"][name] - a["classes"][name] for name in common])


def draw_differences(sides: Sequence[Sequence[tuple[ImageManifest, Values]]]) -> Paired:
    """B - A of every draw, of the means over classes, paired over draws.

    Raises: ValueError where the lists do not pair draws, as `validate.results`.
    """
    a, b = sides
    require(len(a) == len(b), f"A lists {len(a)} sets and B {len(b)}: expected one of each a draw, in order")
    for number, ((mine, _), (theirs, _)) in enumerate(zip(a, b, strict=True)):
        drawn = [own.saved["config"].get("seed") for own in (mine, theirs)]
        require(None in drawn or drawn[0] == drawn[1], f"draw {number} pairs images of recover --seed "
                f"{drawn[0]} and {drawn[1]}: list the sets of both sides in the same order")
    return paired([theirs["mean"] - mine["mean"] for (_, mine), (_, theirs) in zip(a, b, strict=True)])


def compare(sides: Sequence[Sequence[tuple[ImageManifest, Values]]]) -> tuple[Paired, list[str]]:
    """The difference of two sides' sets with their measures, and what can be said of it."""
    if all(len(side) == 1 for side in sides):
        found = class_differences(*(side[0][1] for side in sides))
        return found, [verdict(found, "classes", "for these images alone", unit="", digits=4),
                       "The spread over image sets is not in this interval (draws measure it: python -m "
                       "validate.diversity --data A0,A1,A2 B0,B1,B2)."]
    found = draw_differences(sides)
    varied = [_is_varied(name, side) for name, side in zip("AB", sides, strict=True)]
    require(any(varied), "the sets of a side hold the same images, which are no draws: compare two sets, or "
            "give every draw images of its own (recover --seed)")
    fixed = [f"{name}'s sets hold the same images: over its images nothing is varied"
             for name, varies in zip("AB", varied, strict=True) if not varies]
    each = ", ".join(f"{difference:+.4f}" for difference in found.each)
    return found, [verdict(found, f"draws ({each})", "over draws of the images", unit="", digits=4), *fixed]


def _is_varied(name: str, side: Sequence[tuple[ImageManifest, Values]]) -> bool:
    """Whether the sets are others all.   Raises: ValueError where some are and some are not."""
    digests = {image_set_digest(list(images.entries)) for images, _ in side}
    require(len(digests) in (1, len(side)), f"{name} lists the same images twice, which are no two draws")
    return len(digests) > 1


# ---------------------------------------------------------------- the command

def open_sides(config: DiversityConfig) -> list[list[ImageManifest]]:
    """The sets of each side.   Raises: ValueError where their classes are not the same, as `open_set`."""
    sides = [[config.open_set(path) for path in side] for side in config.sides]
    first, *others = [images for side in sides for images in side]
    for images in others:
        require(images.class_names == first.class_names,
                f"--data {images.run}: its classes are not those of {first.run}; compare sets of one data")
    return sides


def measure(images: ImageManifest, network: Network, config: DiversityConfig, device: torch.device) -> Values:
    """A set's measure, saved beside it: {"arch", "taught", "mean", "std", "classes": {name: cosine}}.

    taught: whether the network taught this set.
    Raises: ValueError where no class has two images.
    """
    entries = images.select(config.ipc)
    found = intra_class_cosine(distilled_features(network, images, entries, device),
                               num_classes=images.num_classes)
    require(found, f"{images.run}: one image a class has no pairs to compare; make IPC 2 or more")
    counts = Counter(entry.label for entry in entries)
    names = [name for k, name in enumerate(images.class_names) if counts[k] > 1]
    mean, std = mean_and_std(found)
    values = {"arch": network.name, "taught": network.name in teachers_of(images), "mean": mean, "std": std,
              "classes": dict(zip(names, found, strict=True))}
    own = dataclasses.replace(config, data=(str(images.run),), arch_name=network.name)
    path = save_measure(images, f"diversity_{network.name}", values, ipc=config.ipc,
                        command=command_of("validate.diversity", own, presets))
    say(f"{images.run}: intra-class cosine {mean:.4f} +- {std:.4f} over {len(found)} classes "
        f"({network.name}); {path} has each")
    return values


def run(config: DiversityConfig) -> Values:
    """Measures every set, and compares two sides."""
    device = open_session(config).device
    sides = open_sides(config)
    first, *others = [images for side in sides for images in side]
    network = open_network(config.arch_name, first, config, stem=config.stem, device=device, others=others)
    measured = [[(images, measure(images, network, config, device)) for images in side] for side in sides]
    if len(sides) == 1:
        values = [values for _, values in measured[0]]
        if len(values) > 1:
            print(describe(values))
            return {"draws": values}
        return {name: values[0][name] for name in ("mean", "std")} | {
            "classes": list(values[0]["classes"].values())}
    difference, says = compare(measured)
    for name, side in zip("AB", measured, strict=True):
        print(f"{name}  {describe([values for _, values in side])}  "
              f"{', '.join(str(images.run) for images, _ in side)}")
    print(*says, f"lower is more diverse; {network.name} measures", sep="\n")
    low, high = difference.interval
    return {"sides": [[values for _, values in side] for side in measured], "difference":
            {**difference._asdict(), "interval": [low, high], "decided": not low <= 0 <= high}}


def describe(measured: Sequence[Values]) -> str:
    """Mean and spread of one set over its classes, or of several over draws."""
    mean, std = mean_and_std(own["mean"] for own in measured)
    if len(measured) > 1:
        return f"{mean:.4f} +- {std:.4f}  (n = {len(measured)} draws)"
    only, = measured
    return f"{mean:.4f} +- {only['std']:.4f}  (n = {len(only['classes'])} classes)"


def main(argv: list[str] | None = None) -> Values:
    """Of one set mean and std over classes, and one value a class; of two sides their difference too."""
    return run(parse_config(DiversityConfig, first_words(argv, "--data"), description=__doc__,
                            presets=presets))


if __name__ == "__main__":
    command_line(main)
