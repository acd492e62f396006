"""A data set as the Hugging Face Hub wants it, laid out by hand: README.md with YAML, metadata.jsonl, images.

`datasets.load_dataset(FOLDER)` reads it: columns image, label (ClassLabel) and class_id.
Source: the Hub's dataset cards and its `imagefolder` reader; image and class_id as the he-yang collection.
"""
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

from utils.image_sets import are_real
from utils.pieces import Values, option, require
from utils.runtime import say
from utils.unit_files import index_of
from validate.exporting.contents import Contents, File, copy_of, json_file, made_of
from validate.exporting.targets import ImageFolder, NetworkFlags, extra, label_epochs

SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
# What a YAML reader takes for a line's end, for no character at all, or for half of one.
ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def yaml(value: object) -> str:
    """A JSON value on one line, which is YAML too, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=False)
    return ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hub(ImageFolder):
    """A data set of the Hugging Face Hub: card, metadata and images; of ours it is a run of PRISM still."""

    labels: bool = option(False, "the folder of soft labels too")
    license: str = option("", "licence of the set, by the Hub's identifier; none: the card says unknown")
    pretty_name: str = option("", "title of the card; none: data set, method and images a class")
    push: str = option("", "OWNER/NAME on the Hub to upload to, with huggingface_hub and your login there")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.push or re.fullmatch(r"[\w.-]+/[\w.-]+", self.push),
                f"--push {self.push}: expected OWNER/NAME")
        require(not self.push or self.license, "--push: what is published needs a licence; say which with "
                "--license (cc-by-4.0, mit, other, ...)")

    def check(self, contents: Contents) -> None:
        """As `ImageFolder.check`."""
        require(contents.labels or not self.labels, f"{contents.images.home}: no soft labels of these "
                f"images; name them with --fkd-path, or leave --labels out")
        if self.push:
            extra("huggingface_hub", "--push")

    def holds(self, contents: Contents) -> str:
        """As `ImageFolder.holds`."""
        return "images" if contents.images.foreign else "with labels" if self.labels else "run"

    def paths(self, contents: Contents) -> list[str]:
        """As `ImageFolder.paths`: of ours, those that its manifest and its labels name."""
        if contents.images.foreign:
            return [f"images/{path}" for path in contents.numbered()]
        return [entry.path for entry in contents.entries]

    def files(self, contents: Contents, flags: NetworkFlags) -> Iterator[File]:
        """As `ImageFolder.files`."""
        paths = self.paths(contents)
        yield json_file("classes.json", contents.images.class_names)
        rows = ({"file_name": path, "label": entry.label, "class_id": entry.label}
                for path, entry in zip(paths, contents.entries, strict=True))
        yield made_of("metadata.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
        if not contents.images.foreign:
            yield json_file("manifest.json", manifest_of(contents))
        yield from contents.copies(paths)
        if self.labels and contents.labels:
            folder = contents.labels.folder
            yield copy_of(f"fkd/{contents.ipc}/config.json", folder / "config.json")
            for path, digest in label_epochs(contents.labels):
                yield copy_of(f"fkd/{contents.ipc}/{path.name}", path, digest)
                yield copy_of(f"fkd/{contents.ipc}/{path.stem}.json", path.with_suffix(".json"))

    def front_matter(self, contents: Contents) -> str:
        """As `ImageFolder.front_matter`."""
        names = {str(k): name for k, name in enumerate(contents.images.class_names)}
        num, folder = len(contents.entries), self.paths(contents)[0].split("/")[0]
        features = [{"name": "image", "dtype": "image"},
                    {"name": "label", "dtype": {"class_label": {"names": names}}},
                    {"name": "class_id", "dtype": "int64"}]
        # Features twice: without the first datasets 5.2.0 knows no class names, with both the second's count.
        fields: Values = {
            "license": self.license or "unknown", "pretty_name": self.pretty_name or title(contents),
            "task_categories": ["image-classification"],
            "size_categories": [next((text for most, text in SIZES if num < most), "n>1M")],
            "tags": [] if contents.images.foreign or are_real(contents.images) else [
                "dataset-distillation", "dataset-condensation", "synthetic"],
            "configs": [{"config_name": "default", "features": features, "data_files": [
                {"split": "train", "path": ["metadata.jsonl", f"{folder}/**"]}]}],
            "dataset_info": {"features": features}}
        return "".join(["---\n", *(f"{key}: {yaml(value)}\n" for key, value in fields.items()), "---\n\n"])

    def usage(self, contents: Contents) -> str:
        """As `ImageFolder.usage`."""
        own = "" if contents.images.foreign else f"\n\n{self.as_run(contents)}"
        return """```python
from datasets import load_dataset

images = load_dataset("HERE", split="train")       # columns image, label, class_id
names = images.features["label"].names             # names[label]
picture, label = images[0]["image"], images[0]["label"]
```""" + own + self.labels * ("\n\nSoft labels lie in `fkd/`, a file an epoch: `torch.load(path, "
                              "weights_only=True)`; which tensors: `utils/formats.py` of PRISM.")

    def as_run(self, contents: Contents) -> str:
        """How PRISM trains on it: with the soft labels that lie there, else with hard ones."""
        data = "" if contents.images.dataset == "digits" else " --val-dir DATA"
        if self.labels:
            labels, later = f"--fkd-path HERE/fkd/{contents.ipc}", ""
        else:
            labels = "--loss-type ce --epochs 300 --batch-size 10"
            later = " with hard labels; `python -m relabel.generate_soft_label --data HERE` makes soft ones"
        return ("The folder is a run of PRISM too, from whose root `python -m validate.train_FKD --train-dir "
                f"HERE {labels}{data}` trains a student on it{later}.")

    def publish(self, out: Path) -> None:
        """As `ImageFolder.publish`."""
        if self.push:
            hub = extra("huggingface_hub", "--push").HfApi()
            hub.create_repo(self.push, repo_type="dataset", exist_ok=True)
            hub.upload_folder(repo_id=self.push, repo_type="dataset", folder_path=str(out),
                              commit_message="Exported by PRISM")
            say(f"{out} is pushed to {self.push}")


def title(contents: Contents) -> str:
    """What a set is called where nobody says it."""
    images = contents.images
    protocol = (images.saved.get("protocol") or {}).get("name")
    made = "" if images.foreign or are_real(images) else \
        f", distilled by {protocol}" if protocol else ", distilled"
    return f"{contents.dataset_name}{made}, {contents.ipc} images a class"


def manifest_of(contents: Contents) -> Values:
    """manifest.json of the images that are exported."""
    units = [{**unit, "files": {path: digest for path, digest in unit["files"].items()
                                if index_of(path) < contents.ipc}}
             for unit in contents.images.saved["units"] if unit["ipc_id"] < contents.ipc]
    return {**contents.images.saved, "ipc": contents.ipc, "units": units}
