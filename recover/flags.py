"""The options of recover that decide what its images are: teachers, objective, schedule, batches, starts."""
import dataclasses
from collections.abc import Callable

from models import registry
from recover import alignments, batchings, memory, selection, starts, units
from recover.blocks import BLOCKS, OneBlock
from recover.objective import Objective
from recover.perturbation import PERTURBATIONS, NoPerturbation
from recover.plans import UnitLaws
from recover.priors import PRIORS, Prior
from utils import schedule
from utils.augment import CROPS, Resized
from utils.data import DataFlags
from utils.flags import RECIPE, PrecisionFlags
from utils.pieces import choice, choices, option, piece_name, require
from utils.precision import LOSS_SCALE


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesisFlags(PrecisionFlags, memory.MemoryOptions, DataFlags):
    """What decides a run's images; the defaults are the ImageNet-1K recipe."""

    arch_name: str = option("resnet18", "logit teacher phi, and theta_1", source=RECIPE)
    pool: tuple[str, ...] = option(
        ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet"),
        "teacher pool; an --arch-name outside it takes its first place", source=RECIPE, commas=True)
    teachers: selection.Selection = choice(
        selection.SELECTIONS, "multi", "single: phi aligns; dual: one other; multi: PRISM",
        source="paper 3.1, 3.2")
    alignment: alignments.Alignment = choice(
        alignments.ALIGNMENTS, "bn", "what aligns images with a teacher", source="paper eq. 3")
    priors: tuple[Prior, ...] = choices(PRIORS, ("tv", "l2"), "priors on the images", source=RECIPE,
                                        neutral=("tv", "l2"))
    lr: float = option(0.05, "Adam's learning rate, cosine to 0", source="supplement table 1b, table 3e",
                       range="> 0")
    betas: tuple[float, float] = option((0.5, 0.9), "Adam's betas", source="supplement table 1b",
                                      range="in [0, 1)")
    iteration: int = option(
        4000, "iterations of IPC index 0; 0 with --iteration-step 0 keeps the initial images",
        source="supplement table 1b", range="in [0, 100000]")
    iteration_step: int = option(500, "fewer iterations per index; 0 is the fixed schedule", source=RECIPE,
                                 range="in [0, 100000]")
    iteration_period: int = option(8, "indices until the iterations start again", source=RECIPE, range="> 0")
    batching: batchings.CrossClass = choice(
        batchings.BATCHINGS, "cross-class", "which images are made together", source="paper 3.4",
        neutral="cross-class")
    batch_size: int = option(100, "classes per chunk, over which BN statistics are taken (images, where "
                             "--batching is not cross-class)", source="supplement tables 1b, 4",
                             range="in [1, 100000]")
    blocks: OneBlock = choice(BLOCKS, "one", "how iterations are cut: resolutions, blends with the start",
                              neutral="one")
    perturbation: NoPerturbation = choice(
        PERTURBATIONS, "none", "what is done to the networks before a unit, and undone after it",
        neutral="none")
    jitter: int = option(32, "largest circular shift [pixels]", source=RECIPE, range="in [0, 8192]")
    crop: Resized = choice(CROPS, "resized", "how a view is cut: a random box, resized, or the whole image, "
                           "shifted over the mean colour", source=RECIPE, neutral="resized")
    min_scale_crops: float = option(0.08, "least area fraction of a random crop", source="supplement table 2",
                                    range="in (0, 1]")
    min_scale_schedule: schedule.CropLaw = choice(
        schedule.CROP_LAWS, "none", "crop curriculum from 1 down", source="table 3b")
    init: starts.Start = choice(
        starts.STARTS, "real", "what images start from", source="paper 4.1")
    ipc_start: int = option(0, "first IPC index", source=RECIPE, identity=False, range="in [0, 9999]")
    ipc_end: int = option(10, "IPC index to stop before", source=RECIPE, identity=False,
                          range="in [1, 10000]")
    allow_short_classes: bool = option(False, "leave out classes with too few images instead of refusing")
    slices_per_batch: int = option(1, "IPC indices optimised side by side, statistics per index", range="> 0")
    verifier: bool = option(False, "log another network's accuracy on every finished unit", identity=False)
    verifier_arch: str = option("mobilenet_v2", "that network", source=RECIPE, identity=False)
    seed: int = option(0, "seed of everything", range="in (-inf, inf)")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.ipc_start < self.ipc_end,
                f"--ipc-end must be > --ipc-start >= 0, got {self.ipc_start} and {self.ipc_end}")
        indices = range(1) if self.batching.whole_set else range(self.ipc_start, self.ipc_end)
        worst = min(map(self.iterations_of, indices))
        require(worst > 0 or not self.optimises,
                f"--iteration {self.iteration} with --iteration-step {self.iteration_step} and "
                f"--iteration-period {self.iteration_period} gives some index {worst} iterations, "
                f"expected > 0; lower the step")
        require(len(self.betas) == 2, f"--betas takes two values in [0, 1), got {self.betas}")
        slices = self.slices_per_batch
        require(self.ipc_start % slices == 0 and self.ipc_end % slices == 0,
                f"--ipc-start {self.ipc_start} and --ipc-end {self.ipc_end} must be multiples of "
                f"--slices-per-batch {slices}")
        require(slices == 1 or not self.allow_short_classes,
                "--allow-short-classes needs --slices-per-batch 1: slices must have the same classes")
        self.perturbation.check(slices)
        self.batching.check(iteration=self.iteration, ipc_start=self.ipc_start, slices=slices,
                            short=self.allow_short_classes)
        self.blocks.check(self.size, worst)
        self.alignment.check(slices=slices, sizes=tuple(
            cut.size for cut in self.blocks.cut(self.iteration, self.size)))
        registry.check_pool(self.pool)
        registry.model_spec(self.arch_name)
        self.teachers.check(self.teacher_pool)
        self.check_memory(self.alignment, self.supervisors)

    @property
    def teacher_pool(self) -> selection.Pool:
        """The pool with --arch-name first; outside the pool it takes the first place."""
        return selection.Pool(registry.primary_first(self.pool, self.arch_name), self.stem,
                              self.alignment.can_align, self.pool)

    @property
    def optimises(self) -> bool:
        """Whether images are changed at all."""
        return bool(self.iteration or self.iteration_step and not self.batching.whole_set)

    @property
    def supervisors(self) -> tuple[str, ...]:
        """The networks that the run's draws can need."""
        return self.teachers.networks(self.teacher_pool) if self.optimises else ()

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that the images depend on."""
        return tuple(dict.fromkeys((*self.supervisors, *self.init.networks(self.teacher_pool))))

    @property
    def on_host(self) -> tuple[str, ...]:
        """The networks that --offload keeps on the host: those that nothing but the objective runs."""
        others = {*self.init.networks(self.teacher_pool), *[self.verifier_arch] * self.verifier}
        return tuple(name for name in self.supervisors if self.offload and name not in others)

    @property
    def whole_set(self) -> bool:
        """Whether an image depends on how many indices there are."""
        return self.init.whole_set or self.batching.whole_set

    def groups(self, num_classes: int, **available: Callable[[int], float]) -> units.Groups:
        """All groups of units."""
        return self.batching.groups(num_classes, ipc_start=self.ipc_start, ipc_end=self.ipc_end,
                                    chunk_size=self.batch_size, slices=self.slices_per_batch, **available)

    @property
    def laws(self) -> UnitLaws:
        """The laws of the units' plans."""
        return UnitLaws(
            seed=self.seed, iterations=self.iterations_of, lr=self.lr, size=self.size,
            min_scale=self.min_scale_crops, flip=self.flip, jitter=self.jitter, crops=self.min_scale_schedule,
            selection=self.teachers, pool=self.teacher_pool, batching=self.batching, blocks=self.blocks,
            ipc=self.ipc_end, crop=self.crop)

    def objective(self, inputs: units.Inputs, *, meter: memory.Meter | None = None) -> Objective:
        """The objective over a run's teachers.   Args: meter: who counts what they take."""
        networks = self.fit(self.alignment.prepare(inputs, self.supervisors), device=inputs.device,
                            size=inputs.size, host=self.on_host)
        return Objective(networks, weight=self.alignment.r_bn,
                         term=piece_name(alignments.ALIGNMENTS, self.alignment),
                         priors={piece_name(PRIORS, prior): prior for prior in self.priors},
                         keep_graphs=self.alignment.keeps_graphs,
                         loss_scale=LOSS_SCALE.get(self.precision, 1.0), meter=meter or memory.Meter())

    def iterations_of(self, ipc_id: int) -> int:
        """Iterations of one IPC index."""
        return schedule.num_iterations(ipc_id, iteration=self.iteration, iteration_step=self.iteration_step,
                                       iteration_period=self.iteration_period)
