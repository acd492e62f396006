"""What was measured of an exported set: its students' accuracies, the controls, and how to do it again."""
import dataclasses
import itertools
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.formats import ImageManifest, LabelManifest
from utils.measures import read_measures
from utils.metrics import mean_and_std, student_t
from utils.pieces import Values
from utils.records import Result, mismatch
from utils.runtime import warn_once
from validate.results import read_results
from validate.students_found import student_folders

PLACES = {"--data": "RUN", "--train-data-path": "DATA", "--val-dir": "DATA", "--weights-dir": "TEACHERS"}
OF_A_MACHINE = ("--threads", "--device", "--out")  # which change no figure but by rounding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Students:
    """The finished students of a folder that were trained on exactly these images, by seed.

    name: of the folder; no two of an export give the same names of files.
    """

    name: str
    folder: Path
    results: list[Result]

    @property
    def settings(self) -> Values:
        """As validate's --config takes them."""
        return self.results[0]["config"]

    @property
    def name_in_files(self) -> str:
        """Its name, as part of a file's: of letters that no shell and no folder reads otherwise."""
        return re.sub(r"[^\w.-]", "_", self.name)

    @property
    def settings_file(self) -> str:
        """The file of its settings in an export."""
        return f"students_{self.name_in_files}.json"

    def row(self) -> Values:
        """What a re-run must reach.   mean, std (n - 1), each: top-1 of the last epoch, in percent.

        t: Student's, of n - 1 degrees of freedom: with 95 % the mean of m more students is within
        mean +- t std sqrt(1 / m + 1 / n).  None with one student, of whose spread nothing is known.
        interval: with m = 1; None of equal students too.
        Source: the prediction interval of a normal sample.
        """
        each = [100 * result["last"]["top1"] for result in self.results]
        (mean, std), n = mean_and_std(each), len(each)
        half = None if n < 2 or not std else student_t(n - 1) * std * (1 + 1 / n) ** 0.5
        return {"name": self.name, "model": self.settings.get("model"), "labels": self.labels,
                "protocol": self.results[0]["protocol"], "n": n, "mean": mean, "std": std if n > 1 else None,
                "each": each, "seeds": self.seeds,
                "t": student_t(n - 1) if n > 1 else None,
                "interval": None if half is None else [max(0.0, mean - half), min(100.0, mean + half)],
                "settings": self.settings_file}

    @property
    def seeds(self) -> list[int]:
        """Of the students."""
        return [result["seed"] for result in self.results]

    @property
    def labels(self) -> str:
        """Which labels taught them."""
        return "soft" if self.results[0].get("labels") else "hard"


def find_students(images: ImageManifest, folders: Iterable[str], digest: str) -> list[Students]:
    """Folders of students of images with this digest, taken at this size.

    Args: folders: to look in; none: those below the set's home.
    """
    home, named = images.home, list(dict.fromkeys(map(Path, folders)))
    places = named or list(student_folders(home))
    found: dict[str, Students] = {}
    for place in places:
        results = [result for result in read_results(place) if result.get("images") == digest
                   and result.get("images_config", {}).get("size", images.size) == images.size]
        if results:
            path = place.relative_to(home) if place.is_relative_to(home) else Path(place.name)
            students = Students(name=path.as_posix(), folder=place, results=results)
            number = itertools.count(2)
            while students.settings_file.casefold() in found:
                students = dataclasses.replace(students, name=f"{path.as_posix()}_{next(number)}")
            found[students.settings_file.casefold()] = students
        elif named:
            warn_once(f"--students {place}: no finished students of these images at {images.size} pixels")
    return list(found.values())


def controls(images: ImageManifest, ipc: int) -> list[Values]:
    """What `validate.evaluate` measured of so many images a class and of real ones, and how they differ."""
    wanted = {"protocol": str, "accuracies": list[Values], "differences": list[Values]}
    return [{"name": name, "ipc": measure["ipc"], "command": for_others(measure["command"], images.dataset),
             **{key: measure["values"][key] for key in wanted}}
            for name, measure in read_measures(images, "evaluation").items()
            if measure["ipc"] == ipc
            and not any(mismatch(measure["values"].get(key), kind) for key, kind in wanted.items())]


