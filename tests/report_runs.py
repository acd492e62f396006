"""Runs as the stages leave them, made up in moments: what the tests of the report are about."""
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy
from PIL import Image

from utils.files import sha256_bytes, write_bytes, write_json
from utils.formats import image_set_digest
from utils.image_sets import open_images
from utils.measures import save_measure

POOL = ("resnet18", "mobilenet_v2")
PRISM = {"name": "prism", "changed": ["lr"]}


def picture(size: int, ending: str, seed: Sequence[int] = (0,)) -> bytes:
    """A noisy image's bytes: the worst that a file format can meet."""
    rng, file = numpy.random.default_rng(seed), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (size, size, 3), numpy.uint8)).save(
        file, {"png": "PNG", "jpg": "JPEG"}[ending])
    return file.getvalue()


def write_lines(path: Path, rows: Sequence[dict]) -> None:
    """A log."""
    write_bytes(path, "".join(f"{json.dumps(row)}\n" for row in rows).encode())


def write_run(run: Path, *, classes: Sequence[str] = ("ant", "bee"), ipc: int = 2, seed: int = 0,
              control: str = "", size: int = 8, dataset: str = "imagenet-1k", lr: float = 0.25,
              teachers: bool = True) -> Path:
    """A finished run.   Args: control: start of a run of real images; "": distilled."""
    ending = "png" if size < 64 else "jpg"
    content = picture(size, ending, [*f"{seed} {control} {lr}".encode()])
    weights = {} if control else {
        name: sha256_bytes(f"{name} {seed}".encode()) for name in POOL}
    for i in range(ipc):
        files = {f"syn/{name}/{name}_ipc{i:04d}.{ending}": sha256_bytes(content) for name in classes}
        for path in files:
            target = run / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        (run / "units").mkdir(exist_ok=True)
        counts = {} if control else {POOL[0]: 100, **({POOL[1]: 100} if i % 2 else {})}
        write_json(run / "units" / f"ipc{i:04d}_chunk00.json", {
            "ipc_id": i, "chunk": 0, "short_classes": [], "files": files, "device": "cpu", "bytes": 1,
            "iterations": 0 if control else 100, "aligned": counts,
            "primary": {POOL[0]: 100} if counts else {}})
    write_json(run / "config.json", {
        "format": "prism-images", "version": 1, "class_names": list(classes), "weights": weights,
        "protocol": PRISM if not control else {"name": control, "changed": []},
        "config": {"dataset": dataset, "size": size, "mean": [0.5] * 3, "std": [0.5] * 3, "stem": "imagenet",
                   "arch_name": POOL[0], "pool": list(POOL), "seed": seed, "lr": lr, "iteration_step": 0,
                   "iteration": 0 if control else 100, "init": control or "real"}})
    if weights and teachers:
        write_json(run / "preflight.json", {digest: {
            "name": name, "accuracy": 0.75, "floor": 0.1, "images": 512, "split": "held-out"}
            for name, digest in weights.items()})
        rows = [{"ipc_id": i, "chunk": 0, "step": step, "loss": 8 / (step + 1), "ce": 4 / (step + 1),
                 "elapsed_s": 1.5 * (i + 1), **({"done": True} if step else {})}
                for i in range(ipc) for step in (0, 100)]
        write_lines(run / "log.jsonl", rows)
    return run


