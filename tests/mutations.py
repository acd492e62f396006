"""Faults put into the code, one at a time: does a test notice?

    python -m tests.mutations [--only N ...] [--list]

The tree is copied to a temporary folder and changed there, never here.  Each fault changes one place; pytest
then runs the tests that are expected to notice (`tests`); what lives is tried again with all of NEARBY.
One that nothing notices is alive: it wants a test, or the reason why it changes no result (`harmless`).
docs/reliability.md has the counts.
"""
import argparse
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT, LIMIT_S = Path(__file__).resolve().parents[1], 900
LEFT_OUT = (".*", "__pycache__", "out", "data")
NEARBY = ("alignment", "augment", "data", "ensemble", "folders", "formats", "fused", "hot_loop",
          "label_formats", "losses", "methods", "metrics", "objective", "optimizers", "pipeline", "precision",
          "preflight", "randaugment", "registry", "results", "schedule", "selection", "units", "views")


@dataclasses.dataclass(frozen=True)
class Fault:
    """`old` becomes `new` in a file, where it stands once.

    tests: names of test files, perhaps with ::test;  harmless: why no result changes, where none does.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    harmless: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.old!r} -> {self.new!r}"

    def apply(self, root: Path) -> str:
        """Writes it into a tree; returns the file's text before."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return text


FAULTS: list[Fault] = []


def put(file: str, tests: str, *changes: tuple[str, ...]) -> None:
    """Adds faults of one file: (old, new), perhaps with the reason why it is harmless."""
    FAULTS.extend(Fault(file, change[0], change[1], tuple(tests.split()), *change[2:]) for change in changes)


# ---------------------------------------------------------------- recover

put("recover/objective.py", "objective",
    ("losses.append(self._scale * self._add_network", "losses.append(self._add_network"),
    ("leaf.grad.div_(self._scale)", "leaf.grad"),
    ("draws[s].ce[name] * F.cross_entropy(own, targets)", "F.cross_entropy(own, targets)"),
    ("F.cross_entropy(own, targets)", "F.cross_entropy(own, targets, reduction='sum')"),
    ("self._weight * (distance * draws[s].align[name])", "self._weight * distance"),
    ("self._weight * (distance * draws[s].align[name])", "distance * draws[s].align[name]"),
    ("] = distance.detach()", "] = self._weight * distance.detach()"),
    ("losses.append(prior.weight * value)", "losses.append(value)"),
    ('["loss"] + losses[-1].detach()}', '["loss"] + value.detach()}'),
    ("network.load((state or self._fresh)[name])", "network.load(self._fresh[name])"),
    ("views, [leaf.grad for leaf in leaves])", "views, [leaf.grad for leaf in leaves[::-1]])"),
    ("if name in draw.ce and name not in draw.align]", "if name in draw.ce and name in draw.align]"))
put("recover/priors.py", "objective",
    ("x[..., 1:, :-1] - x[..., :-1, 1:])", "x[..., 1:, :-1] - x[..., :-1, :-1])"),
    ("[torch.linalg.vector_norm(d) for d", "[d.square().sum() for d"),
    ("(views.flatten(1), dim=1).mean()", "(views.flatten(1), dim=1).sum()"))
put("recover/alignments/batchnorm.py", "alignment",
    ("correction=0)", "correction=1)"),
    ("1.0 if i else first_multiplier for", "first_multiplier for"),
    ("1.0 if i else first_multiplier for", "first_multiplier if i == len(layers) - 1 else 1.0 for"),
    ("vector_norm(mean - layer.running_mean, dim=1)", "vector_norm(mean, dim=1)"),
    ("(var - layer.running_var, dim=1)", "(var.sqrt() - layer.running_var.sqrt(), dim=1)"),
    ("(var - layer.running_var, dim=1)", "(var - layer.running_var, dim=1).square()"),
    ("dim=(1, 3, 4), correction", "dim=(1, 2, 4), correction"),
    ("(var - layer.running_var, dim=1)", "(var - layer.running_mean, dim=1)"))
put("recover/alignments/hooked.py", "alignment fused hot_loop::test_recover",
    ("own = at_least_float32(x[:self.aligned * self.per_slice])",
     "own = (x[:self.aligned * self.per_slice])"),
    ("x[:self.aligned * self.per_slice]", "x[-self.aligned * self.per_slice:]"),
    ("terms, [], 0\n", "terms, [], self.aligned\n"))
put("recover/alignments/__init__.py", "alignment hot_loop::test_recover hot_loop::test_a_piece "
    "hot_loop::test_noise hot_loop::test_random_starts hot_loop::test_the_verifiers",
    ("first_multiplier=self.first_bn_multiplier", "first_multiplier=1.0"))
put("recover/alignments/fused.py", "fused",
    ("slope = 2 * self._multiplier * v", "slope = self._multiplier * v"),
    ("var_norm.clamp(min=tiny)\n        offset", "mean_norm.clamp(min=tiny)\n        offset"),
    ("clamp(min=tiny) - slope * mean", "clamp(min=tiny) + slope * mean"),
    ("var = square - mean.square()", "var = (square - mean.square()) * num / (num - 1)"),
    ("var * self.scale**2 - self.running_var\n", "var * self.scale - self.running_var\n"),
    ("norm.running_mean - conv.bias", "norm.running_mean + conv.bias"),
    ("torch.sqrt(norm.running_var + norm.eps)", "torch.sqrt(norm.running_var + 1e-5)"),
    ("grad = grad * gamma", "grad = grad"),
    (".mul_(gamma)", ""),
    ("grad_input(grad, t, 0, grad_input", "grad_input(grad, t, 0.05, grad_input"),
    ("grad_input(grad, t, 0, 6,", "grad_input(grad, t, -6, 6,"),
    ("weight = grad_r.view(-1, 1, 1, 1, 1)", "weight = grad_r.sign().view(-1, 1, 1, 1, 1)"),
    ("len(source.users) > 1", "len(source.users) > 2"),
    ("return layer.activate(layer.affine(u)), layer.alignment(own)[0]",
     "return layer.activate(layer.affine(u)), layer.alignment(own.detach())[0]"))
