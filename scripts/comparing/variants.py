"""Variants of methods, from a JSON file: one thing changed, and nothing else.

    {"half": {"method": "prism", "recover": {"iteration": 500}, "why": "half the iterations"}}

A variant's settings are in the data set's own units, as the flags of its stages are, above all that its
method, the recipe of the data set and `alike` say.  Its name stands for it in every table: as what makes
images, and as the labels and students of its own.
"""
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from utils.flags import to_words
from utils.methods import METHODS, STAGES, Settings, method_named
from utils.pieces import Values, require

KEYS = ("method", *STAGES, "why")
# What the comparison says itself, for all cells alike.
COMMON = {"protocol", "dataset", "ipc", "ipc_start", "ipc_end", "seed", "seeds", "device", "threads",
          "workers", "resident_gb", "save_every", "weights", "weights_dir", "train_data_path", "val_dir",
          "data", "train_dir", "fkd_path", "output_dir", "syn_data_path", "exp_name", "row", "overwrite",
          "dry_run"}
# Whom scripts.decide chooses in each draw: no variant's names.
BEST_DISTILLED, BEST_SELECTED = BEST = ("best-distilled", "best-selected")


def stage_flags(settings: Mapping[str, Settings]) -> list[str]:
    """Each stage with the flags that give its settings."""
    return [f"{stage} {' '.join(to_words(own))}" for stage, own in settings.items()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A method with settings of its own, stage -> option -> value; none is the method itself."""

    method: str
    settings: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    why: str = ""

    def in_words(self) -> str:
        """What it changes, as flags of its stages."""
        return f"{self.method} with {', '.join(stage_flags(self.settings))}" if self.settings else self.method

    def values(self) -> Values:
        """As its file has it."""
        return {"method": self.method, **{stage: dict(own) for stage, own in self.settings.items()},
                **({"why": self.why} if self.why else {})}


def read_variants(path: str) -> dict[str, Variant]:
    """The variants of a file, by name; none of no file.   Raises: ValueError on what is none of them."""
    if not path:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--variants {path}: {error}; expected JSON, name -> method and settings") from None
    require(isinstance(found, dict) and found, f"--variants {path}: expected an object, name -> {{method, "
            f"{', '.join(STAGES)}, why}}")
    return {name: _read(f"--variants {path}: {name}", name, values) for name, values in found.items()}


def _read(where: str, name: str, values: object) -> Variant:
    require(re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", name) and name not in (*METHODS, *BEST),
            f"{where}: expected a name of small letters, digits, . + -, which no method has")
    require(isinstance(values, dict) and "method" in values, f"{where}: expected an object with a method")
    assert isinstance(values, dict)
    unknown = [key for key in values if key not in KEYS]
    require(not unknown, f"{where}: got {', '.join(unknown)}, expected some of {', '.join(KEYS)}")
    require(method_named(str(values["method"])).recover is not None,
            f"{where}: {values['method']} makes no images")
    settings = {stage: values[stage] for stage in STAGES if values.get(stage)}
    require(all(isinstance(own, dict) for own in settings.values()),
            f"{where}: expected option -> value for each of {', '.join(STAGES)}")
    taken = [option for own in settings.values() for option in own if option in COMMON]
    require(not taken, f"{where}: got {', '.join(taken)}, which the comparison says itself, for all alike")
    return Variant(method=str(values["method"]), settings={stage: {
        option: tuple(value) if isinstance(value, list) else value for option, value in own.items()}
        for stage, own in settings.items()}, why=str(values.get("why", "")))


def makers(names: Iterable[str], variants: Mapping[str, Variant]) -> dict[str, Variant]:
    """What each name stands for: a variant of the file, or a method as it is."""
    return {name: variants.get(name) or Variant(method=name) for name in names}
