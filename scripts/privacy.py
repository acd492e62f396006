"""Who was in the training data?  Membership inference on distilled sets, measured on handwritten digits.

    python -m scripts.privacy --worlds 16
    python -m scripts.privacy --worlds 16 --only-worlds 0 2 4    a share of them

A world draws half of the training images, and teachers, sets and students know that half alone; the attacks
on one world's students take the other worlds' as shadow models.  One line a world in <out>/worlds.jsonl;
finished worlds are skipped, and the table is made from the lines.
"""
import dataclasses
import json
from pathlib import Path

from scripts.auditing.summary import summary
from scripts.auditing.worlds import run_world
from scripts.demo import DemoConfig, check_settings
from utils.files import read_lines, write_bytes
from utils.flags import parse_config
from utils.pieces import Options, Values, identity, option, require
from utils.runtime import command_line, say


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyConfig(Options):
    """What `python -m scripts.privacy` takes; the budgets are the demo's."""

    out: str = option("out/privacy", "folder for everything that is written", identity=False)
    worlds: int = option(16, "independent halves of the training images, each with all that follows",
                         range="in [2, 1000]", identity=False)
    only_worlds: tuple[int, ...] = option((), "make only these, share the others among processes",
                                          range="in [0, 999]", identity=False)
    ipc: int = option(DemoConfig.ipc, "images per class; the smallest class has 65 in a half",
                      range="in [2, 65]")
    iterations: int = option(DemoConfig.iterations, "recover iterations of every image",
                             range="in [1, 100000]")
    teacher_epochs: int = option(DemoConfig.teacher_epochs, "epochs of each teacher", range="in [1, 100000]")
    epochs: int = option(DemoConfig.epochs, "epochs of each student", range="in [1, 100000]")
    threads: int = option(1, "CPU threads of a process", range="in [0, 1024]")

    @property
    def demo(self) -> DemoConfig:
        """The demo of the same budgets."""
        return DemoConfig(out=self.out, draws=1, ipc=self.ipc, iterations=self.iterations,
                          teacher_epochs=self.teacher_epochs, epochs=self.epochs)


def read_worlds(path: Path, settings: Values) -> dict[int, Values]:
    """The finished worlds, by number.   Raises: ValueError where they were made with other settings."""
    lines = {line["world"]: line for line in (read_lines(path) if path.is_file() else ())}
    for world, line in lines.items():
        require(line["settings"] == settings, f"{path}: world {world} was made with {line['settings']}, not "
                f"{settings}; choose another --out")
    return lines


def main(argv: list[str] | None = None) -> dict[int, Values]:
    """Runs the worlds that are not finished; writes the table of all that are, and returns their lines."""
    config = parse_config(PrivacyConfig, argv, description=__doc__)
    check_settings(config.demo)
    path, settings = Path(config.out) / "worlds.jsonl", identity(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    for world in config.only_worlds or range(config.worlds):
        if world not in read_worlds(path, settings):
            line = {"settings": settings, **run_world(world, config.demo, threads=config.threads)}
            with open(path, "ab", buffering=0) as file:  # one write: other processes append too
                file.write((json.dumps(line, separators=(",", ":")) + "\n").encode())
            say(f"world {world}: {line['seconds']} s")
    lines = read_worlds(path, settings)
    if len(lines) < 4:
        say(f"{path}: {len(lines)} worlds; the attacks need four or more")
        return lines
    text = summary(list(lines.values()))
    write_bytes(path.with_name("privacy.md"), f"{text}\n".encode())
    print(f"{text}\n\nWorlds   {path}\nTable    {path.with_name('privacy.md')}")
    return lines


if __name__ == "__main__":
    command_line(main)
