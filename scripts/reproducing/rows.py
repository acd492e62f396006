"""What a row of the paper's tables is, and which tables there are."""
import dataclasses

TABLES = {
    "1": "paper table 1", "2": "paper table 2", "start": "paper 4.4, the state before table 3a",
    "3a": "paper table 3a", "3b": "paper table 3b", "3c": "paper table 3c", "3d": "paper table 3d",
    "3e": "paper table 3e", "3f": "paper table 3f", "final": "paper 4.4 and table 1",
    "s3": "supplement table 3", "s4": "supplement table 4", "s5": "supplement table 5",
    "s6": "supplement table 6", "cross-arch": "ours, no figure in the paper",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table: how it is made and what the paper reports.

    key: "table/name", as typed on a command line.   label: the paper's words.
    paper, std: top-1 in percent, None = none given.   vram_gb: table 2's peak memory of recover.
    protocol: the stages' preset.   ipc: images per class.   inherits: the parent's key, "" = none.
    recover, relabel, validate: fields of the stage's config -> values, what the row says of itself.
    unknown: what the paper leaves open, and our reading, on the row where it enters; it holds for its heirs.
    needs: why the row cannot run.   cost: the work of one run, where it is out of proportion.
    compared: side by side with other methods, so that a recipe's `alike` holds for it.
    exact: stage -> settings in the data set's own units, above all others, which no recipe scales.
    """

    key: str
    label: str
    paper: float | None = None
    std: float | None = None
    vram_gb: float | None = None
    protocol: str = "prism"
    ipc: int = 10
    inherits: str = ""
    recover: dict = dataclasses.field(default_factory=dict)
    relabel: dict = dataclasses.field(default_factory=dict)
    validate: dict = dataclasses.field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    needs: str = ""
    cost: str = ""
    compared: bool = False
    exact: dict = dataclasses.field(default_factory=dict)

    @property
    def table(self) -> str:
        """The part of the key before the slash, one of TABLES."""
        return self.key.split("/")[0]

    @property
    def source(self) -> str:
        """Where the figure stands."""
        return TABLES[self.table]


THREE_SEEDS = (0, 1, 2)  # "mean and std over three seeds"; ours: three students, one set of images and labels
