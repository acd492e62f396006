"""The cells of a comparison: a method's images under a protocol at an IPC, planned as the tables' rows are.

A method is what makes images: METHODS with settings of recover, or a variant of one (variants.py).  Its
images are evaluated under its own protocol and under the common one, and random real images under both: a
difference to them is of one protocol.
"""
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from scripts.comparing.variants import Variant, makers
from scripts.reproducing.places import PlaceFlags
from scripts.reproducing.plans import Plan, plan_row
from scripts.reproducing.rows import Row
from utils.methods import METHODS, method_named
from utils.pieces import require

REFERENCE = "random"  # real images; every difference is taken to them
NONE: Mapping[str, Variant] = MappingProxyType({})
UNDER = ("common", "own", "hard")  # labels of the common protocol, of each method's own, and none
CONTROLS = (REFERENCE, "herding", "k-centre", "centre-margin")  # of real images alone, in every comparison


@dataclasses.dataclass(frozen=True, order=True)
class Cell:
    """One method's images under one protocol; each is the name of a method or a variant."""

    method: str
    protocol: str
    ipc: int

    def __str__(self) -> str:
        return f"{self.method} under {self.protocol}, IPC {self.ipc}"

    @property
    def reference(self) -> "Cell":
        """Random real images under the same protocol."""
        return dataclasses.replace(self, method=REFERENCE)

    def row(self, slices: int, variants: Mapping[str, Variant]) -> Row:
        """The cell as a row of a table.   Args: slices: IPC indices that recover optimises side by side."""
        made = makers([self.method, self.protocol], variants)
        images, students = made[self.method], made[self.protocol]
        return Row(key=f"compare/{self.method}-{self.protocol}-{self.ipc}", label=str(self),
                   protocol=students.method, ipc=self.ipc, compared=True,
                   recover={"protocol": images.method, "slices_per_batch": slices},
                   exact={**students.settings, "recover": images.settings.get("recover", {})})


def has_own(name: str, variants: Mapping[str, Variant] = NONE) -> bool:
    """Whether a method, or that of a variant, has a protocol of its own with soft labels."""
    found = METHODS[makers([name], variants)[name].method]
    return found.relabel is not None and found.validate is not None


def compared_methods(named: Sequence[str] = (), variants: Mapping[str, Variant] = NONE) -> list[str]:
    """The controls, then those named; or a file's variants and their methods; or all methods.

    Raises: ValueError on others.
    """
    require(not (named and variants) or set(named) & set(variants),
            f"{' '.join(named)}: no variant of --variants, and those not named do not run: name some of "
            f"{', '.join(variants)}, or nothing for all")
    named = named or [made for name, variant in variants.items() for made in (variant.method, name)]
    for name in named:
        if name in variants:
            continue
        found = method_named(name)
        require(found.recover is not None,
                f"{name} makes no images: {found.absent}; as a protocol it goes to --common")
        require(has_own(name) or name in CONTROLS, f"{name} has no soft labels: {found.absent}; the tables "
                f"of scripts/reproduce.sh show it")
    able = [name for name, method in METHODS.items() if method.recover is not None and has_own(name)]
    return list(dict.fromkeys([*CONTROLS, *(named or able)]))


def cells_of(methods: Sequence[str], *, common: str, ipcs: Sequence[int], under: Sequence[str] = UNDER,
             variants: Mapping[str, Variant] = NONE) -> list[Cell]:
    """Every cell once, as they run: a method under both protocols, then the reference under the method's.

    Args: under: of UNDER, which protocols are wanted.
    """
    pairs = [(name, protocol) for method in methods for name, protocol in (
        *([(method, common)] if "common" in under else ()),
        *(((method, method), (REFERENCE, method)) if "own" in under and has_own(method, variants) else ()))]
    return list(dict.fromkeys(Cell(name, protocol, ipc) for ipc in sorted(ipcs) for name, protocol in pairs
                              if name in methods))


def plan_cell(cell: Cell, places: PlaceFlags, *, draw: int, students: int, slices: int,
              variants: Mapping[str, Variant]) -> Plan:
    """A cell's plan in one draw, its indices side by side where the method allows that.

    Args:   students: of one image set; their seeds are those of no other draw;  slices: at most so many.
    Raises: ValueError where it cannot run.
    """
    def planned(side_by_side: int) -> Plan:
        return plan_row(cell.row(side_by_side, variants), dataset=places.dataset, origin="chain",
                        out=Path(places.out), places=places.places(draw), ipc=cell.ipc, draw=draw,
                        seeds=tuple(draw + 1000 * student for student in range(students)))
    try:
        return planned(math.gcd(slices, cell.ipc))
    except ValueError:
        return planned(1)  # averages over iterations, say, are one unit's
