"""The work of recover: the hot loop over one unit, or several side by side, and what surrounds it.

S slices, N images of one slice.
"""
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from recover.images import save_unit
from recover.objective import Objective, Terms
from recover.perturbation import NoPerturbation
from recover.plans import UnitLaws, UnitPlan
from recover.units import Inputs, Unit
from utils.augment import pixel_bounds, shared_view, to_uint8
from utils.metrics import topk_hits
from utils.pieces import Values
from utils.precision import PixelAdam
from utils.runtime import Log, finite_values, hushed, say, seed_everything, warn_once
from utils.unfinished import StopSignals, Unfinished

Bounds = tuple[torch.Tensor, torch.Tensor]
Made = tuple[list[torch.Tensor], list[Terms]]
Report = Callable[[int, int, list[UnitPlan], list[Terms], list[int]], None]


def synthesize_batch(starts: list[torch.Tensor], targets: torch.Tensor, objective: Objective, *,
                     plans: list[UnitPlan], betas: tuple[float, float], bounds: Bounds, report: Report,
                     log_every: int, precision: str, unfinished: Unfinished, saved: Values | None) -> Made:
    """The hot loop: Adam on the pixels.   Source: paper eq. 4; supplement table 1b.

    Args:    starts: S tensors (N, 3, H, W), normalised;  targets: (N,);  plans: S, of equally many blocks,
             which slices end by themselves;  bounds: least and greatest normalised pixel;  precision: of
             PRECISIONS, for fp16 skips steps that overflow;
             unfinished, saved: where work in progress is kept, and what it held;
             report(block, step, active plans, terms, skipped steps): every so many iterations, the only
             host sync.
    Returns: S tensors (N, 3, H, W), and S dicts of the terms at each slice's last iteration that was taken.
    """
    state = saved or {"block": 0, "step": 0, "images": starts, "optimizers": (), "objective": None,
                      "final": [{} for _ in starts]}
    images, final, first = [x.to(targets.device) for x in state["images"]], state["final"], state["step"]
    objective.load(state["objective"])
    for number in range(state["block"], len(plans[0].blocks)):
        blocks = [plan.blocks[number] for plan in plans]
        if not first:
            images = [block.before(x, start) if block.before else x
                      for block, x, start in zip(blocks, images, starts, strict=True)]
        images = [x.detach().clone().requires_grad_() for x in images]
        optimizers = [PixelAdam(x, betas=betas, precision=precision) for x in images]
        for optimizer, own in zip(optimizers, state["optimizers"], strict=False):
            optimizer.load_state_dict(own)
        for step in range(first, max(len(block.rates) for block in blocks)):
            active = [s for s, block in enumerate(blocks) if step < len(block.rates)]
            joined = plans[0].joined(number, step)  # slices have no members that join late
            views = [shared_view(images[s][joined], blocks[s].views, step) for s in active]
            terms = objective.backward(views, targets[joined], [blocks[s].draws[step] for s in active])
            for s, own in zip(active, terms, strict=True):
                final[s] = optimizers[s].take(blocks[s].rates[step], own, final[s])
                images[s].data.clamp_(*bounds)
            if step % log_every == 0:
                report(number, step, [plans[s] for s in active], [final[s] for s in active],
                       [optimizers[s].skipped(step + 1) for s in active])
            if unfinished.due():
                unfinished.save({"block": number, "step": step + 1, "images": [x.detach() for x in images],
                                 "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                                 "final": final, "objective": objective.state()})
        for optimizer, block in zip(optimizers, blocks, strict=True):
            optimizer.skipped(len(block.rates))
        first, state = 0, {"optimizers": ()}
    return [x.detach() for x in images], final


def peak_memory(device: torch.device) -> dict[str, float]:
    """The most that tensors took on a CUDA device since the unit began, networks included [GB].

    After a network's turn that was measured: since then, as that turn's peak is taken by itself.
    """
    return {"peak_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9} if device.type == "cuda" else {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthesis:
    """What all groups of a run share.

    objective: None where no image is optimised;  objective_of(inputs): one over other networks, those that a
    unit's perturbation makes;  save_every: minutes.
    """

    run: Path
    inputs: Inputs
    laws: UnitLaws
    start: Callable[[Unit], torch.Tensor]
    objective: Objective | None
    objective_of: Callable[[Inputs], Objective]
    perturbation: NoPerturbation
    betas: tuple[float, float]
    encoding: Values
    log_every: int
    save_every: float
    verifier: nn.Module | None
    log: Log
    bar: "tqdm[Any]"
    stop: StopSignals

    def make(self, group: list[Unit]) -> None:
        """Start images, the hot loop, files and log of one group of units."""
        started, first, inputs = time.perf_counter(), group[0], self.inputs
        if inputs.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(inputs.device)
        seed_everything(inputs.seed, "unit", first.ipc_id, first.chunk)
        plans = [self.laws.plan(unit) for unit in group]
        if self.objective and not all(self.objective.aligns(draw) for plan in plans for draw in plan.draws):
            warn_once("a drawn subset has nothing to align: cross-entropy alone shapes its images")
        starts = [self.start(unit).to(inputs.device) if unit.members
                  else torch.zeros(0, 3, inputs.size, inputs.size) for unit in group]
        objective = self._objective_of(group, starts, plans)
        unfinished = Unfinished(first.unfinished(self.run), minutes=self.save_every, stop=self.stop)
        saved = unfinished.load()  # after the starts: it sets the random generators as they were
        earlier = sum(plan.until(saved["block"], saved["step"]) for plan in plans) if saved else 0
        if earlier:
            total = sum(plan.iterations for plan in plans)
            say(f"{first}: goes on from its save, {earlier} of {total} iterations are done")
        self.bar.update(earlier)
        images, final = starts, list[Terms]({} for _ in group)
        if objective and first.members:
            low, high = pixel_bounds(inputs.mean, inputs.std)
            images, final = synthesize_batch(
                starts, torch.tensor(first.classes, device=inputs.device), objective, plans=plans,
                betas=self.betas, bounds=(low.to(inputs.device), high.to(inputs.device)), saved=saved,
                unfinished=unfinished, log_every=self.log_every, precision=inputs.precision,
                report=self._report)
        for plan, finished, terms in zip(plans, images, final, strict=True):
            values = finite_values(terms, where=f"the last iteration of {plan.unit}")
            save_unit(self.run, plan, to_uint8(finished, mean=inputs.mean, std=inputs.std), terms=values,
                      class_names=inputs.real.class_names, device=inputs.device.type, **self.encoding)
            seconds = (time.perf_counter() - started) / max(1, sum(p.iterations for p in plans) - earlier)
            self.log.write(ipc_id=plan.unit.ipc_id, chunk=plan.unit.chunk, step=plan.iterations, done=True,
                           **values, **self._verify(finished, plan.unit), **peak_memory(inputs.device),
                           seconds_per_iteration=seconds)
        unfinished.discard()
        self._log_memory()
        self.bar.update(0 if self.objective else len(group))  # a run without iterations counts units

    def _log_memory(self) -> None:
        """A line for each network that has had its first turn since the last call."""
        for row in self.objective.measured() if self.objective else ():
            self.log.write(**row)

    def _objective_of(self, group: list[Unit], starts: list[torch.Tensor],
                      plans: list[UnitPlan]) -> Objective | None:
        """The objective of one group: the run's, or one over perturbed networks."""
        if self.objective is None or not group[0].members:
            return None
        plan, start = plans[0], starts[0]
        block, joined = plan.blocks[0], plan.joined(0, 0)
        targets = torch.tensor(group[0].classes, device=self.inputs.device)

        def first_view() -> torch.Tensor:
            opening = block.before(start, start) if block.before else start
            return shared_view(opening[joined], block.views, 0)
        networks = self.perturbation.apply(
            self.inputs.networks, tuple(dict.fromkeys(name for draw in plan.draws for name in draw.names)),
            first_view, targets[joined])
        if networks is self.inputs.networks:
            return self.objective
        with hushed():  # what is said of a run's networks was said
            return self.objective_of(dataclasses.replace(self.inputs, networks=networks))

    def _report(self, block: int, step: int, active: list[UnitPlan], terms: list[Terms],
                skipped: list[int]) -> None:
        for plan, own, missed in zip(active, terms, skipped, strict=True):
            at = plan.until(block, step)
            if missed:
                warn_once("a gradient overflowed in float16: such a step is skipped (\"skipped\" in the log)")
            values = finite_values(own, where=f"iteration {at} of {plan.unit}") if missed <= step else {}
            self.log.write(ipc_id=plan.unit.ipc_id, chunk=plan.unit.chunk, step=at, **values,
                           **{"skipped": missed} if missed else {})
            self.bar.update(plan.until(block, step + self.log_every) - at)
        self._log_memory()

    def _verify(self, images: torch.Tensor, unit: Unit) -> dict[str, float]:
        """The verifier's accuracy on finished images, if there is one."""
        if self.verifier is None or not unit.members:
            return {}
        with torch.no_grad():
            hits = topk_hits(self.verifier(images), torch.tensor(unit.classes, device=images.device), 1)
        return {"verifier_top1": hits / len(images)}