put("recover/selection.py", "selection",
    ('1 / len(aligned) if self.bn_reduce == "mean"', '1 / len(aligned) if self.bn_reduce == "sum"'),
    ("range(min(most, len(left) + 1) - 1)", "range(min(most, len(left) + 1))"),
    ("rng.random() < 0.5", "rng.random() < 0.6"),
    ("left.pop(rng.randrange(len(left)))", "left.pop(0)"),
    ('"teachers", ipc_id)), pool)', '"teachers")), pool)'),
    ('"teachers", ipc_id, chunk))', '"teachers", ipc_id))'),
    ("weights=[math.comb(len(names), k) for k in sizes]", "weights=[1 for k in sizes]"),
    ("if name != primary and name in pool.alignable", "if name != primary"),
    ('if self.primary == "drawn" else pool.names[0]', 'if self.primary == "drawn" else pool.names[-1]'))
put("recover/synthesis.py", "hot_loop::test_recover hot_loop::test_a_piece hot_loop::test_noise "
    "hot_loop::test_random_starts hot_loop::test_the_verifiers units",
    ("images[s].data.clamp_(*bounds)", "pass"))  # one of the four that lived before
put("utils/precision.py", "hot_loop::test_recover hot_loop::test_a_piece hot_loop::test_noise "
    "hot_loop::test_random_starts hot_loop::test_the_verifiers units",
    ("betas=betas, eps=1e-8", "eps=1e-8"),
    ("betas=betas, eps=1e-8", "betas=betas, eps=1e-2"))
put("recover/synthesis.py", "hot_loop::test_recover hot_loop::test_a_piece hot_loop::test_noise "
    "hot_loop::test_random_starts hot_loop::test_the_verifiers units",
    ("take(blocks[s].rates[step], own", "take(blocks[s].rates[step - 1], own"))
put("utils/precision.py", "hot_loop::test_recover hot_loop::test_a_piece hot_loop::test_noise "
    "hot_loop::test_random_starts hot_loop::test_the_verifiers units",
    ("self.zero_grad(set_to_none=True)", "pass"))
put("recover/synthesis.py", "hot_loop::test_recover hot_loop::test_a_piece hot_loop::test_noise "
    "hot_loop::test_random_starts hot_loop::test_the_verifiers units",
    ('"step": step + 1,', '"step": step,'),
    ("optimizer.load_state_dict(own)", "pass"),
    ('objective.load(state["objective"])', "objective.load(None)"),
    ("rates[step], own, final[s])", "rates[step], final[s] or own, final[s])"),
    ("block.before(x, start) if", "block.before(start, start) if"),
    ('first, state = 0, {"optimizers": ()}', 'state = {"optimizers": ()}'),
    ("[blocks[s].draws[step] for s in active]", "[blocks[s].draws[0] for s in active]"),
    ('"unit", first.ipc_id, first.chunk)', '"unit", first.ipc_id)'),
    ('"unit", first.ipc_id, first.chunk)', '"unit", first.chunk)'),
    ("torch.tensor(first.classes, device=inputs.device), objective",
     "torch.arange(len(first.members), device=inputs.device), objective"),
    ("to_uint8(finished, mean=inputs.mean, std=inputs.std)",
     "to_uint8(finished, mean=inputs.mean, std=inputs.mean)"))
put("recover/synthesis.py", "pipeline::test_a_verifier_is_logged hot_loop::test_recover "
    "hot_loop::test_a_piece hot_loop::test_noise hot_loop::test_random_starts "
    "hot_loop::test_the_verifiers",
    ("device=images.device), 1)", "device=images.device), 5)"))
put("recover/units.py", "units", ("if ipc_id >= available(k)", "if ipc_id > available(k)"))
put("recover/plans.py", "units method_pieces",
    ('"views", unit.ipc_id, unit.chunk)', '"views", unit.ipc_id)'),
    ('"views", unit.ipc_id, unit.chunk)', '"views", unit.chunk)'),
    ('generator(self.seed, "views"', 'generator("views"'),
    ("self.lr * cosine(t, num)", "self.lr * cosine(t + 1, num)"),
    ("self.lr * cosine(t, num)", "self.lr * cosine(t, max(1, num - 1))"),
    ("min_scale=scales[own]", "min_scale=self.min_scale"),
    ("min_scale=scales[own]", "min_scale=scales[:cut.iterations]"),
    ("flip=self.flip,\n", "flip=True,\n"),
    ("unit.chunk, num, seed=self.seed)", "unit.chunk, num, seed=0)"),
    ("bisect.bisect_right", "bisect.bisect_left"))
put("recover/batchings.py", "method_pieces",
    ("length * kept[r] for r in joined", "length * r for r in joined"),
    ("length * len(kept)", "iterations"),
    ("index // (many + 1) if index < early", "index // (many + 1) if index <= early"))
put("recover/blocks.py", "method_pieces",
    ("keep * resize(images, size) +", "resize(images, size) +"),
    ("self.keep if number else 0.0", "self.keep"),
    ("number < iterations % self.num_blocks", "number > iterations % self.num_blocks"))
put("recover/perturbation.py", "method_pieces",
    ("self.rho / self.ascents", "-self.rho / self.ascents"),
    ("copy.deepcopy(network)", "network"))
put("recover/images.py", "hot_loop::test_recover hot_loop::test_a_piece hot_loop::test_noise "
    "hot_loop::test_random_starts hot_loop::test_the_verifiers pipeline::test_single_and_dual_teachers",
    ("zip(unit.members, pixels, strict=True)", "zip(unit.members, pixels.flip(0), strict=True)"),
    ("Counter(name for draw in plan.draws for name in draw.align)",
     "Counter(name for draw in plan.draws for name in draw.names)"))
put("recover/starts/real.py", "hot_loop::test_recover hot_loop::test_a_piece hot_loop::test_noise "
    "hot_loop::test_random_starts hot_loop::test_the_verifiers "
    "pipeline::test_no_iterations_store_the_real_images_unchanged "
    "pipeline::test_random_initialisation_takes_no_image_twice pipeline::test_what_changes_the_images",
    ("by_class[k][i] for i, k", "by_class[k][-1 - i] for i, k"),
    ('"real image", k))[i]', '"real image"))[i]'),
    ('generator=generator(seed, "real image"', 'generator=generator("real image"'),
    ('generator(inputs.seed, "noise", i, k)', 'generator(inputs.seed, "noise", i)'),
    ('generator(inputs.seed, "noise", i, k)', 'generator(inputs.seed, "noise", k)'),
    ('generator(inputs.seed, "noise", i, k)', 'generator("noise", i, k)'),
    ("torch.randn(3, inputs.size", "torch.rand(3, inputs.size"))
