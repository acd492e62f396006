"""Which teachers supervise a batch: phi for the logits, a subset of the pool for BatchNorm alignment.

SELECTIONS: name -> f(rng, pool=, primary=, max_bn=, with_bn=) -> names of the aligned teachers, a pure
function of an explicit random.Random.   Paper sections 3.1 to 3.3.
"""
import dataclasses
import math
import random

from utils.runtime import derive_seed


@dataclasses.dataclass(frozen=True)
class Teachers:
    """One draw: `primary` is phi, `aligned` are theta_1..theta_k."""

    primary: str
    aligned: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every network that a step runs, the primary first, each once."""
        return (self.primary, *(name for name in self.aligned if name != self.primary))


def single(rng: random.Random, *, pool, primary, max_bn, with_bn) -> tuple[str, ...]:
    """theta_1 = phi: single-teacher alignment, SRe2L's.   Source: paper 3.1."""
    return (primary,)


def dual(rng: random.Random, *, pool, primary, max_bn, with_bn) -> tuple[str, ...]:
    """One BN-bearing teacher other than phi: dual-teacher decoupling.   Source: paper 3.1.

    Raises: ValueError when the pool holds none.
    """
    others = [name for name in pool if name != primary and name in with_bn]
    if not others:
        raise ValueError(f"--teachers dual needs a network with BatchNorm other than {primary} in --pool, "
                         f"got {' '.join(pool)}")
    return (rng.choice(others),)


def bernoulli(rng: random.Random, *, pool, primary, max_bn, with_bn) -> tuple[str, ...]:
    """theta_1 = phi; each further slot up to max_bn is filled with probability 0.5, without replacement.

    Source: published recipe, three further slots.
    """
    left = [name for name in pool if name != primary]
    aligned = [primary]
    for _ in range(min(max_bn, len(left) + 1) - 1):
        if rng.random() < 0.5:
            aligned.append(left.pop(rng.randrange(len(left))))
    return tuple(aligned)


def uniform(rng: random.Random, *, pool, primary, max_bn, with_bn) -> tuple[str, ...]:
    """Uniform over all non-empty subsets of the pool of at most max_bn; phi is not forced in.

    Source: paper 3.2, eq. 5.
    """
    sizes = range(1, min(max_bn, len(pool)) + 1)
    size = rng.choices(sizes, weights=[math.comb(len(pool), k) for k in sizes])[0]
    chosen = set(rng.sample(range(len(pool)), size))
    return tuple(name for i, name in enumerate(pool) if i in chosen)


SELECTIONS = {"single": single, "dual": dual, "bernoulli": bernoulli, "uniform": uniform}


def draw_teachers(rng: random.Random, *, law: str, pool, primary: str, primary_drawn: bool, max_bn: int,
                  with_bn) -> Teachers:
    """One draw of phi and the aligned subset.

    Args: law: of SELECTIONS;  primary_drawn: draw phi too, uniformly from the pool (paper 3.3; table 2);
          max_bn: k_max;  with_bn: the names that have a BatchNorm layer.
    """
    if primary_drawn:
        primary = rng.choice(list(pool))
    return Teachers(primary, SELECTIONS[law](rng, pool=pool, primary=primary, max_bn=max_bn, with_bn=with_bn))


def plan_selection(seed: int, ipc_id: int, chunk: int, iterations: int, *, selection: str,
                   **draw) -> list[Teachers]:
    """The teachers of every iteration of one unit.   Source: paper 3.3.

    `pre` draws once, from (seed, ipc_id), so that all class chunks of an index share the draw; `intra`
    redraws at every iteration, from (seed, ipc_id, chunk).
    Args: draw: the keywords of `draw_teachers`.
    """
    if selection == "pre":
        rng = random.Random(derive_seed(seed, "teachers", ipc_id))
        return [draw_teachers(rng, **draw)] * iterations
    rng = random.Random(derive_seed(seed, "teachers", ipc_id, chunk))
    return [draw_teachers(rng, **draw) for _ in range(iterations)]