def for_others(command: str, dataset: str) -> str:
    """A command of `validate.evaluate` with RUN, DATA and TEACHERS for the author's folders.

    What the author's run said itself is there too: where its teachers and its real data are.
    """
    head, *given = _by_flag(shlex.split(command))
    flags = {flag: values for flag, *values in _placed(given)}
    real = () if dataset == "digits" else ("--train-data-path", "--val-dir")
    for flag in ("--data", *real, *(() if "--weights" in flags else ("--weights-dir",))):
        flags.setdefault(flag, [PLACES[flag]])
    return shlex.join([*head, *(word for flag, values in flags.items() for word in (flag, *values))])


def _by_flag(words: list[str]) -> list[list[str]]:
    """What stands before the first flag, then every flag with its values."""
    groups: list[list[str]] = [[]]
    for word in words:
        nested = len(groups[-1]) == 1 and groups[-1][0].endswith("-flags")  # whose value is flags, as one
        if not nested and re.fullmatch(r"--[a-z][\w-]*", word):
            groups.append([])
        groups[-1].append(word)
    return groups


def _placed(given: list[list[str]]) -> Iterator[list[str]]:
    """Flags and their values with placeholders for paths, without what is of the author's machine."""
    for flag, *values in given:
        if flag.endswith("-flags"):
            inner = [word for own in _placed(_by_flag(shlex.split(values[0]))[1:]) for word in own]
            yield from [[flag, shlex.join(inner)]] if inner else []
        elif flag == "--weights":
            pairs = (pair.partition("=") for pair in values)
            yield [flag, *(f"{name}=TEACHERS/{Path(path).name}" for name, _, path in pairs)]
        elif flag == "--dataset" and values[0].startswith("folder:"):
            yield [flag, "folder:DATA"]
        elif flag not in OF_A_MACHINE:
            yield [flag, PLACES[flag]] if flag in PLACES else [flag, *values]


def rerun(images: ImageManifest, labels: LabelManifest | None, students: list[Students], *, ipc: int,
          holds: str) -> list[str]:
    """The commands that make it again, from PRISM's root.

    DATA is the real data, TEACHERS a folder of the teachers' weights, HERE this export, IMAGES the set.
    Args: holds: what of it this export is: a "run", a run "with labels", a folder of "images", or "".
    """
    ours = not images.foreign
    made = "HERE" if holds else "out/again" if ours else "IMAGES"
    data = "" if images.dataset == "digits" else " DATA"
    dataset = "folder:DATA" if images.dataset.startswith("folder:") else images.dataset
    train = f" --train-data-path{data}" if data else ""
    commands = [f"python -m recover.data_synthesis --config HERE/recover.json{train} --weights-dir TEACHERS "
                f"--ipc-end {ipc} --syn-data-path out --exp-name again"] if ours and not holds else []
    named = f" --dataset {dataset} --size {images.size}" if holds == "images" or made == "IMAGES" else ""
    held_out = f" --val-dir{data}" if data else ""
    again = f"HERE/fkd/{ipc}" if holds == "with labels" else "out/again_labels"
    if labels and holds != "with labels":
        commands.append(f"python -m relabel.generate_soft_label --config HERE/relabel.json --data {made}"
                        f"{named}{held_out} --weights-dir TEACHERS --fkd-path out/again_labels")
    for own in students:
        taught = labels and own.results[0].get("labels") == labels.digest
        fkd = "" if own.labels == "hard" else f" --fkd-path {again if taught else 'LABELS'}"
        commands.append(f"python -m validate.train_FKD --config HERE/{own.settings_file} --train-dir {made}"
                        f"{named}{fkd}{held_out} --weights-dir TEACHERS --output-dir "
                        f"out/again_{own.name_in_files} --seeds {' '.join(map(str, own.seeds))}")
    return commands
