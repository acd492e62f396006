"""Which networks supervise a step, and with what weights.   SELECTIONS: name -> piece.

A draw is weights; PRISM's are one network's cross-entropy (phi) and a subset's alignment (theta_1 ..
theta_k).  All draws come from an explicit random.Random, before a unit starts.   Paper sections 3.1 to 3.3.
"""
import dataclasses
import functools
import itertools
import math
import random
from collections.abc import Callable
from typing import Literal

from torch import nn

from models.registry import has_batchnorm, names_that
from utils.flags import RECIPE
from utils.pieces import Options, option, require
from utils.runtime import derive_seed


@dataclasses.dataclass(frozen=True)
class Draw:
    """What supervises one step: network -> weight of its cross-entropy, of its alignment (before --r-bn)."""

    ce: dict[str, float]
    align: dict[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        """Every network of the step, each once, those with a cross-entropy first."""
        return tuple({**self.ce, **self.align})


@dataclasses.dataclass(frozen=True)
class Pool:
    """The networks that a run may draw from, --arch-name first.

    can_align: of the run's alignment;  listed: the networks as --pool names them.
    """

    names: tuple[str, ...]
    stem: str = "imagenet"
    can_align: Callable[[nn.Module], bool] = has_batchnorm
    listed: tuple[str, ...] = ()

    @functools.cached_property
    def alignable(self) -> frozenset[str]:
        """The names of networks that have something to align."""
        return frozenset(names_that(self.names, self.can_align, stem=self.stem))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection(Options):
    """Base of all selections."""

    def networks(self, pool: Pool) -> tuple[str, ...]:
        """The networks that a run can need."""
        return pool.names

    def check(self, pool: Pool) -> None:
        """Raises: ValueError where the pool does not allow such draws."""

    def plan(self, pool: Pool, ipc_id: int, chunk: int, iterations: int, *, seed: int) -> list[Draw]:
        """The draws of every iteration of one unit, from (seed, unit)."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Single(Selection):
    """theta_1 = phi: single-teacher alignment, SRe2L's.   Source: paper 3.1."""

    selection: Literal["pre", "intra"] = option("pre", "teachers drawn once, or at every iteration",
                                                source="paper 3.3, table 2")
    primary: Literal["fixed", "drawn"] = option("fixed", "phi is --arch-name, or drawn from the pool too",
                                                source=RECIPE)
    bn_reduce: Literal["mean", "sum"] = option("mean", "over teachers: the published mean, or eq. 4's sum",
                                               source=RECIPE)

    def networks(self, pool: Pool) -> tuple[str, ...]:
        return pool.names[:1] if self.primary == "fixed" else pool.names

    def align(self, rng: random.Random, pool: Pool, primary: str) -> tuple[str, ...]:
        """The names of theta_1 .. theta_k.   Args: primary: phi."""
        return (primary,)

    def draw(self, rng: random.Random, pool: Pool) -> Draw:
        """One draw of phi and the aligned subset.   Source: paper 3.3; eq. 4, or the published mean."""
        primary = rng.choice(pool.names) if self.primary == "drawn" else pool.names[0]
        aligned = self.align(rng, pool, primary)
        share = 1 / len(aligned) if self.bn_reduce == "mean" else 1.0
        return Draw({primary: 1.0}, dict.fromkeys(aligned, share))

    def plan(self, pool: Pool, ipc_id: int, chunk: int, iterations: int, *, seed: int) -> list[Draw]:
        """As `Selection.plan`.   Source: paper 3.3.

        `pre` draws once, from (seed, ipc_id), so that all class chunks of an index share the draw; `intra`
        redraws at every iteration, from (seed, ipc_id, chunk).
        """
        if self.selection == "pre":
            return [self.draw(random.Random(derive_seed(seed, "teachers", ipc_id)), pool)] * iterations
        rng = random.Random(derive_seed(seed, "teachers", ipc_id, chunk))
        return [self.draw(rng, pool) for _ in range(iterations)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dual(Single):
    """One teacher other than phi that can be aligned with: dual-teacher decoupling.   Source: paper 3.1."""

    networks = Selection.networks

    def check(self, pool: Pool) -> None:
        for phi in pool.names if self.primary == "drawn" else pool.names[:1]:
            require(pool.alignable - {phi}, f"--teachers dual needs a network that --alignment can align "
                    f"(bn: one with BatchNorm) other than the primary in --pool, got {' '.join(pool.names)}")

    def align(self, rng: random.Random, pool: Pool, primary: str) -> tuple[str, ...]:
        return (rng.choice([name for name in pool.names if name != primary and name in pool.alignable]),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multi(Single):
    """PRISM: phi, and a drawn subset of the pool that aligns.   Source: paper 3.2."""

    subset_law: Literal["bernoulli", "uniform"] = option(
        "bernoulli", "phi and slots filled with p = 0.5; or any subset (paper eq. 5)", source=RECIPE)
    max_bn_teachers: int = option(4, "k_max, the most aligned teachers", source=RECIPE, range="> 0")

    networks = Selection.networks

    def align(self, rng: random.Random, pool: Pool, primary: str) -> tuple[str, ...]:
        return SUBSET_LAWS[self.subset_law](rng, pool.names, primary, self.max_bn_teachers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InTurn(Selection):
    """Every iteration asks one network, the pool's next, for logits and alignment.   Source: FADRM, G-VBSM.

    Every unit begins with the first (FADRM).  G-VBSM and EDC count on over batches: the same turn on
    ImageNet-1K, where their iterations are a multiple of their networks.
    """

    def plan(self, pool: Pool, ipc_id: int, chunk: int, iterations: int, *, seed: int) -> list[Draw]:
        """As `Selection.plan`; nothing is random."""
        draws = [Draw({name: 1.0}, {name: 1.0}) for name in pool.names]
        return [draws[t % len(draws)] for t in range(iterations)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Votes(Selection):
    """A pair of networks in every iteration of an index, weighted by softmax(prior / T).   Source: CV-DD.

    Each gives its cross-entropy and its alignment.   facts-2026.md 2.1, 2.2.
    """

    vote_priors: tuple[float, ...] = option(
        (), "prior of each network, in --pool's order: accuracy of students on images of that network alone "
        "[percent]; none: all alike", source="CV-DD", range="in [0, 100]")
    vote_temperature: float = option(5.0, "temperature T of the priors", source="CV-DD", range="> 0")
    pairs: Literal["listed", "drawn", "best"] = option(
        "listed", "which pair an IPC index takes: the next of all pairs in the pool's order, starting again "
        "after the last (CV-DD at IPC 10), a random one (IPC 50), or the two best priors", source="CV-DD")

    def check(self, pool: Pool) -> None:
        """As `Selection.check`."""
        require(len(pool.names) > 1 and len(self.vote_priors) in (0, len(pool.names)),
                f"--teachers votes needs two networks or more and a prior for each: got {len(pool.names)} "
                f"({' '.join(pool.names)}) and --vote-priors {' '.join(map(str, self.vote_priors))}")
        require(not self.vote_priors or pool.listed in ((), pool.names),
                f"--vote-priors are in the order of --pool {' '.join(pool.listed)}, but --arch-name "
                f"{pool.names[0]} is not its first; put it first, and its prior")

    def pair_of(self, pool: Pool, ipc_id: int, seed: int) -> tuple[int, int]:
        """The places in the pool of an index's two networks."""
        places = range(len(pool.names))
        if self.pairs == "best":
            best = sorted(places, key=lambda i: -self._priors(pool)[i])[:2]
            return min(best), max(best)
        pairs = list(itertools.combinations(places, 2))
        if self.pairs == "listed":
            return pairs[ipc_id % len(pairs)]
        return random.Random(derive_seed(seed, "teachers", ipc_id)).choice(pairs)

    def _priors(self, pool: Pool) -> tuple[float, ...]:
        return self.vote_priors or (0.0,) * len(pool.names)

    def plan(self, pool: Pool, ipc_id: int, chunk: int, iterations: int, *, seed: int) -> list[Draw]:
        """As `Selection.plan`; all class chunks of an index share the pair."""
        a, b = self.pair_of(pool, ipc_id, seed)
        priors = self._priors(pool)
        share = 1 / (1 + math.exp((priors[b] - priors[a]) / self.vote_temperature))
        weights = {pool.names[a]: share, pool.names[b]: 1 - share}
        return [Draw(weights, weights)] * iterations


def bernoulli(rng: random.Random, names: tuple[str, ...], primary: str, most: int) -> tuple[str, ...]:
    """theta_1 = phi; each further slot up to `most` is filled with probability 0.5, without replacement.

    Source: published recipe, three further slots.
    """
    left = [name for name in names if name != primary]
    aligned = [primary]
    for _ in range(min(most, len(left) + 1) - 1):
        if rng.random() < 0.5:
            aligned.append(left.pop(rng.randrange(len(left))))
    return tuple(aligned)


def uniform(rng: random.Random, names: tuple[str, ...], primary: str, most: int) -> tuple[str, ...]:
    """Uniform over all non-empty subsets of at most `most`, phi not forced in.   Source: paper 3.2, eq. 5."""
    sizes = range(1, min(most, len(names)) + 1)
    size = rng.choices(sizes, weights=[math.comb(len(names), k) for k in sizes])[0]
    chosen = set(rng.sample(range(len(names)), size))
    return tuple(name for i, name in enumerate(names) if i in chosen)


SUBSET_LAWS = {"bernoulli": bernoulli, "uniform": uniform}
SELECTIONS: dict[str, type[Selection]] = {"single": Single, "dual": Dual, "multi": Multi, "in-turn": InTurn,
                                          "votes": Votes}
