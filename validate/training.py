"""Training one student on planned or stored views of a distilled set.

M distilled images, B views in a batch, b in a micro-batch, C channels, H W pixels, K classes.
"""
import dataclasses
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from utils.distributed import leads, rank_and_world, sum_over_ranks
from utils.files import is_whole, save_weights, write_atomically, write_json
from utils.loading import Images
from utils.metrics import Batches, evaluate
from utils.pieces import Values
from utils.precision import lowered
from utils.records import Checksum
from utils.runtime import Log, finite_values, progress, say
from utils.unfinished import StopSignals, Unfinished
from utils.views import EpochViews
from validate import results
from validate.averages import NoAverage
from validate.losses import CE
from validate.soft_labels import Teach, Teaching


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a batch becomes a step.   mean, std: pixel statistics;  rate(epoch): learning rate."""

    loss: CE
    micro_batches: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    epochs: int
    rate: Callable[[int], float]
    precision: str = "fp32"


class Learner:
    """A student with its optimiser, the average of its weights, and the scale of its loss.

    The scale keeps float16 gradients from vanishing.  Every rank keeps the same average of the parameters, as
    each takes the same step; running statistics are a rank's own, in the student as in the average.
    """

    def __init__(self, student: nn.Module, optimizer: torch.optim.Optimizer, *, precision: str,
                 device: torch.device, average: NoAverage | None = None):
        """Args: precision: of PRECISIONS; all but fp16 leave the loss unscaled;  average: None: none."""
        self.student, self.optimizer = student, optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.average = average(student) if average else None

    @property
    def evaluated(self) -> nn.Module:
        """The network that is measured and saved: the average, or the student itself."""
        return self.student if self.average is None else self.average.module

    def step(self) -> None:
        """One step of the optimiser on the accumulated gradients, which it forgets.

        A step that the scaler skips, because a gradient overflowed, is none of the average's either.
        """
        scale = 0.0 if self.average is None else self.scaler.get_scale()  # under fp16 a host sync
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None and self.scaler.get_scale() >= scale:  # a skipped step lowers it
            self.average.update_parameters(self.student)

    def state(self) -> Values:
        """All that training changes."""
        averaged = {} if self.average is None else {"average": self.average.state_dict()}
        return {"student": self.student.state_dict(), "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(), **averaged}

    def load(self, state: Values) -> None:
        """Goes on from a `state`."""
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def micro_parts(num: int, micro_batches: int) -> list[slice]:
    """A batch cut into micro-batches of nearly equal size, none of a single image if it can be helped."""
    parts = max(1, min(micro_batches, num // 2))
    edges = [round(i * num / parts) for i in range(parts + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]


def train_batch(learner: Learner, views: torch.Tensor, soft_labels: torch.Tensor | None,
                targets: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Accumulates the gradient of one batch over its micro-batches, of which each rank takes its share.

    BatchNorm sees one micro-batch at a time, on one process or on several; the gradient is that of the
    batch's mean loss either way.   Source: published recipe (two micro-batches of 25).
    Args:    views: (B, C, H, W);  soft_labels: (B, K) or None;  targets: (B,).
    Returns: () detached mean loss of the batch.
    """
    (rank, world), total = rank_and_world(), views.new_zeros(())
    for part in micro_parts(len(views), recipe.micro_batches)[rank::world]:
        with lowered(recipe.precision, views.device):
            logits = learner.student(views[part])
        loss = recipe.loss(logits.float(), None if soft_labels is None else soft_labels[part], targets[part])
        loss = loss * (len(logits) / len(views))
        learner.scaler.scale(loss).backward()
        total += loss.detach()
    if dist.is_initialized():
        sum_over_ranks(learner.student)
        dist.all_reduce(total)
    return total


