"""python -m tests.reliability kills | files | flags"""
import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

DEFAULTS = {"kills": 300, "files": 200, "flags": 200}


def main() -> int:
    """Runs one kind of attack; 1 when there is a bad case."""
    torch.set_num_threads(1)  # a fork of a process with threads may hang
    parser = argparse.ArgumentParser(prog="python -m tests.reliability")
    parser.add_argument("kind", choices=DEFAULTS)
    parser.add_argument("--n", type=int, help=f"cases (default: {DEFAULTS}; 0: all, of files and flags)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    args = parser.parse_args()
    from tests.reliability.world import World
    started = time.monotonic()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where fsync costs nothing
    world = World(Path(tempfile.mkdtemp(prefix="reliability.", dir=memory)))
    try:
        module = importlib.import_module(f"tests.reliability.{args.kind}")
        n = DEFAULTS[args.kind] if args.n is None else args.n
        bad, counts = module.attack(world, n=n, seed=args.seed, only=args.only)
    finally:
        world.remove()
    print(f"{counts}: {len(bad)} bad, {time.monotonic() - started:.0f} s")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
