"""Attacks on the students of every world, with all other worlds as shadow models.   W worlds, N images."""
import dataclasses
from collections.abc import Callable, Sequence

import torch

from scripts.auditing.worlds import TARGETS, TEACHER
from utils.pieces import Values, require
from validate.attacks import Guessed, guessed, likelihood_ratio, one_sided, shadow_gaussian

NAMES = (*map(str, TARGETS), TEACHER)
LOSS, ONLINE, OFFLINE = "loss threshold", "LiRA", "LiRA, offline"
Scores = dict[str, torch.Tensor]  # attack -> (N,)
Attacked = dict[str, list[Guessed]]  # attack -> how well it guesses in each world


@dataclasses.dataclass(frozen=True)
class Worlds:
    """What the lines hold, as tensors.

    inside, shown: (W, N) bool;  confidence: student -> (W, N);  accuracy: student -> W percentages.
    """

    inside: torch.Tensor
    shown: torch.Tensor
    confidence: dict[str, torch.Tensor]
    accuracy: dict[str, list[float]]

    @classmethod
    def of(cls, lines: Sequence[Values]) -> "Worlds":
        """The worlds of worlds.jsonl.   Raises: ValueError with fewer than four: too few shadow models."""
        require(len(lines) >= 4, f"the attacks need four worlds or more, there are {len(lines)}")
        confidence = {name: torch.tensor([line["students"][name]["confidence"] for line in lines]) / 100
                      for name in NAMES}

        def chosen(field: str) -> torch.Tensor:
            marks = torch.zeros_like(confidence[TEACHER], dtype=torch.bool)
            for mark, line in zip(marks, lines, strict=True):
                mark[line[field]] = True
            return marks
        return cls(chosen("inside"), chosen("shown"), confidence,
                   {name: [line["students"][name]["accuracy"] for line in lines] for name in NAMES})

    def over_worlds(self, score: Callable[[int, torch.Tensor], Scores], *, members: torch.Tensor,
                    others: torch.Tensor) -> Attacked:
        """Attacks each world in turn.

        Args: score: of a world's number and all others' (W - 1,);  members, others: (W, N) bool.
        """
        found: Attacked = {}
        for world in range(len(self.inside)):
            rest = torch.tensor([other for other in range(len(self.inside)) if other != world])
            for attack, scores in score(world, rest).items():
                sure = ~scores.isnan()  # an image that no shadow model had in, or none had out, is left out
                found.setdefault(attack, []).append(guessed(
                    scores[members[world] & sure], scores[others[world] & sure]))
        return found

    def attack(self, name: str) -> Attacked:
        """Attacks on a student's "was this image in the world's half?"."""
        def score(world: int, rest: torch.Tensor) -> Scores:
            own, shadows = self.confidence[name][world], self.confidence[name][rest]
            seen = shadow_gaussian(shadows, self.inside[rest])
            unseen = shadow_gaussian(shadows, ~self.inside[rest])
            return {LOSS: own, ONLINE: likelihood_ratio(own, seen, unseen), OFFLINE: one_sided(own, unseen)}
        return self.over_worlds(score, members=self.inside, others=~self.inside)

    def attack_shown(self, name: str) -> Attacked:
        """Attacks on "was this image of the half among those that the student was shown?".

        An image is shown in few worlds, so that LiRA is the offline one alone.
        """
        def score(world: int, rest: torch.Tensor) -> Scores:
            own, shadows = self.confidence[name][world], self.confidence[name][rest]
            return {LOSS: own, OFFLINE: one_sided(own, shadow_gaussian(shadows, ~self.shown[rest]))}
        return self.over_worlds(score, members=self.shown, others=self.inside & ~self.shown)
