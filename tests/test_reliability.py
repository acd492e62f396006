"""A few of the attacks that `python -m tests.reliability` repeats in full."""
import pytest

from tests.mutations import FAULTS, ROOT
from tests.reliability import files, flags, kills
from tests.reliability.child import Death
from tests.reliability.world import World

NAMED = {"out/run/config.json 'truncated', relabel", "out/run/fkd/2/epoch_001.pt 'truncated', validate",
         "out/run/units/ipc0000_chunk01.json 'not UTF-8', relabel",
         "out/run/syn/bee/bee_ipc0001.png 'empty', relabel",
         "out/run/fkd/2/epoch_001.pt 'a pickle with code', validate",
         "teachers/narrow_resnet.pt 'an archive with code', recover"}
REFUSED = {"recover --batch-size 'nan'", "relabel --seed '²'", "validate --fkd-path '/dev/null'",
           "recover --init ''", "teach --optimizer sgd --lr '-1'"}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("reliability"))


def test_every_fault_of_mutations_fits_the_code():
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in {fault.file for fault in FAULTS}}
    assert [str(fault) for fault in FAULTS if texts[fault.file].count(fault.old) != 1] == []
    named = {name.partition("::")[0] for fault in FAULTS for name in fault.tests}
    assert [name for name in sorted(named) if not (ROOT / f"tests/test_{name}.py").is_file()] == []


def test_a_killed_relabel_is_made_whole_by_the_same_command(world):
    attack = kills.Attack(world)
    fresh = next(attack.scenarios(("relabel",)))
    wrong = {at: attack.kill(fresh, [Death(at)])[0] for at in range(0, fresh.events, 7)}
    assert fresh.events > 20 and not any(wrong.values()), wrong


def test_damaged_files_are_named(world):
    attack = files.Attack(world, unfinished=())
    chosen = [case for group in attack.cases() for case in group if str(case) in NAMED]
    assert {str(case) for case in chosen} == NAMED
    assert {str(case): attack.attempt(case) for case in chosen} == {name: ("", "named") for name in NAMED}


def test_impossible_values_are_refused_before_anything_is_written(world):
    attack = flags.Attack(world)
    chosen = [case for group in flags.groups() for case in group if str(case) in REFUSED]
    assert {str(case) for case in chosen} == REFUSED
    assert {str(case): attack.attempt(case) for case in chosen} == {name: ("", "refused") for name in REFUSED}