def train_epoch(learner: Learner, images: Images, targets: torch.Tensor, drawn: EpochViews, teach: Teach,
                recipe: Recipe, *, losses: list[torch.Tensor],
                after_batch: Callable[[], None] = lambda: None) -> torch.Tensor:
    """One epoch over drawn or stored views.

    Args:    images: M, and targets: (M,), where the student is;  drawn, teach: of `Teaching.epoch`;
             losses: of the batches that are trained already, others are added;  after_batch(): after each.
    Returns: () mean loss over the epoch's batches.
    """
    learner.student.train()
    drawn, first = drawn.to(images.device), len(losses)
    index, lengths = drawn.index.long(), drawn.lengths()
    chosen = images.batches(index[sum(lengths[:first]):], lengths[first:])
    for batch, pixels in zip(range(first, len(drawn)), chosen, strict=False):
        views = drawn.render(pixels, batch, mean=recipe.mean, std=recipe.std)
        losses.append(train_batch(learner, views, teach(batch, views), targets[index[drawn.rows(batch)]],
                                  recipe))
        learner.step()
        after_batch()
    return torch.stack(losses).mean()


class Journal:
    """A student's log, evaluations and saved weights, below one folder.  Rank 0 alone keeps one."""

    def __init__(self, folder: Path, batches: Batches, *, seed: int, eval_every: int, recipe: Recipe,
                 about: Values, eval_from: float = 0.0):
        """Args: batches: of real images;  eval_every, eval_from, about: of `Study`."""
        self._folder, self._batches, self._seed, self._recipe = folder, batches, seed, recipe
        self._every, self._from = eval_every, eval_from
        self._about, self._started = about, time.perf_counter()
        self._first, self._earlier = 0, 0.0
        self._last: Values = {}
        self._best: Values = {"top1": -1.0}
        self._saved_best: Checksum | None = None
        self._bar = progress(total=recipe.epochs, text=f"student, seed {seed}")

    def begin(self, epoch: int, state: Values | None, *, batches: int = 0) -> None:
        """Goes on from `state`, if there is one, at an epoch: the log keeps the rows before it.

        Args: batches: of that epoch that are trained already.
        """
        path = self._folder / "log.jsonl"
        rows = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        write_atomically(path, lambda file: file.write("".join(f"{row}\n" for row in rows[:epoch]).encode()))
        self._log, self._first = Log(path), epoch
        if state:
            self._last, self._best, self._earlier = state["last"], state["best"], state["seconds"]
            self._saved_best = state["saved_best"]
            if self._saved_best and not is_whole(self._folder / "student_best.pt", self._saved_best):
                self._best, self._saved_best = {"top1": -1.0}, None  # a later one lies there, or none
            say(f"student, seed {self._seed}: goes on from its save, {epoch} of {self._recipe.epochs} epochs "
                f"and {batches} batches are done")
        self._bar.update(epoch)

    def _seconds(self) -> float:
        """Seconds spent on this student, those of interrupted runs included."""
        return self._earlier + time.perf_counter() - self._started

    def state(self) -> Values:
        """What `begin` goes on from."""
        return {"last": self._last, "best": self._best, "saved_best": self._saved_best,
                "seconds": self._seconds()}

    def after_epoch(self, student: nn.Module, epoch: int, loss: torch.Tensor, lr: float) -> None:
        """Logs one epoch; evaluates every so many and at the last, and keeps the best student.

        Args: student: `Learner.evaluated`;  loss: mean of the epoch;  lr: its learning rate.
        """
        row = {"epoch": epoch, "lr": lr,
               **finite_values({"loss": loss}, where=f"epoch {epoch} of seed {self._seed}")}
        epochs = self._recipe.epochs
        if epoch == epochs - 1 or epoch % self._every == 0 and epoch / epochs >= self._from:
            seen = evaluate(student, self._batches, mean=self._recipe.mean, std=self._recipe.std,
                            device=loss.device)
            self._last = {"epoch": epoch, **seen}
            row |= {name: seen[name] for name in ("top1", "top5")}
            say(f"student, seed {self._seed}: {seen['top1']:.1%} of {seen['images']} test images right after "
                f"{epoch + 1} of {epochs} epochs")
            if seen["top1"] > self._best["top1"]:
                self._best = self._last
                self._saved_best = save_weights(self._folder / "student_best.pt", student)
        spent = time.perf_counter() - self._started
        self._log.write(**row, seconds_per_epoch=spent / (epoch + 1 - self._first))
        self._bar.update()

    def finish(self, student: nn.Module, device: torch.device) -> None:
        """Saves the last student, the record with its times, then the result: this seed is finished."""
        self._bar.close()
        last, cuda = save_weights(self._folder / "student_last.pt", student), device.type == "cuda"
        self._log.close()
        result = {"seed": self._seed, "last": self._last, "best": self._best, "device": device.type,
                  **self._about, "files": {"student_last.pt": last, "student_best.pt": self._saved_best}}
        results.record(self._folder.parent, {
            **result, "wall_s": round(self._seconds(), 3), "world": rank_and_world()[1],
            "device_name": torch.cuda.get_device_name(device) if cuda else platform.machine(),
            "peak_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9 if cuda else None})
        write_json(self._folder / "result.json", result)


def discard_saves(out: Path, finished: list[int]) -> None:
    """Removes the saved work of finished seeds: a kill may have come between a result and its end."""
    for seed in finished:
        (out / f"seed{seed}" / "unfinished.pt").unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What all students of a run share.

    images: M distilled images;  targets: (M,);  batches: of real images, to evaluate on;
    eval_every: epochs;  eval_from: share of the epochs before which nothing is evaluated but the last;
    save_every: minutes;  about: what results say beside accuracies.
    """

    out: Path
    images: Images
    targets: torch.Tensor
    batches: Batches
    recipe: Recipe
    eval_every: int
    save_every: float
    about: Values
    stop: StopSignals
    eval_from: float = 0.0

    def train(self, seed: int, learner: Learner, teaching: Teaching) -> None:
        """One student, from the start or from its last save."""
        folder, targets = self.out / f"seed{seed}", self.targets.to(self.images.device)
        journal = Journal(folder, self.batches, seed=seed, recipe=self.recipe, eval_every=self.eval_every,
                          eval_from=self.eval_from, about=self.about) if leads() else None
        unfinished = Unfinished(folder / "unfinished.pt", minutes=self.save_every, stop=self.stop)
        train_student(learner, journal, unfinished, images=self.images, targets=targets, teaching=teaching,
                      recipe=self.recipe)


def train_student(learner: Learner, journal: Journal | None, unfinished: Unfinished, *, images: Images,
                  targets: torch.Tensor, teaching: Teaching, recipe: Recipe) -> None:
    """All epochs of one student; the learning rate changes once an epoch.

    Args: journal: None on ranks other than 0;  unfinished: where it goes on from;
          images, targets: as in `train_epoch`.
    """
    saved = unfinished.load() or {"epoch": 0, "losses": [], "journal": None}
    if "learner" in saved:
        learner.load(saved["learner"])
    if journal:
        journal.begin(saved["epoch"], saved["journal"], batches=len(saved["losses"]))
    losses = [loss.to(images.device) for loss in saved["losses"]]

    def after_batch() -> None:
        if journal and unfinished.due():
            unfinished.save({"epoch": epoch, "losses": losses, "journal": journal.state(),
                             "learner": learner.state()})

    for epoch in range(saved["epoch"], recipe.epochs):
        for group in learner.optimizer.param_groups:
            group["lr"] = recipe.rate(epoch)
        taught = dataclasses.replace(recipe, loss=teaching.loss(epoch, recipe.loss))
        loss = train_epoch(learner, images, targets, *teaching.epoch(epoch), taught, losses=losses,
                           after_batch=after_batch)
        losses = []
        if journal:
            journal.after_epoch(learner.evaluated, epoch, loss, recipe.rate(epoch))
    if journal:
        journal.finish(learner.evaluated, images.device)
        unfinished.discard()