put("recover/flags.py", "hot_loop::test_recover hot_loop::test_every_folder objective "
    "precision pipeline::test_what_changes_the_images bad_input::test_runs_differ_by_teachers_and_threads",
    ("weight=self.alignment.r_bn", "weight=0.01"),
    ("loss_scale=LOSS_SCALE.get(self.precision, 1.0)", "loss_scale=1.0"),
    ("seed=self.seed, iterations=self.iterations_of", "seed=0, iterations=self.iterations_of"),
    ("min_scale=self.min_scale_crops, flip=self.flip", "min_scale=self.min_scale_crops, flip=True"))
put("recover/data_synthesis.py", "hot_loop::test_recover hot_loop::test_every_folder objective "
    "precision pipeline::test_what_changes_the_images bad_input::test_runs_differ_by_teachers_and_threads",
    ("{name: teachers[name].sha256 for name in config.networks}", "{}"),
    ('**identity(config), "threads": session.threads}', "**identity(config)}"),
    ("session.device, config.precision,", 'session.device, "fp32",'))

# ---------------------------------------------------------------- relabel

put("relabel/labels.py", "hot_loop::test_labels_are hot_loop::test_the_primary "
    "pipeline::test_labels_have_the_documented_tensors_and_name_their_images "
    "pipeline::test_stored_logits_are_the_ensembles_on_the_stored_views",
    ("seed=seed, epoch=epoch)", "seed=seed, epoch=0)"),
    ("seed=seed, epoch=epoch)", "seed=0, epoch=epoch)"),
    ("images.batches(drawn.index, ", "images.batches(drawn.index.sort().values, "),
    ("moved.render(pixels, batch,", "moved.render(pixels, 0,"),
    ("label_format.encode(torch.cat(logits))", "label_format.encode(torch.cat(logits[::-1]))"))
put("relabel/generate_soft_label.py", "hot_loop::test_labels_are hot_loop::test_the_primary "
    "hot_loop::test_every_folder pipeline::test_every_ensemble pipeline::test_a_pool_of_label_epochs "
    "bad_input::test_labels_of_other_images pipeline::test_more_images_reuse_the_first precision",
    ("return names[:self.candidate_number]", "return names[-self.candidate_number:]"),
    ("for teacher in networks.values()]", "for teacher in reversed(networks.values())]"),
    ('"images": formats.image_set_digest(plan.entries)',
     '"images": formats.image_set_digest(plan.entries[:1])'),
    ("epoch=epoch, seed=config.seed", "epoch=epoch, seed=0"),
    ("precision=config.precision, label_format", 'precision="fp32", label_format'),
    ("return self.label_epochs or self.epochs", "return self.epochs"))
put("relabel/plans.py", "bssl hot_loop::test_labels_are pipeline::test_more_images_reuse_the_first",
    ("images.select(flags.ipc), flags.ipc or images.ipc", "images.select(0), flags.ipc or images.ipc"),
    ("crop=flags.crop, augment", "augment"))

# ---------------------------------------------------------------- validate

put("validate/losses.py", "losses",
    ('reduction="batchmean"', 'reduction="mean"'),
    ("F.log_softmax(logits / self.temperature, 1)", "F.log_softmax(logits, 1)"),
    ("F.log_softmax(soft_labels / self.temperature, 1)", "F.log_softmax(soft_labels, 1)"),
    ("divergence * self.temperature**2 if", "divergence * self.temperature if"),
    ("self.error(logits, soft_labels) + self.ce_weight * F",
     "self.error(logits, soft_labels) - self.ce_weight * F"),
    ("self.error(logits, soft_labels) + self.ce_weight * F", "self.error(logits, soft_labels) + F"),
    ("staticmethod(F.l1_loss)", "staticmethod(F.smooth_l1_loss)"),
    ("+ self.ce_weight * truth", "+ truth"))
put("validate/training.py", "hot_loop::test_a_student hot_loop::test_hard_labels hot_loop::test_micro "
    "hot_loop::test_the_last hot_loop::test_a_step hot_loop::test_views_without "
    "unfinished::test_validate_survives_twenty_kills_at_seeded_steps",
    ("loss * (len(logits) / len(views))", "loss / recipe.micro_batches"),  # one of the four
    ("learner.student.train()", "learner.student.eval()"),  # one of the four
    ("self.optimizer.zero_grad(set_to_none=True)", "pass"),
    ("edges = [round(i * num / parts)", "edges = [i * (num // parts)"),
    ("min(micro_batches, num // 2)", "min(micro_batches, num)"),
    ("soft_labels[part], targets[part])", "soft_labels[part], targets[:len(logits)])"),
    ("soft_labels[part], targets[part])", "soft_labels[:len(logits)], targets[part])"),
    ("targets[index[drawn.rows(batch)]]", "targets[drawn.rows(batch)]"),
    ("total += loss.detach()", "total = loss.detach()"),
    ('group["lr"] = recipe.rate(epoch)', 'group["lr"] = recipe.rate(epoch + 1)'),
    ('self.optimizer.load_state_dict(state["optimizer"])', "pass"),
    ('self.student.load_state_dict(state["student"])', "pass"),
    ('self.scaler.load_state_dict(state["scaler"])', "pass"),
    ("self.scaler.update()", "pass"),
    ("if epoch == epochs - 1 or", "if epoch == epochs or"),
    ('seen["top1"] > self._best', 'seen["top1"] >= self._best'),
    ('seen["top1"] > self._best', 'seen["top5"] > self._best'),
    ('"last": self._last, "best": self._best, "device"',
     '"last": self._best, "best": self._best, "device"'),
    ("torch.stack(losses).mean()", "torch.stack(losses).sum()"),
    ("logits = learner.student(views[part])", "logits = learner.student(views)[part]"),
    ("index[sum(lengths[:first]):]", "index"),
    ("recipe.loss(logits.float(), None", "recipe.loss(logits.float() / 2, None"),
    ("mean=self._recipe.mean, std=self._recipe.std", "mean=self._recipe.std, std=self._recipe.std"),
    ("drawn.render(pixels, batch, mean=recipe.mean", "drawn.render(pixels, 0, mean=recipe.mean"))
