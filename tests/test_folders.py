"""Folders belong to one configuration: claims, what --overwrite deletes, locks."""
import dataclasses
import os
from pathlib import Path

import pytest

from utils import folders
from utils.files import write_json
from utils.folders import Kind
from utils.pieces import Options, build, choice, identity, option
from utils.records import read_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain(Options):
    """Without options."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strong(Plain):
    """With a strength."""

    strength: float = option(2.0, "how strong", short=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """A config as a stage has one."""

    seed: int = option(0, "seed")
    size: int = option(8, "size")
    where: str = option("", "a place", identity=False)
    soft: bool = option(False, "joined later; as before without it", neutral=False)
    kind: Plain = choice({"plain": Plain, "strong": Strong}, "plain", "a piece")


RUNS = Kind("kind", ("*", "units/*"), r"units/u\d+\.json|manifest\.json", r"log(_\d)?\.jsonl|\d+\.bin")


def claim(folder, *, kind=RUNS, overwrite=False, dry_run=False, **identity):
    """Claims a folder and lets go of it again; whether another configuration's files went."""
    with folders.claim(folder, kind, identity={"config": {}, **identity}, settings=Settings,
                       overwrite=overwrite, dry_run=dry_run) as stale:
        return stale


def names_in(folder) -> list[str]:
    """All files below a folder but locks."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")
                  if path.is_file() and path.suffix != ".lock")


def write(folder, *names) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_a_folder_of_the_same_identity_is_joined(tmp_path):
    for _ in range(2):
        claim(tmp_path / "run", lr=0.1, betas=(0.5, 0.9), config={"seed": 0})
    written = read_json(tmp_path / "run" / "config.json")
    assert written == {"format": "kind", "version": 1, "lr": 0.1, "betas": [0.5, 0.9], "config": {"seed": 0}}
    assert names_in(tmp_path) == ["run/config.json"]


def test_another_identity_is_refused_with_the_difference(tmp_path):
    claim(tmp_path, lr=0.1, config={"seed": 0, "size": 8})
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="config.seed is 0 there and 1 here") as error:
        claim(tmp_path, lr=0.1, config={"seed": 1, "size": 8})
    assert "lr" not in str(error.value) and "size" not in str(error.value)
    with pytest.raises(ValueError, match="lr is 0.1 there and null here.*rate is null there and 3 here"):
        claim(tmp_path, rate=3, config={"seed": 0, "size": 8})
    assert read_json(tmp_path / "config.json")["lr"] == 0.1
    assert names_in(tmp_path) == ["config.json", "mine.txt"]


def test_overwrite_deletes_its_own_names_alone(tmp_path):
    claim(tmp_path, lr=0.1)
    ours = ("units/u1.json", "units/u2.json", "log.jsonl", "log_0.jsonl", "manifest.json", "1.bin")
    others = ("units/mine.json", "notes", "fkd/log.jsonl", "log.jsonl.bak", "manifest.json.old",
              ".mynotes.tmp")
    write(tmp_path, *ours, *others)
    os.utime(tmp_path / ".mynotes.tmp", (0, 0))
    (tmp_path / "2.bin").symlink_to(tmp_path / "notes")
    assert claim(tmp_path, lr=0.2, overwrite=True)
    assert names_in(tmp_path) == sorted(["config.json", *others])
    assert read_json(tmp_path / "config.json")["lr"] == 0.2


def test_overwrite_keeps_the_work_of_the_same_configuration(tmp_path):
    claim(tmp_path, lr=0.1)
    write(tmp_path, "units/u1.json", "1.bin")
    assert not claim(tmp_path, lr=0.1, overwrite=True)
    assert names_in(tmp_path) == ["1.bin", "config.json", "units/u1.json"]


def test_overwrite_spares_another_kind_of_folder_and_files_of_nobody(tmp_path):
    claim(tmp_path / "run", lr=0.1)
    write(tmp_path / "run", "1.bin")
    with pytest.raises(ValueError, match="is a folder of kind, this makes other"):
        claim(tmp_path / "run", lr=0.2, overwrite=True, kind=dataclasses.replace(RUNS, format="other"))
    assert names_in(tmp_path) == ["run/1.bin", "run/config.json"]
    write(tmp_path / "mine", "log.jsonl")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="log.jsonl but no config.json"):
            claim(tmp_path / "mine", lr=0.1, overwrite=overwrite)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["log.jsonl"]  # not even a lock


def test_records_go_before_what_they_promise_and_the_claim_last(tmp_path, monkeypatch):
    """Wherever it stops, the old command finds work to do, and the new one either that or its own folder."""
    steps = []
    for stop in range(7):
        run = tmp_path / str(stop)
        claim(run, lr=0.1)
        write(run, "units/u1.json", "units/u2.json", "1.bin", "2.bin", "log.jsonl")
        with monkeypatch.context() as patched:
            killer = Killer(stop)
            patched.setattr(Path, "unlink", killer.before(Path.unlink))
            patched.setattr(os, "replace", killer.before(os.replace))
            try:
                claim(run, lr=0.2, overwrite=True)
            except KeyboardInterrupt:
                pass
        left = names_in(run)
        owner = read_json(run / "config.json")["lr"]
        steps.append((owner, [name for name in left if name.startswith("units/")], "1.bin" in left))
        assert owner == 0.1 or left == ["config.json"]
        assert owner == 0.2 or "units/u1.json" not in left or "1.bin" in left
        assert claim(run, lr=0.1, overwrite=True) == (owner == 0.2)  # either command goes on
    assert steps[0] == (0.1, ["units/u1.json", "units/u2.json"], True) and steps[-1] == (0.2, [], False)


class Killer:
    """Stops before the n-th call of what it wraps."""

    def __init__(self, calls: int):
        self.left = calls

    def before(self, function):
        def wrapped(*args, **kwargs):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return function(*args, **kwargs)
        return wrapped


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"format": NaN}',
                                    '{"format": "kind", "version": 99}'])
def test_a_damaged_config_has_a_way_out_that_works(damage, tmp_path):
    claim(tmp_path, lr=0.1)
    write(tmp_path, "units/u1.json", "mine.txt")
    (tmp_path / "config.json").write_text(damage)
    with pytest.raises(ValueError, match="config.json: .*--overwrite"):
        claim(tmp_path, lr=0.1)
    assert claim(tmp_path, lr=0.1, overwrite=True)
    assert names_in(tmp_path) == ["config.json", "mine.txt"] and not claim(tmp_path, lr=0.1)


def test_nobody_overwrites_a_folder_where_another_works(tmp_path):
    with folders.claim(tmp_path, RUNS, identity={"config": {}, "lr": 0.1}, settings=Settings,
                       overwrite=False):
        write(tmp_path, "units/u1.json")
        assert not claim(tmp_path, lr=0.1)  # another process of the same configuration joins
        with pytest.raises(ValueError, match="another process works there.*stop it first"):
            claim(tmp_path, lr=0.2, overwrite=True)
        assert "units/u1.json" in names_in(tmp_path)
    assert claim(tmp_path, lr=0.2, overwrite=True)


def test_teachers_are_ours_by_their_log(tmp_path):
    write(tmp_path, "a.pt", "a.json", "a.unfinished.pt", "mine.pt", "mine.json", "b.pt")
    (tmp_path / "log.jsonl").write_text('{"teacher": "a", "epoch": 0}\n{"teacher": "b"}\n{"teach')
    own = folders.TEACHERS.own(tmp_path)
    assert [path.name for path in own.records] == ["a.json"]
    assert [path.name for path in own.others] == ["a.pt", "a.unfinished.pt", "b.pt", "log.jsonl"]


def test_half_written_files_are_swept_when_old(tmp_path):
    claim(tmp_path)
    name = ".x.png." + 32 * "a" + ".tmp"
    write(tmp_path, name, f"units/{name}", f"units/.b.{32 * 'b'}.tmp", "units/c.tmp", "units/.mine.tmp")
    for path in (name, f"units/{name}", "units/c.tmp", "units/.mine.tmp"):
        os.utime(tmp_path / path, (0, 0))
    claim(tmp_path)
    assert names_in(tmp_path) == sorted(["config.json", f"units/.b.{32 * 'b'}.tmp", "units/.mine.tmp",
                                         "units/c.tmp"])


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="run: cannot be written"):
        claim(tmp_path / "run", lr=0.1)


@pytest.mark.parametrize("saved, now, difference", [
    ({"strength": 3.0}, {}, None),                                       # of a piece that is not chosen
    ({"kind": "plain", "strength": 3.0, "where": "there"}, {}, None),    # of no identity
    ({"kind": "strong"}, {"kind": "strong", "strength": 2.0}, "strength is null there and 2.0 here"),
    ({"kind": "strong", "strength": None}, {"kind": "strong", "strength": 2.0}, None),  # none was the default
    ({"kind": "strong", "strength": 2.0}, {"kind": "strong", "strength": 3.0}, "strength is 2.0 there and 3"),
    ({"kind": "strong", "strength": 2.0}, {}, "kind is \"strong\" there and \"plain\" here"),
    ({"kind": "strong:3"}, {"kind": "strong", "strength": 3.0}, None),   # as one word
    ({}, {"soft": False}, None), ({"soft": False}, {}, None),            # joined later
    ({}, {"soft": True}, "soft is null there and true"),
    ({"size": 8, "seed": 0, "kind": "plain", "kept": 1}, {}, "config.kept is 1 there and null here"),
    ({"kind": "gone", "seed": 0}, {}, "kind is \"gone\" there"),
])
def test_an_earlier_versions_folder_is_read_as_today(saved, now, difference, tmp_path):
    """Options without effect make no other configuration, all others do."""
    today = identity(build(Settings, now))
    saved = {"seed": 0, "size": 8, "kind": "plain", **saved}
    write_json(tmp_path / "config.json", {"format": "kind", "version": 1, "config": saved})
    if difference:
        with pytest.raises(ValueError, match=difference):
            claim(tmp_path, config=today)
    else:
        claim(tmp_path, config=today)
    assert read_json(tmp_path / "config.json")["config"] == saved


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strict(Settings):
    """A config that is checked against a place, which no saved config holds."""

    def __post_init__(self):
        super().__post_init__()
        if not self.where:
            raise ValueError("say where")


def test_what_only_a_command_line_says_is_not_asked_of_a_saved_config(tmp_path):
    write_json(tmp_path / "config.json", {"format": "kind", "version": 1, "config": {
        "seed": 0, "size": 8, "kind": "plain", "strength": 3.0}})
    strict = {"config": identity(build(Strict, {"where": "here"}))}
    with folders.claim(tmp_path, RUNS, identity=strict, settings=Strict, overwrite=False) as stale:
        assert not stale


def test_a_dry_run_claims_nothing_and_refuses_what_a_claim_refuses(tmp_path):
    claim(tmp_path / "new" / "run", dry_run=True, config={"seed": 0})
    claim(tmp_path / "new", dry_run=True, overwrite=True, config={"seed": 0})
    assert list(tmp_path.iterdir()) == []
    claim(tmp_path / "run", config={"seed": 0})
    (tmp_path / "run/log.jsonl").write_text("")
    claim(tmp_path / "run", dry_run=True, config={"seed": 0})
    claim(tmp_path / "run", dry_run=True, overwrite=True, config={"seed": 1})  # it would be deleted
    with pytest.raises(ValueError, match="config.seed is 0 there and 1 here"):
        claim(tmp_path / "run", dry_run=True, config={"seed": 1})
    with pytest.raises(ValueError, match="is a folder of kind, this makes other"):
        claim(tmp_path / "run", dry_run=True, overwrite=True, kind=dataclasses.replace(RUNS, format="other"))
    (tmp_path / "run/config.json").unlink()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="log.jsonl but no config.json"):
            claim(tmp_path / "run", dry_run=True, overwrite=overwrite, config={"seed": 0})
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file/run: cannot be written"):
        claim(tmp_path / "file" / "run", dry_run=True, config={"seed": 0})
    assert names_in(tmp_path) == ["file", "run/log.jsonl"]




@pytest.mark.parametrize("mine", ['{"version": "2.1", "mine": 1}', "name: mine", "[1]"])
def test_a_config_of_nobody_is_not_overwritten(mine, tmp_path):
    (tmp_path / "config.json").write_text(mine)
    (tmp_path / "log.jsonl").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="config.json"):
            claim(tmp_path, lr=0.1, overwrite=overwrite)
    assert (tmp_path / "config.json").read_text() == mine and (tmp_path / "log.jsonl").read_text() == "mine"


def test_a_newer_versions_folder_of_another_kind_is_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text('{"format": "prism-images", "version": 2}')
    with pytest.raises(ValueError, match="is a folder of prism-images, this makes kind"):
        claim(tmp_path, lr=0.1, overwrite=True)


def test_locks_work_where_they_are_made_of_byte_ranges(tmp_path, monkeypatch):
    """As on NFS, which turns flock into locks that want a readable file."""
    monkeypatch.setattr(folders.fcntl, "flock", folders.fcntl.lockf)
    assert not claim(tmp_path, lr=0.1) and claim(tmp_path, lr=0.2, overwrite=True)


def test_a_plan_knows_another_configuration_by_its_flags(tmp_path):
    config = build(Settings, {"seed": 0})
    assert not folders.seems_others(tmp_path, config)
    claim(tmp_path, config=identity(config))
    assert not folders.seems_others(tmp_path, config)
    assert folders.seems_others(tmp_path, build(Settings, {"seed": 1}))
