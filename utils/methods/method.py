"""What a method is: where it comes from, and its settings of every stage."""
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Settings = Mapping[str, Any]
STAGES = ("recover", "relabel", "validate")


def published_batch(ipc: int, num_classes: int) -> int:
    """Views a batch: 50 up to IPC 10, else 100.   Source: supplement table 1a."""
    return 50 if ipc <= 10 else 100


@dataclasses.dataclass(frozen=True)
class Case:
    """What a run is of, as far as a method's settings depend on it.   student: empty where there is none."""

    dataset: str = "imagenet-1k"
    ipc: int = 10
    student: str = ""


USUAL = Case()


def same_everywhere(stage: str, case: Case) -> Settings:
    """No settings that depend on the case."""
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One system, or one way to evaluate images.

    name: as people write it.   source: its paper.   code: its public repository and commit.
    recover, relabel, validate: flat settings of the stages' configs; what they leave out is as the stages'
    defaults, which are PRISM's.  None: the method has no such stage, `absent` says why.
    datasets: data set -> stage -> settings of its own, above the former; others are as ImageNet-1K.
    students: student -> stage -> settings that are its own; validate's come with --model by themselves.
    vary: (stage, case) -> settings, above all others, that depend on data set, IPC and student together.
    label_batch: (IPC, classes) -> views a batch, for the student too.
    student_batch: (IPC, classes, student) -> views a batch where labels are online; None: the labels' batch.
    reading: what its source does not say, as we read it, told with every result; empty: its file lists it.
    """

    name: str
    source: str
    code: str
    recover: Settings | None
    relabel: Settings | None
    validate: Settings | None
    absent: str = ""
    datasets: Mapping[str, Mapping[str, Settings]] = dataclasses.field(default_factory=dict)
    students: Mapping[str, Mapping[str, Settings]] = dataclasses.field(default_factory=dict)
    vary: Callable[[str, Case], Settings] = same_everywhere
    label_batch: Callable[[int, int], int] = published_batch
    student_batch: Callable[[int, int, str], int] | None = None
    reading: str = ""

    @property
    def depends_on_ipc(self) -> bool:
        """Whether some settings may go with the IPC."""
        return self.vary is not same_everywhere

    def label_epochs(self, case: Case) -> int:
        """Epochs of students with soft labels.   Source: supplement table 1a, where the method is silent."""
        return int(300 if self.relabel is None else self.settings("relabel", case).get("epochs", 300))

    def settings(self, stage: str, case: Case = USUAL) -> Settings:
        """The settings of a stage.   Raises: ValueError where the method has no such stage."""
        found: Settings | None = getattr(self, stage)
        if found is None:
            raise ValueError(f"--protocol {self.name}: {self.absent}")
        return {**found, **self.datasets.get(case.dataset, {}).get(stage, {}),
                **self.students.get(case.student, {}).get(stage, {}), **self.vary(stage, case)}
