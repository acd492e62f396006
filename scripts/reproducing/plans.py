"""From a row of the matrix to commands: its settings, the folders that rows with equal work share, its state.

    <out>/<data set>/images_<digest>/              a run of recover, of every IPC that has its images
        labels_<digest>/<ipc>/                     labels of it
        students_<digest>/seed0/result.json        students on them
Digests are of the settings: rows that differ only in validation share images and labels, and a value that the
protocol takes by itself is the same setting whether a row says it or not.
"""
import dataclasses
import functools
from collections.abc import Collection
from pathlib import Path

from recover import data_synthesis
from recover.batchings import CrossClass
from relabel import generate_soft_label
from scripts.reproducing.matrix import ROWS
from scripts.reproducing.rows import TABLES, Row
from scripts.reproducing.small_recipes import Recipe, data_of, folder_of, recipe_of
from utils.data import count_classes
from utils.files import sha256_json
from utils.flags import build_config, flags_of
from utils.label_files import has_labels, label_path
from utils.methods import METHODS, Case, Settings, method_named, protocol_settings
from utils.pieces import build, flatten, identity, merge
from utils.unit_files import has_unit, unit_path
from validate import plans, train_FKD
from validate.results import is_finished

BY_KEY = {row.key: row for row in ROWS}
CHAIN_TABLES = ("3a", "3b", "3c", "3d", "3e", "3f", "final", "s3", "s4")
CONFIGS = {"recover": (data_synthesis.RecoverConfig, data_synthesis.presets),
           "relabel": (generate_soft_label.RelabelConfig, generate_soft_label.presets),
           "validate": (train_FKD.ValidateConfig, train_FKD.presets)}
STAGES = tuple(CONFIGS)
# Defaults that a recipe scales too, where nobody says them.
SCALED = {"recover": ("iteration", "iteration_step", "batch_size", "arch_name", "pool"),
          "relabel": ("epochs", "arch_name", "pool"), "validate": ("model",)}


def select_rows(words: list[str]) -> list[Row]:
    """The rows that TABLE [ROW ...] names: a whole table (3 is 3a to 3f), or some of its rows; none is all.

    Raises: ValueError listing what there is.
    """
    if not words:
        return list(ROWS)
    table, names = words[0], words[1:]
    rows = [row for row in ROWS if row.table == table or (table == "3" and row.table[0] == "3")]
    if not rows:
        raise ValueError(f"no table {table!r}; expected one of {', '.join(TABLES)}")
    known = dict.fromkeys(row.key.split("/")[1] for row in rows)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no row {unknown[0]!r} in table {table}; expected some of {', '.join(known)}")
    return [row for name in names for row in rows if row.key.split("/")[1] == name] if names else rows


def lineage(row: Row) -> list[Row]:
    """A row and its ancestors, the oldest first."""
    return ([] if not row.inherits else lineage(BY_KEY[row.inherits])) + [row]


def row_settings(row: Row, *, origin: str) -> dict[str, dict]:
    """Stage -> what the row says of it, "protocol" included.

    Args: origin: `chain`, the state that the row inherits; `final`, the published recipe with only what the
          row's own table varies (tables 3a to 3f and the supplement's; elsewhere the same).
    """
    members = lineage(row)
    if origin == "final" and row.table in CHAIN_TABLES:
        members = [member for member in members if member.table == row.table]
    settings = {stage: {"protocol": row.protocol} for stage in STAGES}
    for member in members:
        for stage in STAGES:
            settings[stage] = merge(CONFIGS[stage][0], settings[stage], getattr(member, stage))
    return settings


def method_settings(stage: str, name: str, case: Case) -> Settings:
    """All settings of a method: what it leaves out is PRISM's, the stage's defaults."""
    return merge(CONFIGS[stage][0], METHODS["prism"].settings(stage, case),
                 method_named(name).settings(stage, case))


def protocols_of(row: Row) -> str:
    """Under which protocol a row is made: its students', and its images' where that is another."""
    made = row_settings(row, origin="chain")["recover"]["protocol"]
    return row.protocol if made == row.protocol else f"{row.protocol} on {made}"