put("validate/training.py", "pipeline::test_two_processes_train_the_student_of_one",
    ("sum_over_ranks(learner.student)", "pass"),
    ("[rank::world]:", "[rank:]:"))
put("validate/soft_labels.py", "hot_loop::test_hard_labels hot_loop::test_the_primary "
    "hot_loop::test_a_students_own pipeline::test_a_pool_of_label_epochs_is_gone_through_in_turn "
    "pipeline::test_online_labels_are_the_store",
    ("tensor[drawn.rows(batch)] for", "tensor[drawn.rows(0)] for"),
    ('generator(self.seed, "student", epoch)', 'generator(self.seed, "student")'),
    ('generator(self.seed, "student", epoch)', 'generator("student", epoch)'),
    ("labelled = epoch % self.labels.label_epochs", "labelled = epoch"),
    ("seed=self.labels.seed,", "seed=0,"),
    ("teacher.channels_last() for teacher in teachers.values()]",
     "teacher.channels_last() for teacher in reversed(teachers.values())]"),
    ('labels.config["ensemble"], labels.config)', '"mean", labels.config)'),
    ("batch_size=batch_size)", "batch_size=labels.views.batch_size)"))
put("validate/plans.py", "hot_loop::test_a_student hot_loop::test_hard_labels hot_loop::test_micro "
    "hot_loop::test_the_last hot_loop::test_a_step hot_loop::test_views_without "
    "pipeline::test_fewer_epochs_than_labels pipeline::test_more_images_reuse_the_first methods",
    ("flags.min_scale_crops or 0.25", "flags.min_scale_crops or 0.08"),
    ("num_batches=flags.steps_per_epoch,", "num_batches=None,"),
    ("(labels.ipc if labels else flags.ipc) or images.ipc", "flags.ipc or images.ipc"),
    ("epochs=flags.epochs or (labels.epochs if labels else epochs)",
     "epochs=labels.epochs if labels else flags.epochs or epochs"),
    ("flip=dataset_spec(images.dataset).flip, mix_type=NoMix())", "flip=True, mix_type=NoMix())"),
    ("views = dataclasses.replace(views, batch_size=flags.batch_size or own)",
     "views = dataclasses.replace(views, batch_size=own)"))
put("validate/train_FKD.py", "hot_loop::test_a_student hot_loop::test_hard_labels "
    "hot_loop::test_every_folder pipeline::test_every_schedule_sets_the_rate_of_every_epoch "
    "results::test_every_student_is_a_line_of_results_jsonl precision::test_labels_and_students",
    ("epochs=plan.epochs, precision=config.precision,", "epochs=plan.epochs,"),
    ("config.schedule(epoch, plan.epochs)", "config.schedule(epoch + 1, plan.epochs)"),
    ("micro_batches=config.gradient_accumulation_steps, mean", "micro_batches=1, mean"),
    ("torch.tensor([entry.label for entry in plan.entries])",
     "torch.tensor([entry.label for entry in plan.entries]).flip(0)"),
    ('"images": formats.image_set_digest(plan.entries)', '"images": ""'))
put("validate/students.py", "hot_loop::test_a_student hot_loop::test_hard_labels",
    ('seed_everything(seed, "student", name)', 'seed_everything("student", name)'))
put("validate/features.py", "hot_loop::test_diversity pipeline::test_diversity_of_equal features",
    ("Network(name, penultimate(teacher.model), taught)", "Network(name, teacher.model, taught)"),
    ("normalize(pixels.to(device), images.mean, images.std)", "pixels.to(device).float()"),
    ("strangers or", "found or"))
put("validate/neighbours.py", "neighbours memorisation",
    ("rows.diagonal(first)", "rows.diagonal(0)"),
    ("far.append(smallest[:, -1])", "far.append(smallest[:, 0])"),
    ("around[first:first + BLOCK, None]", "around[:len(rows), None]"),
    ("rows <= reach + ROUNDING", "rows < reach - ROUNDING"),
    ("inside.double().mean()) / own", "inside.double().mean()) / k"),
    ("found.indices[nearer] + first", "found.indices[nearer]"),
    ("math.comb(n - 1, k) /", "math.comb(n, k) /"))
put("validate/memorisation.py", "memorisation",
    ("if kept and label != now", "if kept and label == now"),
    ("moved <= nearest + neighbours.ROUNDING", "moved >= nearest + neighbours.ROUNDING"))
put("validate/export.py", "export",
    ("files if not (out / file.path).is_file()", "files if (out / file.path).is_file()"))
put("validate/exporting/verify.py", "export",
    ("math.sqrt(1 / runs + 1 / row[\"n\"])", "math.sqrt(1 / row[\"n\"])"),
    ("mean < low - ROUNDING", "mean < low - 10"),
    ("where != Path() or name not in ASIDE", "not name.startswith(\".\")"))
put("validate/exporting/measured.py", "export",
    ("if result.get(\"images\") == digest", "if result"),
    ("images.size) == images.size]", "images.size)]"),
    ("if measure[\"ipc\"] == ipc\n", "if True\n"))
put("validate/exporting/contents.py", "export",
    ("sha256_file(out / CARD) not in cards", "sha256_file(out / CARD) != there[\"card\"]"))
put("validate/exporting/ddranking.py", "export",
    ("for teacher in teachers]).mean(0)", "for teacher in teachers]).sum(0)"))
put("utils/metrics.py", "evaluate::test_confusion",
    ("labels * num_classes + logits.argmax(1)", "labels + num_classes * logits.argmax(1)"))
put("validate/scores.py", "evaluate::test_label_robustness evaluate::test_augmentation_robustness",
    ("_fraction(full) - _fraction(distilled)", "_fraction(distilled) - _fraction(full)"),
    ("_fraction(distilled) - _fraction(random)", "_fraction(random) - _fraction(distilled)"),
    ("- (1 - weight) * _fraction(hlr)", "+ (1 - weight) * _fraction(hlr)"),
    ("weight * _fraction(augmented) + (1 - weight)", "(1 - weight) * _fraction(augmented) + weight"),
    ("(math.exp(value) - LEAST) / (MOST - LEAST)", "(math.exp(value) - LEAST) / MOST"))