def write_students(run: Path, top1: dict[int, float], *, soft: bool = True, name: str = "",
                   ipc: int = 0) -> Path:
    """Finished students.   Args: top1: seed -> accuracy of the last epoch, a share;  ipc: 0 for all."""
    folder = run / "validate" / (name or ("soft" if soft else "hard"))
    images = open_images(str(run), flag="RUN", write=False)
    digest = image_set_digest(images.select(ipc))
    config = {"model": "resnet18", "loss_type": "mse_gt" if soft else "ce", "ipc": ipc or images.ipc,
              "epochs": 2}
    write_json(folder / "config.json", {"format": "prism-students", "version": 1, "config": config,
                                        "images": digest})
    rows = []
    for seed, share in top1.items():
        last = {"epoch": 1, "top1": share, "top5": 1.0, "images": 200}
        rows.append({"seed": seed, "last": last, "best": {**last, "top1": min(1.0, share + 0.01)},
                     "config": config, "protocol": {"name": "prism", "changed": []}, "images": digest,
                     "labels": "some" if soft else None, "images_config": images.saved["config"]})
        write_json(folder / f"seed{seed}" / "result.json", rows[-1])
        log = [{"epoch": 0, "top1": share / 2, "loss": 2.0}, {"epoch": 1, "top1": share, "loss": 1.0}]
        write_lines(folder / f"seed{seed}" / "log.jsonl", log)
    write_lines(folder / "results.jsonl", [{**row, "wall_s": 60.0} for row in rows])
    return folder


def write_evaluation(run: Path, *, protocol: str = "rd3", ipc: int = 2, mean: float = -4.25,
                     against: str = "random") -> None:
    """An evaluation.   Args: mean: of distilled - real images."""
    images = open_images(str(run), flag="RUN", write=False)
    names = images.class_names
    difference = {"model": "resnet18", "labels": "soft", "set": "distilled", "against": against,
                  "mean": mean, "standard_error": 0.5, "interval": [mean - 1.25, mean + 1.25], "n": 3,
                  "each": [mean + 0.25, mean, mean - 0.25], "decided": True}
    save_measure(images, f"evaluation_{protocol}_ipc{ipc}", {
        "protocol": protocol, "changed": ["epochs"], "dataset": images.dataset, "ipc": ipc,
        "models": ["resnet18"], "seeds": [0, 1, 2], "differences": [difference],
        "commands": ["python -m relabel.x"],
        "accuracies": [{"set": own, "model": "resnet18", "labels": "soft", "mean": mean, "std": 1.0,
                        "each": [mean]} for own, mean in (("distilled", 51.25), (against, 55.5))],
        "scores": {"resnet18": {"hlr": {"mean": 0.0425, "std": None, "each": [0.0425]}, "ior": None,
                                "lrs": None, "ars": None}},
        "classes": {"resnet18": {"soft": dict.fromkeys(names, 62.5)}},
        "confusion": {"resnet18": {"soft": {"matrix": None, "worst": [
            {"true": names[0], "predicted": names[-1], "share": 0.375}]}}}},
        ipc=ipc, command="python -m validate.evaluate x")


def write_measures(run: Path, *, cosine: float = 0.5, ipc: int = 0) -> None:
    """Every measure that the report reads, with values that are told apart.   Args: ipc: but evaluations'."""
    images = open_images(str(run), flag="RUN", write=False)
    names = images.class_names
    command = "python -m validate.measure --data 'a & b'"

    def save(name: str, **values: object) -> None:
        save_measure(images, name, values, ipc=ipc, command=command)
    save("diversity_vgg", arch="vgg", taught=False, mean=cosine, std=0.125,
         classes=dict.fromkeys(names, cosine))
    scalars = {"precision": 0.111, "recall": 0.222, "density": 0.333, "coverage": 0.444}
    near = {"mean": 5.125, "std": 1.0, "least": 2.25}
    save("memorisation_vgg", arch="vgg", real_images=4321, k=5, nearest=near, still_closest=0.25,
         real_nearest={**near, "mean": 6.5}, moved={"mean": 7.75, "std": 1.0},
         classes=dict.fromkeys(names, scalars), **scalars)
    save("membership_resnet18_soft", model="resnet18", labels="soft", attack="loss", members=100,
         nonmembers=90, auc={"value": 0.625, "interval": [0.55, 0.7]},
         tpr_at_1={"value": 0.031, "interval": None})
    save("embedding_vgg", arch="vgg", taught=False, method="t-sne", seed=0, points=[
        {"x": float(i), "y": float(i * i), "class": names[i % len(names)], "kind": kind}
        for kind in ("real", "distilled") for i in range(6)])
    write_evaluation(run, ipc=min(2, images.ipc))
