"""Where a program of many runs reads and writes, and a small data set's teachers: a pool of them a draw."""
import dataclasses
from pathlib import Path

from models import train_teachers
from scripts.reproducing.launch import shown_command
from scripts.reproducing.plans import CONFIGS
from scripts.reproducing.small_recipes import data_of, folder_of, recipe_of
from utils.flags import ComputeFlags, MemoryFlags, PrecisionFlags, SaveFlags, to_words
from utils.folders import lock
from utils.interrupts import heeded
from utils.pieces import Values, option, require

PASSED_ON = (ComputeFlags, PrecisionFlags, MemoryFlags, SaveFlags)  # to each stage that takes them


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaceFlags(*PASSED_ON):
    """Data, weights and output of every run, and what each stage is given as it is."""

    dataset: str = option("imagenet-1k", "whose base recipe to use, or folder:PATH")
    out: str = option("out", "folder of everything that is made")
    train_data_path: str = option("", "real training data, holding train/ (digits need none)")
    val_dir: str = option("", "real test data; none: --train-data-path")
    weights_dir: tuple[str, ...] = option((), "teachers' weights, one folder or several that draws take in "
                                          "turn; none: torchvision's, or trained here if data are small")
    compile: bool = option(False, "compile recover's networks and the students")

    @property
    def base(self) -> Path:
        """The folder of this data set's runs."""
        return Path(self.out, folder_of(self.dataset))

    def teachers_dir(self, draw: int) -> str:
        """Where the teachers' weights are, or will be."""
        if self.weights_dir:
            return self.weights_dir[draw % len(self.weights_dir)]
        return str(self.base / f"teachers{draw}") if recipe_of(self.dataset).teachers else ""

    def places(self, draw: int) -> dict[str, Values]:
        """Stage -> fields that name places or devices, as `plan_row` takes them."""
        val = {"val_dir": self.val_dir or self.train_data_path}
        own = {"recover": {"train_data_path": self.train_data_path, "val_dir": self.val_dir,
                           "compile": self.compile}, "relabel": val,
               "validate": val | {"compile": self.compile}}
        return {stage: {"weights_dir": self.teachers_dir(draw), **own[stage], **{
            field.name: getattr(self, field.name) for group in PASSED_ON
            if issubclass(CONFIGS[stage][0], group) for field in dataclasses.fields(group)}} for stage in own}

    def training_words(self, names: tuple[str, ...], folder: str | Path, seed: int) -> list[str]:
        """The flags that train networks by this data set's recipe."""
        return to_words({
            "dataset": data_of(self.dataset), "train_data_path": self.train_data_path,
            "val_dir": self.val_dir, "output_dir": folder, "models": names, "seed": seed,
            "device": self.device, "threads": self.threads, **recipe_of(self.dataset).teachers})

    def teacher_words(self, draw: int) -> list[str]:
        """The flags that train a draw's teachers; none where they are given, or public."""
        recipe = recipe_of(self.dataset)
        return [] if self.weights_dir or not recipe.teachers else \
            self.training_words(recipe.teacher_names, self.teachers_dir(draw), draw)


def train_once(words: list[str], folder: Path) -> None:
    """Trains networks into a folder, one process at a time: another that wants them waits, and finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".training", wait=True), heeded():
        train_teachers.main(words)


def make_teachers(config: PlaceFlags, draw: int, *, alone: bool) -> None:
    """Trains a small data set's teachers, if the recipe says how and they are not given.

    Raises: ValueError unless `alone`, in one shard of several, which would all train them.
    """
    words, folder = config.teacher_words(draw), Path(config.teachers_dir(draw))
    if words and alone:
        train_once(words, folder)
    elif words:
        require(all((folder / f"{name}.json").is_file() for name in recipe_of(config.dataset).teacher_names),
                f"{folder}: a shard needs all teachers trained; before it and without a shard run "
                f"{shown_command(['-m', train_teachers.__name__, *words])}")
