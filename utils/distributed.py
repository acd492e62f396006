"""Ranks and shards: recover and relabel split units by arithmetic alone; validate is DDP under torchrun."""
import os
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from utils.pieces import require

T = TypeVar("T")


def _from_environment(name: str, default: str) -> int:
    text = os.environ.get(name, default)
    require(re.fullmatch("[0-9]{1,9}", text), f"{name}={text} in the environment: expected a whole number, "
            f"as torchrun sets it; unset RANK, WORLD_SIZE and LOCAL_RANK to run alone")
    return int(text)


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes, from torchrun's environment, else (0, 1).

    Raises: ValueError where the environment holds anything else than 0 <= RANK < WORLD_SIZE.
    """
    rank, world = _from_environment("RANK", "0"), _from_environment("WORLD_SIZE", "1")
    require(rank < world, f"RANK={rank} and WORLD_SIZE={world} in the environment: expected 0 <= RANK < "
            f"WORLD_SIZE, as torchrun sets them; unset both to run alone")
    return rank, world


def leads() -> bool:
    """Whether this is the process that evaluates, writes and reports."""
    return rank_and_world()[0] == 0


def local_rank() -> int:
    """The rank among the processes of this machine, which chooses its device."""
    return _from_environment("LOCAL_RANK", "0")


def parse_shard(text: str) -> tuple[int, int]:
    """`i/n` as (i, n), 0 <= i < n; empty text takes torchrun's RANK and WORLD_SIZE.

    Raises: ValueError on anything else.
    """
    if not text:
        return rank_and_world()
    index, count = map(int, text.split("/")) if re.fullmatch("[0-9]{1,9}/[0-9]{1,9}", text) else (0, 0)
    require(index < count, f"--shard {text}: expected i/n with 0 <= i < n, for example 0/8")
    return index, count


def my_units(units: Sequence[T], shard: tuple[int, int]) -> list[T]:
    """Every n-th unit from the i-th on: the same split whatever is finished.   Source: ours."""
    index, count = shard
    return list(units)[index::count]


def check_devices(name: str, device: torch.device) -> None:
    """Refuses more processes of this machine than CUDA devices: NCCL wants one for each.

    Args: name: --device;  device: what it chose.
    """
    num = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if device.type == "cuda" else 1
    there = 1 if ":" in name else torch.cuda.device_count() if num > 1 else num
    if num > there:
        raise ValueError(f"{num} processes here train one student together, and --device {name} has {there} "
                         f"CUDA devices for them; use NPROC={there} or fewer")


def start_process_group(device: torch.device) -> None:
    """Joins torchrun's process group, NCCL on CUDA and gloo on a CPU; nothing for a single process."""
    if rank_and_world()[1] > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo",
                                timeout=timedelta(hours=2))  # the others wait while rank 0 evaluates


def sum_over_ranks(model: torch.nn.Module) -> None:
    """Adds up the ranks' gradients in one message; a rank without a micro-batch adds zeros."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    dist.all_reduce(flat)
    for p, grad in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = grad.view_as(p)


def stop_process_group() -> None:
    """Leaves the process group, if any, all ranks together: the last one alone can hang (torch 2.4, gloo)."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
