"""Fair scores of an image set: against as many real images, under one protocol, with intervals.

    python -m validate.evaluate SET --full-data --robustness

SET is a run of recover, or a folder of images.  Students of every --models and seed learn from it, and from
controls of real images (random, herding, k-centre, centre-margin), with the protocol's soft labels and with
hard ones.  What the set's own labels and students changed of the protocol holds for the controls too.
Prints accuracies, differences to the controls with their intervals, DD-Ranking's HLR, IOR, LRS and ARS, and
the worst classes; a rerun makes what is missing.   Source: baselines.md 16b, ecosystem.md 3.
"""
import dataclasses
import shlex
from pathlib import Path

from models import registry
from models.places import inherited_places
from utils import flags, loading, measures, methods, runtime
from utils.data import RealSet
from utils.formats import ImageManifest
from utils.image_sets import SetFlags
from utils.pieces import Values, option, require
from utils.session import open_session
from validate import cells, controls, evaluation, evaluation_text, full_data, inherited
from validate.controls import DISTILLED, REFERENCE, ImageSet, Labelled
from validate.train_FKD import EVAL_BATCH

DEFAULT_MODEL = "resnet18"
WORDS = "more words for {}, which win, as one: '--epochs 30 --batch-size 20'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(methods.MethodFlags, flags.WeightFlags, SetFlags, flags.MemoryFlags, flags.ComputeFlags):
    """What `python -m validate.evaluate [SET]` takes."""

    data: str = option("out/full_resnet18", "the set, also as the first word: run of recover, its syn/ "
                       "folder, or a folder of images", identity=False)
    train_data_path: str = option("", "folder of the real training images, of which the controls are",
                                  identity=False)
    val_dir: str = option("", "folder of the real test images", identity=False)
    ipc: int = option(0, "images per class; 0 = all complete ones", range="in [0, 10000]")
    seeds: tuple[int, ...] = option((0, 1, 2), "students of every set, and draws of random real images",
                                    range="in (-inf, inf)")
    models: tuple[str, ...] = option((), "architectures of the students; none: resnet18, or the primary "
                                     "teacher of a set whose pool has no resnet18", commas=True)
    controls: tuple[str, ...] = option(controls.NAMES, "sets of real images, or none", commas=True)
    full_data: bool = option(False, "train the same networks on all real images, for HLR and LRS")
    full_accuracy: tuple[float, ...] = option((), "that accuracy where it is known, one a model [%]",
                                              range="in (1, 100]")
    robustness: bool = option(False, "the set and random again without augmentation, for ARS")
    arch_name: str = option("", "primary teacher, which chooses real images too; none: as the set's labels")
    pool: tuple[str, ...] = option((), "ensemble of the labels; none: as the set's labels, else its run's "
                                   "pool, else the protocol's", commas=True)
    relabel_flags: str = option("", WORDS.format("relabel"))
    validate_flags: str = option("", WORDS.format("validate.train_FKD"))
    full_flags: str = option("", WORDS.format("models.train_teachers"))
    out: str = option("", "folder of sets, labels and students; default: <set>/evaluate/<protocol>-ipc<ipc>",
                      identity=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for stage in ("relabel", "validate"):
            _ = self.method.settings(stage)
        require(len(set(self.seeds)) == len(self.seeds), f"--seeds must differ, got {self.seeds}")
        known = (*controls.NAMES, "none")
        strange = [name for name in self.controls if name not in known]
        require(not strange, f"--controls {' '.join(strange)}: expected some of {', '.join(known)}")
        require("none" not in self.controls or len(self.controls) == 1, "--controls none goes with no other")
        require(not (self.full_data and self.full_accuracy), "--full-data trains what --full-accuracy says: "
                "leave one out")
        require(not self.robustness or REFERENCE in self.controls,
                f"--robustness compares with random real images: give --controls {REFERENCE}")
        for name in (*self.models, *self.pool, *[self.arch_name] * bool(self.arch_name)):
            registry.model_spec(name)

    @property
    def places(self) -> Values:
        """Where weights, test images and devices are, as every stage takes it."""
        named = {name: getattr(self, name) for name in ("weights", "weights_dir", "val_dir")}
        device = self.device if self.device != "auto" else runtime.choose_device("auto").type  # is said once
        return {"device": device, "threads": self.threads,
                **{name: value for name, value in named.items() if value}}

    @property
    def set_flags(self) -> Values:
        """What a set of others does not say itself."""
        return {name: getattr(self, name) for name in ("dataset", "size") if getattr(self, name)}

    @property
    def memory(self) -> Values:
        """How much of the images is kept decoded."""
        return {"resident_gb": self.resident_gb, "workers": self.workers}

    @property
    def data_place(self) -> Values:
        """Where the real training images are."""
        return {"train_data_path": self.train_data_path} if self.train_data_path else {}

    @property
    def teachers(self) -> Values:
        """The networks that flags name."""
        return {name: getattr(self, name) for name in ("arch_name", "pool") if getattr(self, name)}

    @property
    def wanted(self) -> tuple[str, ...]:
        """The controls."""
        return tuple(name for name in self.controls if name != "none")


def presets(given: Values) -> Values:
    """Where the run says that its teachers lie."""
    return inherited_places(given.get("data", EvaluateConfig.data), given)


def models_of(config: EvaluateConfig, beside: inherited.Inherited) -> tuple[str, ...]:
    """The students' architectures."""
    found = beside.teachers | config.teachers
    small = found.get("pool") and DEFAULT_MODEL not in found["pool"]
    return config.models or ((found.get("arch_name") or found["pool"][0]) if small else DEFAULT_MODEL,)


def check_data(config: EvaluateConfig, images: ImageManifest) -> RealSet:
    """Opens the real images that are needed; returns the test set.   Raises: ValueError on other classes."""
    test = RealSet(images.dataset, config.val_dir, "val", size=images.size)
    test.check_classes(images.class_names, flag="--val-dir", whose="the distilled images")
    if config.wanted or config.full_data:
        RealSet(images.dataset, config.train_data_path, "train", size=images.size).check_classes(
            images.class_names, flag="--train-data-path", whose="the distilled images")
    return test


def image_sets(config: EvaluateConfig, maker: controls.Maker) -> list[ImageSet]:
    """The distilled set, then the controls, made where they are missing.

    A draw of random images a seed; of the others one set for all seeds (centre-margin's patterns are drawn
    with seed 0).   Source: ours.
    """
    sets = [ImageSet(DISTILLED, config.data, config.seeds)]
    for name in config.wanted:
        drawn = name == REFERENCE
        for seeds in ((seed,) for seed in config.seeds) if drawn else (config.seeds,):
            seed = seeds[0] if drawn else 0
            sets.append(ImageSet(name, maker.real_images(name, seed=seed), seeds))
    return sets


def all_cells(config: EvaluateConfig, sets: list[ImageSet], maker: controls.Maker,
              beside: inherited.Inherited, *, models: tuple[str, ...], out: Path) -> list[cells.Cell]:
    """Students of every set, architecture and kind of labels; labels are made where they are missing."""
    flagged = {**beside.relabel, **config.teachers, "protocol": config.protocol}
    more = shlex.split(config.relabel_flags)
    serves = beside.labels if not (config.teachers or more) else None
    usual = [Labelled(images, serves if serves and images.name == DISTILLED
                      else maker.labels(images, flagged | config.set_flags, more)) for images in sets]
    whole = [*more, *flags.to_words(inherited.PLAIN)] if more else []  # words behind others win
    plain = [Labelled(images, maker.labels(
        images, inherited.without_augmentation(flagged) | config.set_flags, whole))
        for images in sets if config.robustness and images.name in (DISTILLED, REFERENCE)]
    controls.check_same_teachers([*usual, *plain])
    values = {**beside.validate, **config.set_flags, "protocol": config.protocol, **config.memory,
              **config.places}
    return [cell for kinds, labelled in (((cells.SOFT, cells.HARD), usual), ((cells.PLAIN_SOFT,), plain))
            for own in labelled for cell in cells.cells_of(
                own, models, kinds, out=out / "students", values=values,
                more=shlex.split(config.validate_flags))]


def full_accuracies(config: EvaluateConfig, images: ImageManifest, beside: inherited.Inherited, *,
                    models: tuple[str, ...], out: Path) -> tuple[dict[str, list[float]], list[str]]:
    """Model -> percent with hard labels on all real images, by seed or as known; the commands behind it.

    The recipe is that of the set's teachers, by their records, else that of models.train_teachers.
    """
    if config.full_accuracy:
        return {model: [known] for model, known in zip(models, config.full_accuracy, strict=True)}, []
    places = {name: value for name, value in config.places.items() if not name.startswith("weights")}
    recipe = full_data.teacher_recipe(config.weights_dir, (*config.pool, *beside.teachers.get("pool", ())))
    trained = [full_data.train_on_all(
        images, models, seed=seed, out=out / "full", recipe=recipe, places=places | config.data_place,
        more=shlex.split(config.full_flags)) for seed in sorted(config.seeds) if config.full_data]
    found = {model: [accuracies[model] for accuracies, _ in trained] for model in models if trained}
    return found, [command for _, command in trained]


def measured(made: list[cells.Cell]) -> tuple[dict[tuple[str, str, str], list[float]], list[str]]:
    """(set, model, labels) -> percent by seed, of students that are trained now; what was changed."""
    by_seed: dict[tuple[str, str, str], dict[int, float]] = {}
    changed: list[str] = []
    for number, cell in enumerate(made, 1):
        runtime.say(f"students {number} of {len(made)}: {cell.images}, {cell.model}, {cell.labels} labels")
        for result in cells.students_of(cell):
            by_seed.setdefault(cell[:3], {})[result["seed"]] = 100 * result["last"]["top1"]
            if (cell.images, cell.labels) == (DISTILLED, cells.SOFT) and not changed:
                made_of: Values = {**result}
                changed = [*inherited.in_words("relabel", made_of["labels_protocol"]["changed"],
                                               made_of["labels_config"]),
                           *inherited.in_words("validate", result["protocol"]["changed"], result["config"])]
    return {key: [each[seed] for seed in sorted(each)] for key, each in by_seed.items()}, changed


def run(config: EvaluateConfig, command: str) -> Values:
    """Makes what is missing, prints and saves the evaluation; returns its values."""
    images = config.open_set(config.data)
    ipc, test = config.ipc or images.ipc, check_data(config, images)
    beside = inherited.inherit(images, ipc, config.protocol)
    models = models_of(config, beside)
    known = config.full_accuracy
    require(len(known) in (0, len(models)), f"--full-accuracy gives {len(known)} numbers, expected one for "
            f"each of {', '.join(models)}")
    cells.parse_student({"protocol": config.protocol, "fkd_path": config.data, **config.places},
                        shlex.split(config.validate_flags))  # bad words before hours of labels
    out = Path(config.out) if config.out else images.home / "evaluate" / f"{config.protocol}-ipc{ipc}"
    maker = controls.Maker(images, ipc, out, places=config.places, real=config.data_place,
                           memory=config.memory, teachers=beside.teachers | config.teachers)
    for folder in beside.where:
        runtime.say(f"as in {folder}: what was changed of the protocol there holds for every set")
    made = all_cells(config, image_sets(config, maker), maker, beside, models=models, out=out)
    full, full_commands = full_accuracies(config, images, beside, models=models, out=out)
    found, changed = measured(made)
    device = open_session(config).device
    batches = loading.EvaluationBatches(test, batch_size=EVAL_BATCH[device.type], device=device,
                                        **config.memory)
    counts = {(cell.model, cell.labels): cells.confusion_of(cell, images, batches, device)
              for cell in made if cell.images == DISTILLED}
    found |= {(evaluation.FULL, model, cells.HARD): each for model, each in full.items()}
    values: Values = {
        "protocol": config.protocol, "changed": changed, "dataset": images.dataset, "ipc": ipc,
        "models": list(models), "seeds": sorted(config.seeds), "accuracies": evaluation.accuracies(found),
        "differences": evaluation.differences(found),
        "scores": {model: evaluation.score(found, model, full.get(model)) for model in models},
        "classes": evaluation.by_model(counts, images.class_names, evaluation.class_accuracies),
        "confusion": evaluation.by_model(counts, images.class_names, evaluation.confused),
        "commands": [command, *maker.commands, *(cell.command for cell in made), *full_commands]}
    path = measures.save_measure(images, f"evaluation_{config.protocol}_ipc{ipc}", values, ipc=ipc,
                                 command=command)
    notes = [evaluation_text.what_full_is(known)] if full else []
    print(f"{evaluation_text.describe(values, command=command, notes=notes)}\n\nAll of it, with the command "
          f"of every set, its labels and students: {path}")
    return values


def main(argv: list[str] | None = None) -> Values:
    """Runs a command line's words; returns the evaluation's values."""
    config = flags.parse_config(EvaluateConfig, flags.first_words(argv, "--data"), description=__doc__,
                                presets=presets)
    return run(config, measures.command_of("validate.evaluate", config, presets))


if __name__ == "__main__":
    runtime.command_line(main)