put("validate/evaluation.py", "evaluate::test_scores_are evaluate::test_a_difference evaluate::test_a_class "
    "evaluate::test_confusion",
    ("a - b for a, b in zip(own, other", "b - a for a, b in zip(own, other"),
    ('"decided": low > 0 or high < 0', '"decided": low > 0'),
    ("value / 100 for value in each]", "value for value in each]"),
    ("counts.sum(1).tolist(), counts.diagonal()", "counts.sum(0).tolist(), counts.diagonal()"),
    ("shares.fill_diagonal_(0.0)", "shares"))
put("validate/controls.py", "evaluate::test_the_command evaluate::test_a_stage",
    ('f"{name}-{seed}_', 'f"{name}_'),
    ("if status == EXIT_INTERRUPTED:", "if status == 0:"),
    ('"ipc_end": self._ipc, "seed": seed', '"ipc_end": self._ipc, "seed": 0'))
put("validate/inherited.py", "evaluate::test_without_augmentation evaluate::test_a_set_scales",
    ('"mix_type": "none", "flip": False', '"mix_type": "cutmix", "flip": False'),
    ("if name not in VIEW_OPTIONS} | PLAIN", "} | PLAIN"),
    ("taken = found.protocol[\"changed\"] if same else BUDGET", "taken = BUDGET"))
put("validate/results.py", "results",
    ('100 * r["last"]["top1"] for r in results}', '100 * r["best"]["top1"] for r in results}'),
    ("theirs[seed] - mine[seed]", "mine[seed] - theirs[seed]"),
    ("mean_and_std(result[epoch][metric] for", 'mean_and_std(result["last"][metric] for'))

# ---------------------------------------------------------------- models

put("models/ensemble.py", "ensemble",
    ("dim=(1, 2), keepdim=True)", "dim=2, keepdim=True)"),
    ("(logits * (norms.mean() / norms)).mean(0)", "(logits * (norms / norms.mean())).mean(0)"),
    ("(logits * (norms.mean() / norms)).mean(0)", "(logits * (norms[0] / norms)).mean(0)"),
    ("0.5 * logits[0] + 0.5 * logits[1:].mean(0)", "0.5 * logits[0] + 0.5 * logits.mean(0)"),
    ("0.5 * logits[0] + 0.5 * logits[1:].mean(0)", "0.6 * logits[0] + 0.4 * logits[1:].mean(0)"),
    ("0.5 * logits[0] + 0.5 * logits[1:].mean(0)", "0.5 * logits[-1] + 0.5 * logits[:-1].mean(0)"),
    ("vector_norm(combined, dim=1, keepdim=True)", "vector_norm(combined, dim=0, keepdim=True)"),
    ("return combined * (norms.mean() / norms)", "return combined"),
    ("return logits.mean(0)\n", "return logits.sum(0)\n"),
    ("return logits[0]\n", "return logits[-1]\n"),
    ("return names[:1]", "return names[-1:]"),
    ("(prior - max(self.label_priors)) / self.label_temperature", "(prior - max(self.label_priors)) / 10"),
    ("share / sum(shares)", "share / max(shares)"))
put("models/teacher_statistics.py", "bssl",
    ("i * num // parts for", "round(i * num / parts) for"),
    ("min(parts, num // 2)", "min(parts, num)"),
    ("[teacher(views[part]) for part in parts]", "[teacher(views)[part] for part in parts]"),
    ("layer.track_running_stats = False", "layer.track_running_stats = True"),
    ('"teacher dropout", epoch, number)', '"teacher dropout", epoch)'),
    ('"teacher dropout", epoch, number)', '"teacher dropout", number)'),
    ('seed, "teacher dropout"', '"teacher dropout"'),
    ("            network.train()", "            network.eval()"),
    ("            network.eval()", "            network.train()"),
    ("num_views % batch_size != 1", "num_views != 1"))
put("utils/patch_shuffle.py", "views",
    ("pick(pixels, rows, columns)", "pick(pixels, columns, rows)"),
    ("size % self.shuffle_factor == 0", "True"))
put("models/optimizers.py", "optimizers hot_loop::test_a_student_is hot_loop::test_hard_labels "
    "hot_loop::test_a_teacher",
    ("parameter.ndim > 1 and", "parameter.ndim > 0 and"),
    ('"params": others, "weight_decay": 0.0', '"params": others, "weight_decay": weight_decay'),
    ('"params": matrices, "weight_decay": weight_decay', '"params": matrices, "weight_decay": 0.0'),
    ("momentum=self.momentum)", "momentum=self.momentum, nesterov=True)"),
    ("lr=self.lr, momentum=self.momentum,", "lr=self.lr, momentum=0.0,"),
    ("torch.optim.AdamW(self.groups(", "torch.optim.Adam(self.groups("),
    ("lr=self.lr, weight_decay=self.weight_decay)", "lr=self.lr)"))
put("models/registry.py", "registry",
    ("model.eval().requires_grad_(False)", "model.train().requires_grad_(False)"),
    ("name = names[-1]", "name = names[0]"),
    ('info.get("class_names"),', "None,"),
    ("to(device), digest,", "to(device), name,"),
    ('.removeprefix("module.")', ""))
put("models/registry.py", "selection",
    ("others = pool if primary in pool else pool[1:]", "others = pool"))
put("models/frozen.py", "fused",
    ("run(x, self.conv.weight, self.conv.bias, self.conv)", "run(x, self.conv.weight, None, self.conv)"),
    ('module.padding_mode == "zeros" and', "True and"),
    ("conv.padding, conv.dilation, False, [0, 0]", "conv.padding, (1, 1), False, [0, 0]"))
put("models/preflight.py", "preflight hot_loop::test_class_names bad_input",
    ("return 0.7 * teacher.accuracy", "return 0.07 * teacher.accuracy"),
    ("min(0.5, 10 / num_classes)", "min(0.5, 1 / num_classes)"),
    ('seen["top1"] < least', 'seen["top5"] < least'),
    ("records.get(teacher.sha256)", "{r['name']: r for r in records.values()}.get(teacher.name)"),
    ("list(theirs) != list(class_names)", "sorted(theirs) != sorted(class_names)"))
put("models/torchvision_cifar.py", "registry",
    ("conv.out_channels, 3, 1, 1, bias=conv.bias is not None)", "conv.out_channels, 3, 1, 1, bias=False)"),
    ("model.conv1, model.maxpool = _unstrided(model.conv1), nn.Identity()",
     "model.conv1 = _unstrided(model.conv1)"))
