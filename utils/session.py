"""What every command settles before its work: device, precision, threads, its share of the units."""
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from utils.distributed import local_rank, parse_shard
from utils.pieces import require
from utils.precision import set_precision
from utils.runtime import choose_device, identity_threads, set_threads

P = TypeVar("P")


@dataclasses.dataclass(frozen=True)
class Session:
    """One process of a command.

    device: where it computes;  shard: (i, n), its share of the units;  threads: as part of an identity.
    """

    device: torch.device
    shard: tuple[int, int]
    threads: int


def open_session(config: Any) -> Session:
    """Settles a process by `ComputeFlags`, and by the stages' flags where a config has them.

    Raises: ValueError on a device that is not usable, a bad --shard, --overwrite by one process of several.
    """
    shard = parse_shard(getattr(config, "shard", ""))
    require(not getattr(config, "overwrite", False) or shard[1] == 1,
            "--overwrite would delete what other processes or shards make; run it unsharded, in one process")
    device = choose_device(config.device, local_rank=local_rank())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    set_threads(config.threads)
    set_precision(getattr(config, "precision", "fp32"), device)  # torch's own default is TF32 in convolutions
    return Session(device, shard, identity_threads(config.threads, device))


def open_plan(plan: Callable[[], P], early: Callable[[], P], describe: Callable[[P], str], *,
              dry_run: bool) -> P:
    """The plan of a run over files of earlier stages; a --dry-run prints it, also before there are any.

    Args:   plan(): over the files;  early(): without them;  describe(plan): its text.
    Raises: FileNotFoundError where they are not, after the early plan is printed.
    """
    try:
        found = plan()
    except FileNotFoundError:
        if dry_run:
            print(describe(early()))
        raise
    if dry_run:
        print(describe(found))
    return found