def fit(stage: str, values: dict, recipe: Recipe, own: Collection[str] = ()) -> dict:
    """Settings in ImageNet-1K's units, scaled by a recipe.

    Args:   own: those that are in the data set's units already.
    Raises: ValueError for a network that the recipe lacks.
    """
    def network(name):
        if not recipe.networks.get(name, name):
            raise ValueError(f"needs {name}, which has no counterpart on this data set")
        return recipe.networks.get(name, name)
    factors = {"iteration": recipe.iterations, "iteration_step": recipe.iterations, "epochs": recipe.epochs,
               "label_epochs": recipe.epochs}
    if stage == "recover":
        crossing = values.get("batching", "cross-class") == "cross-class"
        factors["batch_size"] = recipe.chunk if crossing else 1.0  # of classes, not of images
    fitted = dict(values)
    for name, value in values.items():
        if name in ("arch_name", "model"):
            fitted[name] = network(value)
        elif name == "pool":
            fitted[name] = tuple(dict.fromkeys(map(network, value)))
        elif name in factors and value and name not in own:
            fitted[name] = max(1, round(value * factors[name]))
    return fitted


def stage_values(stage: str, settings: dict, recipe: Recipe, case: Case, *, compared: bool) -> dict:
    """All values that a stage is given: the recipe's, below the protocol's and the row's, scaled.

    What a protocol has for this very data set is not: SRe2L's 1000 iterations are those of CIFAR.
    Args: compared: a method says all its settings, PRISM the stage's defaults too, and `alike` holds.
    """
    config, name = CONFIGS[stage][0], settings["protocol"]
    defaults = {f.name: f.default for f in dataclasses.fields(config) if f.name in SCALED[stage]}
    states = functools.partial(method_settings if compared else protocol_settings, stage, name)
    here, large = states(case), states(dataclasses.replace(case, dataset=Case.dataset))
    own = {key for key in here if key not in settings and here[key] != large.get(key)}
    said = fit(stage, defaults | merge(config, here, settings), recipe, own)
    for option, become in recipe.alike.items() if compared else ():
        if option in said:
            said[option] = become(said[option])
    return merge(config, getattr(recipe, stage), said)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One row on one data set: the config of each stage (relabel's None for hard labels), and its places.

    other: in what this is not the paper's own row: another IPC, or another origin.
    """

    row: Row
    ipc: int
    recover: data_synthesis.RecoverConfig
    relabel: generate_soft_label.RelabelConfig | None
    validate: train_FKD.ValidateConfig
    num_classes: int
    other: str = ""

    @property
    def run(self) -> Path:
        """The run of recover."""
        return self.recover.run

    @property
    def labels(self) -> Path | None:
        """The folder of labels."""
        return self.relabel and Path(self.relabel.fkd_path) / str(self.ipc)

    @property
    def students(self) -> Path:
        """The folder of students."""
        return Path(self.validate.output_dir)

    def state(self) -> tuple[int, int, int]:
        """Finished units of recover, epochs of labels, students."""
        return (sum(has_unit(unit_path(self.run, *unit)) for unit in self.units()),
                sum(has_labels(label_path(self.labels, epoch)) for epoch in range(self.num_label_files())),
                sum(is_finished(self.students / f"seed{seed}") for seed in self.validate.seeds))

    def units(self) -> list[tuple[int, int]]:
        """All units of recover, (IPC index, chunk)."""
        made = self.recover
        return _units(made.batching, self.num_classes, ipc_start=made.ipc_start, ipc_end=made.ipc_end,
                      chunk_size=made.batch_size, slices=made.slices_per_batch)

    def num_label_files(self) -> int:
        """Epochs of labels that are stored."""
        return self.relabel.num_files if self.relabel else 0


@functools.cache
def _units(batching: CrossClass, num_classes: int, **which: int) -> list[tuple[int, int]]:
    groups = batching.groups(num_classes, **which)  # once for all rows: 13,000 units at IPC 1300
    return [(unit.ipc_id, unit.chunk) for group in groups for unit in group]


def describe_state(plan: Plan) -> str:
    """done, partial (what there is), or missing."""
    done, total = plan.state(), (len(plan.units()), plan.num_label_files(), len(plan.validate.seeds))
    if done[2] == total[2]:
        return "done"
    if not any(done):
        return "missing"
    return "partial: " + ", ".join(f"{a} of {b} {what}" for a, b, what in zip(
        done, total, ("units", "label epochs", "students"), strict=True) if b)


def plan_row(row: Row, *, dataset: str, origin: str, out: Path, places: dict[str, dict], ipc: int = 0,
             draw: int = 0, seeds: tuple = ()) -> Plan:
    """The configs of a row's three stages.

    Args:   dataset: of RECIPES, or folder:PATH;  origin: as `row_settings`;  places: stage -> fields that
            name places or devices;  ipc: instead of the row's;  draw: seed of images and labels;
            seeds: of students.
    Raises: ValueError for a row that cannot run here, saying what it needs.
    """
    if row.needs:
        raise ValueError(f"needs {row.needs}")
    recipe, settings = recipe_of(dataset), row_settings(row, origin=origin)
    ipc, base, data = ipc or recipe.ipc.get(row.ipc, row.ipc), out / folder_of(dataset), data_of(dataset)
    soft = method_named(settings["validate"]["protocol"]).relabel is not None
    student = settings["validate"].get("model", "resnet18")
    values = {stage: merge(CONFIGS[stage][0], stage_values(stage, settings[stage], recipe, Case(
        data, ipc, student if stage == "validate" else ""), compared=row.compared) | places[stage],
                           row.exact.get(stage, {})) for stage in STAGES if soft or stage != "relabel"}
    if not values["recover"]["iteration"] and values["recover"].get("init") == "noise":
        values["recover"]["init"] = "real"  # a recipe's noise, where a row keeps the images it starts from
    recover = _build("recover", values["recover"], dataset=data, seed=draw, ipc_end=ipc,
                     syn_data_path=str(base))
    own = sha256_json([_digest(recover), ipc])[:8] if recover.whole_set else _digest(recover)
    run = base / f"images_{own}"
    recover = dataclasses.replace(recover, exp_name=run.name)
    relabel, labels = None, {}
    if soft:
        relabel = _unsaid(_build("relabel", values["relabel"], dataset=data, data=str(run), ipc=ipc,
                                 seed=draw), count_classes(data))
        relabel = dataclasses.replace(relabel, fkd_path=str(run / f"labels_{_digest(relabel)}"))
        labels = {"fkd_path": f"{relabel.fkd_path}/{ipc}"}
    validate = _build("validate", values["validate"] | ({"seeds": seeds} if seeds else {}) | labels,
                      dataset=data, train_dir=str(run), ipc=ipc, row=row.key)
    plan = Plan(row=row, ipc=ipc, recover=recover, relabel=relabel, num_classes=count_classes(data),
                validate=_with_folder(validate, run, ipc, relabel))
    chain = plan if origin == "chain" else plan_row(row, dataset=dataset, origin="chain", out=out,
                                                    places=places, ipc=ipc, draw=draw, seeds=seeds)
    other = "another IPC" if ipc != row.ipc else "another origin" if chain.students != plan.students else ""
    return dataclasses.replace(plan, other=other)


def batch_of(plan: Plan) -> int:
    """Images in a batch of a plan's students."""
    config, soft = plan.validate, plan.relabel
    return config.batch_size or soft and soft.batch_size or plans.method_batch(
        config, plan.ipc, plan.num_classes)


def with_hard_labels(plan: Plan) -> Plan:
    """The same student on the same images, schedule and crops, with hard labels: no mixing, no augment.

    Raises: ValueError where its settings do not go with hard labels.
    """
    soft, config = plan.relabel, plan.validate
    if soft is None:
        return plan
    views = flatten(soft)
    values = merge(type(config), flatten(config), {
        "loss_type": "ce", "fkd_path": "", "epochs": soft.epochs, "batch_size": batch_of(plan),
        "steps_per_epoch": soft.steps_per_epoch, "min_scale_crops": soft.min_scale_crops,
        "crop": views["crop"], "crop_padding": views.get("crop_padding")})
    hard = build(type(config), values)
    return dataclasses.replace(plan, relabel=None, validate=_with_folder(hard, plan.run, plan.ipc, None))


def _with_folder(validate, run: Path, ipc: int, relabel):
    name = sha256_json([_digest(validate), ipc, relabel and _digest(relabel)])[:8]
    return dataclasses.replace(validate, output_dir=str(run / f"students_{name}"))


def _build(stage: str, values: dict, **own):
    config, presets = CONFIGS[stage]
    return build_config(config, values | own, presets=presets)


def _digest(config) -> str:
    """Eight hexadecimal digits of what a config changes in what is written, whatever its IPC."""
    return sha256_json({name: value for name, value in identity(config).items() if name != "ipc"})[:8]


def _unsaid(relabel, num_classes: int):
    """Without the batch that the protocol takes by itself: rows that say it and rows that do not are one."""
    own = relabel.method.label_batch(relabel.ipc, num_classes)
    preset = "batch_size" in protocol_settings("relabel", relabel.protocol, Case(
        relabel.dataset, relabel.ipc))
    return relabel if preset or relabel.batch_size != own else dataclasses.replace(relabel, batch_size=None)


def words_of(stage: str, config) -> list[str]:
    """The flags with which a stage's command makes this config."""
    return flags_of(config, presets=CONFIGS[stage][1])