put("models/train_teachers.py", "hot_loop::test_a_teacher hot_loop::test_teachers_differ "
    "hot_loop::test_an_interrupted pipeline::test_interrupted_teachers_go_on_to_the_same_bytes",
    ("model.train()\n", "model.eval()\n"),
    ("std=std)), labels[part])", "std=std)), labels[:len(part)])"),
    ('config.seed, "teacher views", name, epoch)', 'config.seed, "teacher views", name)'),
    ('config.seed, "teacher views", name, epoch)', '"teacher views", name, epoch)'),
    ('config.seed, "teacher views", name, epoch)', 'config.seed, "teacher views", epoch)'),
    ('runtime.seed_everything(config.seed, "teacher", name, epoch)', "pass"),
    ('seed_everything(config.seed, "teacher", name)\n', 'seed_everything("teacher", name)\n'),
    ('optimizer.load_state_dict(saved["optimizer"])', "pass"),
    ("epoch * steps + batch, epochs * steps)", "epoch * steps, epochs * steps)"),
    ("epoch * steps + batch, epochs * steps)", "epoch * steps + batch, epochs * steps - 1)"),
    ("steps = -(-len(pixels) // config.batch_size)", "steps = len(pixels) // config.batch_size"),
    ("optimizer.zero_grad(set_to_none=True)", "pass"),
    ('return seen["top1"]', 'return seen["top5"]'),
    ("drawn.render(pixels[part], batch,", "drawn.render(pixels[part], 0,"),
    ("return model.eval()", "return model", "evaluate() itself sets and restores the mode, and only a state "
     "dict is saved"))

# ---------------------------------------------------------------- utils

put("utils/augment.py", "views",
    ("self.crop_padding + 1, (num, 2)", "self.crop_padding, (num, 2)"),
    ("crop[:, :2].long() + self.crop_padding", "crop[:, :2].long()"),
    ("size - 1 - place, place)", "place, place)"),
    ("normalize(pick(F.pad(pixels, [self.crop_padding] * 4), rows, columns), mean, std)",
     "pick(F.pad(normalize(pixels, mean, std), [self.crop_padding] * 4), rows, columns)"),
    ("corner.abs() <= self.crop_padding", "corner <= self.crop_padding"))
put("utils/augment.py", "augment units hot_loop::test_pixels",
    ("(low + (1 - low) * uniform[..., 0])", "(low + (1 - low) * uniform[..., 0].square())"),
    ("torch.sqrt(area * ratio).round(), torch.sqrt(area / ratio)",
     "torch.sqrt(area / ratio).round(), torch.sqrt(area * ratio)"),
    ("(size - height + 1)).floor()", "(size - height)).floor()"),
    ("uniform[rows, first, 3] * (size", "uniform[rows, first, 2] * (size"),
    ("torch.rand(num, generator=generator) < 0.5) & flip\n    rolls",
     "torch.rand(num, generator=generator) < 0.4) & flip\n    rolls"),
    ("torch.randint(0, jitter + 1,", "torch.randint(0, max(1, jitter),"),
    ("align_corners=False)\n    if", "align_corners=True)\n    if"),
    ("view = view.flip(-1)", "pass"),
    ("view = view.flip(-1)", "view = view.flip(-2)"),
    ("dims=(2, 3))", "dims=(3, 2))"),
    ("dtype=torch.float32) + 0.5) / size ", "dtype=torch.float32)) / size "),
    ("flip[:, None], 1 - place, place)", "flip[:, None], place, place)"),
    ("y = place * height[:, None] - 0.5", "y = place * width[:, None] - 0.5"),
    ("x.clamp(min=0).minimum(width[:, None] - 1)", "x"),
    ("(2 * y + 1) / side - 1", "2 * y / (side - 1) - 1"),
    ('padding_mode="border"', 'padding_mode="zeros"', "every position is clamped to its crop, so none is "
     "outside the image"),
    ("torch.div(pixels, 255).sub_(centre).div_(spread)", "torch.div(pixels, 255).div_(spread).sub_(centre)"),
    ("torch.div(pixels, 255)", "torch.div(pixels, 256)"),
    ("(images * spread + centre) * 255", "(images * centre + spread) * 255"),
    ("+ 1e-3).clamp(0, 255)", "+ 0.5).clamp(0, 255)"),  # one of the four
    ("+ 1e-3).clamp(0, 255)", ").clamp(0, 255)"),
    ("+ 1e-3).clamp(0, 255)", "+ 1e-3)"),
    ("return -centre / spread, (1 - centre) / spread", "return -centre / spread, 1 / spread"))
put("utils/views.py", "views",
    ("alpha=1 - lam)", "alpha=lam)"),
    ("images.mul_(lam).add_(others, alpha=1 - lam)", "images.mul_(1 - lam).add_(others, alpha=lam)"),
    ("inside.copy_(inside[partner.long().to(images.device)])", "inside.copy_(inside)"),
    ("(size * torch.sqrt(1 - lam)).floor()", "(size * torch.sqrt(lam)).floor()"),
    ("(centre + half[:, None]).clamp(max=size)", "(centre + half[:, None]).clamp(max=size - 1)"),
    ("return partners, boxes, 1 - (boxes", "return partners, boxes, (boxes"),
    ("rng(seed).beta(alpha, alpha, num)", "rng(seed).beta(alpha, 1.0, num)"),
    ("min_scale=self.min_scale, generator=generator)", "min_scale=0.25, generator=generator)"),
    ("torch.rand(len(index), generator=generator) < 0.5) & self.flip",
     "torch.rand(len(index), generator=generator) < 0.5)"),
    ('seeded(seed, "labels", epoch)', "seeded(seed, epoch)"),
    ("index = torch.randperm(num_images, generator=generator)", "index = torch.arange(num_images)"),
    ("self.flip[part].to(device), size=size", "self.flip[:len(pixels)].to(device), size=size"),
    ("[round(255 * value) for value in mean]", "[0, 0, 0]"),
    ("self.mix_index[part], self.mix_box[batch]", "self.mix_index[:len(views)], self.mix_box[batch]"),
    ("positions[:, piece], mean", "positions[:, :len(pixels[piece])], mean"),
    ("[torch.randperm(length, generator=generator) for length", "[torch.arange(length) for length"),
    ("CACHED_IMAGES = 8", "CACHED_IMAGES = 3", "how many images are rendered at a time is a matter of the "
     "processor's cache: each is rendered by itself"))
put("utils/schedule.py", "schedule",
    ("step <= 5 * steps / 6", "step < 5 * steps / 6"),
    ("(1 + math.cos(5 * math.pi / (6 * zeta))) / 2 * (1 - step / steps)",
     "(1 + math.cos(5 * math.pi / (6 * zeta))) / 2 * 6 * (1 - step / steps)"),
    ("math.cos(math.pi * step / (zeta * steps))", "math.cos(math.pi * step / steps)"),
    ("(1 + math.cos(math.pi * step / steps)) / 2", "math.cos(math.pi * step / steps / 2)"),
    ("return cosine(step, 2 * steps)", "return cosine(step, steps)"),
    ("return 1 - step / steps", "return 1 - (step + 1) / steps"),
    ("(ipc_id % iteration_period)", "min(ipc_id, iteration_period - 1)"),
    ("smallest + (1 - smallest) * (self.left(t, end)", "1 - (1 - smallest) * (self.left(t, end)"))
put("utils/label_formats.py", "label_formats",
    ("((high - low) / 255)", "((high - low) / 128)"),
    (".round().clamp(0, 255)", ".clamp(0, 255)"),
    ('rows["low"][:, None] + rows["step"]', 'rows["low"].mean() + rows["step"]'),
    ("values.double().sum(1)) / (logits.shape[1] - self.topk)", "values.double().sum(1)) / logits.shape[1]"),
    ("logits.topk(self.topk, 1)", "logits.abs().topk(self.topk, 1)"),
    ('rows["rest"].float()[:, None]', 'torch.zeros_like(rows["rest"].float())[:, None]'),
    ('scatter_(1, rows["classes"].long(), rows["values"].float())',
     'scatter_(1, rows["classes"].long(), rows["values"].float().flip(1))'),
    ("return label_epochs if self.stored else 0", "return label_epochs"))
put("utils/metrics.py", "metrics results",
    ("k = min(k, logits.shape[1])", "k = min(k + 1, logits.shape[1])"),
    ("((sums.square().sum(1) - counts) / pairs)", "(sums.square().sum(1) / counts.square())"),
    ("normalize(features.cpu().double(), dim=1)", "normalize(features.cpu().double(), dim=0)"),
    ("statistics.stdev(values)", "statistics.pstdev(values)"),
    ("student_t_p(middle, freedom) > 0.05", "student_t_p(middle, freedom) > 0.1"),
    ("error = std / num ** 0.5", "error = std / num"))
put("utils/metrics.py", "metrics hot_loop::test_a_student hot_loop::test_hard_labels "
    "hot_loop::test_micro hot_loop::test_the_last hot_loop::test_a_step hot_loop::test_views_without",
    ("topk_hits(logits, labels, 1)", "topk_hits(logits, labels, 2)"),
    ("model.eval()", "pass"),
    ("model.train(was_training)", "pass"))
put("utils/formats.py", "formats hot_loop::test_a_set_of_images",
    ("[[entry.path, entry.sha256] for entry in entries]",
     "[[entry.path, entry.sha256] for entry in entries[1:]]"),
    ("[[entry.path, entry.sha256] for entry in entries]", "[[entry.path] for entry in entries]"),
    ("[[entry.path, entry.sha256] for entry in entries]", "[[entry.sha256] for entry in entries]"),
    ("epoch % self.label_epochs), views", "epoch % self.epochs), views"),
    ("key=lambda entry: (entry.label, entry.path)", "key=lambda entry: entry.path[::-1]"),
    ("if index_of(entry.path) < (ipc", "if index_of(entry.path) <= (ipc"),
    ('mean=tuple(saved["mean"]), std=tuple(saved["std"])',
     'mean=tuple(saved["mean"]), std=tuple(saved["mean"])'))
put("utils/folders.py", "folders bad_input",
    ("elif a != b:", "elif type(a) is not type(b):"))
put("utils/files.py", "formats bad_input",
    ("hashlib.sha256(content).hexdigest()", "hashlib.sha256(content[:512]).hexdigest()"))
put("utils/loading.py", "data",
    ("sha256_bytes(content) != entry.sha256", "len(content) != len(content)"),
    ("index_select(0, part)", "index_select(0, part.sort().values)"),
    ("[part.tolist() for part in index.split(batch_size)]",
     "[sorted(part.tolist()) for part in index.split(batch_size)]"),
    ("torch.tensor([entry.label for entry in entries])", "torch.arange(len(entries))"))
put("utils/pictures.py", "data hot_loop::test_sixteen_bits hot_loop::test_a_jpeg",
    ("max(size, size // 7 * 8), antialias=True)", "size, antialias=True)"),
    ("max(size, size // 7 * 8), antialias=True)", "max(size, size // 7 * 8), antialias=False)",
     "torchvision ignores it for Pillow's pictures, whose resizing knows no other way"),
    ("(grey // 257)", "(grey // 256)"))
put("utils/data.py", "data", ("found = sorted(path for path", "found = list(path for path"))
put("utils/pictures.py", "data hot_loop::test_sixteen_bits hot_loop::test_a_jpeg",
    ('"JPEG", quality=jpeg_quality)', '"JPEG", quality=95)'))
put("utils/data.py", "data hot_loop::test_sixteen_bits hot_loop::test_a_jpeg",
    ("self.by_class[label].append(i)", "self.by_class[label].insert(0, i)"))
put("utils/distributed.py", "pipeline::test_sharded_is_unsharded formats",
    ("list(units)[index::count]", "list(units)[index + 1::count]"),
    ("list(units)[index::count]", "list(units)[:len(units) // count]"))
put("utils/randaugment.py", "randaugment",
    ("PROBABILITY = 0.5", "PROBABILITY = 0.6"),
    ("magnitude: float = 6.0", "magnitude: float = 9.0"),
    ("opposite & (ops >= len(COLOUR))", "opposite & (ops > len(COLOUR))"),
    ("strength * 1.8 + 0.1", "strength * 1.8"),
    ("math.radians(30 * strength)", "-math.radians(30 * strength)"),
    ("TRANSLATION = 0.45", "TRANSLATION = 0.5"),
    ("(strength * 256).int(), images, 255 - images)", "(strength * 255).int(), images, 255 - images)"),
    ("torch.where(bicubic[:, None, None], cubic, linear)", "linear"),
    ("+ 0.5).floor().float()", ").floor().float()"),
    ("zip(ops.T, levels.T.double() / 10,", "zip(ops.T.flip(0), levels.T.flip(0).double() / 10,"))
put("utils/unfinished.py", "unfinished::test_validate_survives_twenty_kills_at_seeded_steps "
    "unfinished::test_generators_go_on_where_they_were",
    ('_set_generators(saved["generators"])', "pass"))
put("utils/runtime.py", "units selection formats",
    ('"/".join(map(str, parts))', '"".join(map(str, parts))'))
put("utils/precision.py", "precision",
    ('"bf16": torch.bfloat16', '"bf16": torch.float16'),
    ('"fp16": 2.0**14', '"fp16": 1.0'))
put("utils/methods/method.py", "methods",
    ("return 50 if ipc <= 10 else 100", "return 50 if ipc < 10 else 100"))
put("utils/folders.py", "folders",
    ("(*own.records, *own.others):", "(*own.others, *own.records):"),
    ("return bool(wrong)", "return True"))
put("utils/label_files.py", "formats bad_input",
    ('checksum(content) == read_record(path.with_suffix(".json"), Checksum)',
     'len(content) == read_record(path.with_suffix(".json"), Checksum)["bytes"]'))
put("utils/views.py", "views formats",
    ("(self.index < num_images)", "(self.index <= num_images)"))
put("utils/unfinished.py", "unfinished::test_one_changed_byte unfinished::test_what_is_not_finite",
    ("content[:DIGEST] == hashlib.sha256(content[DIGEST:]).digest()", "len(content) > DIGEST"),
    ("if bad := first_not_finite(state):", 'if bad := "":'))


# ---------------------------------------------------------------- scripts

put("scripts/reproducing/costs.py", "costs",
    (" + forwards(config.alignment.looks(images), aligned)", ""),
    ("images * climbed / len(sampled)", "climbed / len(sampled)"),
    ("* math.prod(weight[1:])", "* math.prod(weight)"))


# ---------------------------------------------------------------- the device

put("recover/synthesis.py", "pretended_cuda",
    ("bounds=(low.to(inputs.device), high.to(inputs.device))", "bounds=(low, high)"),
    ("images[s].data.clamp_(*bounds)", "images[s].data.clamp_(*bounds).max().item()"))
put("utils/views.py", "pretended_cuda",
    ("getattr(self, name).to(device) for name in", "getattr(self, name) for name in"))
put("validate/training.py", "pretended_cuda",
    ("self.targets.to(self.images.device)", "self.targets"))
put("utils/metrics.py", "pretended_cuda",
    ("labels.to(device)", "labels"))


# ---------------------------------------------------------------- running them

def copied_tree() -> Path:
    """A copy of the repository in a temporary folder, without what is ignored."""
    folder = Path(tempfile.mkdtemp(prefix="mutations-")) / "tree"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return folder


def pytest_words(names: tuple[str, ...]) -> list[str]:
    """`objective` and `units::test_x` as pytest takes them; a test's name may be the start of several."""
    files = [f"tests/test_{name.partition('::')[0]}.py" for name in names]
    if any("::" in name for name in names):
        return [*files, "-k", " or ".join(name.partition("::")[2] or f"test_{name}" for name in names)]
    return [*files, "-k", "not torchrun and not processes"]  # which take seconds each


def run_tests(tree: Path, names: tuple[str, ...]) -> str:
    """Runs pytest on a tree until the first failure, in a process of its own that starts with torch imported.

    Returns: what failed, "" where everything passed.
    """
    report = tree.parent / "report.txt"
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_S)  # a fault may make a loop endless
        os.dup2(os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os.chdir(tree)  # whose pyproject.toml puts its own modules first
        import pytest
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--tb=line",
                              *pytest_words(names)]))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        return ""
    lines = report.read_text(errors="replace").splitlines()
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" - ")[0] if failed else f"ended with {status}: {' '.join(lines[-1:])}"


def try_out(tree: Path, number: int, tests: tuple[str, ...]) -> bool:
    """Runs tests on a tree with a fault, and says what noticed it; whether nothing did."""
    fault, started = FAULTS[number], time.perf_counter()
    text = fault.apply(tree)
    by = run_tests(tree, tests)
    (tree / fault.file).write_text(text, encoding="utf-8")
    print(f"{number:4}  {'killed' if by else 'lives'}  {time.perf_counter() - started:5.1f} s  {fault}  {by}",
          flush=True)
    return not by


def main(argv: list[str] | None = None) -> int:
    """Puts every chosen fault in; returns how many lived that are not harmless, or do not fit the code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the faults, and stop")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", default=range(len(FAULTS)),
                        help="faults by number")
    options = parser.parse_args(argv)
    if options.list:
        print("\n".join(f"{number:4}  {fault}" for number, fault in enumerate(FAULTS)))
        return 0
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a fault may have the size and the second of the text before
    sys.dont_write_bytecode = True
    import pytest  # noqa: F401
    import torchvision  # noqa: F401
    tree = copied_tree()
    strays = [number for number in options.only if (tree / FAULTS[number].file).read_text(
        encoding="utf-8").count(FAULTS[number].old) != 1]
    for number in strays:
        print(f"{number:4}  NOT FOUND just once, adapt it: {FAULTS[number]}")
    chosen = [number for number in options.only if number not in strays]
    lived = chosen
    for names in (None, NEARBY):
        clean = names or tuple(sorted({name for number in lived for name in FAULTS[number].tests}))
        if lived and (failed := run_tests(tree, clean)):
            print(f"the tests do not pass without any fault: {failed}")
            return 1
        lived = [number for number in lived if try_out(tree, number, names or FAULTS[number].tests)]
    shutil.rmtree(tree.parent)
    alive = [number for number in lived if not FAULTS[number].harmless]
    print(f"{len(options.only)} faults: {len(chosen) - len(lived)} killed, {len(alive)} ALIVE, "
          f"{len(lived) - len(alive)} harmless, {len(strays)} not found")
    for number in lived:
        print(f"{number:4}  {FAULTS[number]}: {FAULTS[number].harmless or 'ALIVE'}")
    return len(alive) + len(strays)


if __name__ == "__main__":
    sys.exit(main() > 0)
