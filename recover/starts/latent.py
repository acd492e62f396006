"""Images painted by Stable Diffusion from the centres of a class's latents: D4M, with no iteration after it.

N images, C = 4 latent channels, H W their sides.
"""
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy
import torch
import torchvision.transforms.functional as TF

from models.diffusion import STABLE_DIFFUSION, check_packages, find_pipeline, load_pipeline, pipeline_digest
from recover.starts.start import Start
from recover.units import Inputs, Unit
from utils.augment import normalize
from utils.data import RealSet
from utils.files import sha256_json
from utils.pieces import option, require
from utils.precision import PRECISIONS
from utils.runtime import derive_seed, generator, progress

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latent(Start):
    """Each class's latents are clustered, IPC clusters; every centre is painted on, towards the class's name.

    Pictures are squashed to the pipeline's size, and go through mini-batch k-means in the order of a shuffle
    by (seed, class).  The public code drops what is left of a class behind the last full batch, keys classes
    by their prompt, and may blacken images; here none of that happens.
    Source: D4M; baselines.md 10.1, 16.
    """

    whole_set: ClassVar[bool] = True
    diffusion_model: str = option(
        STABLE_DIFFUSION, "Stable Diffusion: a folder, or a name of the Hugging Face hub; the identity has "
        "its files' digest", source="D4M", identity=False)
    prompts: str = option(
        "", "text file, a line for each class: class name, tab, prompt; none: the class names; the identity "
        "has its content's digest", source="D4M", identity=False)
    negative_prompt: str = option("cartoon, anime, painting", "what is not to be painted", source="D4M")
    strength: float = option(0.7, "share of --steps that is painted, from a centre with as much noise",
                             source="D4M's script; its code's default is 0.75", range="in (0, 1]")
    steps: int = option(50, "denoising steps from pure noise", source="D4M", range="in [1, 1000]")
    guidance: float = option(8.0, "weight of the prompt; up to 1 there is no guidance", source="D4M",
                             range="in [0, 100]")
    km_expand: int = option(1, "latents in a batch of k-means, as a multiple of the IPC",
                            source="D4M's script; its code's default is 10", range="in [1, 10000]")
    diffusion_batch: int = option(8, "images that go through the pipeline together", range="in [1, 10000]")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(int(self.steps * self.strength) > 0, f"--strength {self.strength} of --steps {self.steps} is "
                f"no step; raise one")

    def digests(self, real: RealSet) -> dict[str, str]:
        """As `Start.digests`: of the pipeline's files and of the prompts."""
        check_packages("--init latent")
        prompts = class_prompts(real.class_names, self.prompts)
        folder = find_pipeline(self.diffusion_model, flag="--diffusion-model")
        return {"diffusion_model": pipeline_digest(folder), "prompts": sha256_json(prompts)}

    def positions(self, real: RealSet, unit: Unit, seed: int) -> list[int]:
        """As `Start.positions`: all images of the unit's classes."""
        return [i for k in dict.fromkeys(unit.classes) for i in real.by_class[k]]

    def prepare(self, inputs: Inputs) -> Callable[[Unit], torch.Tensor]:
        pipe = load_pipeline(find_pipeline(self.diffusion_model, flag="--diffusion-model"),
                             device=inputs.device, dtype=PRECISIONS[inputs.precision] or torch.float32)
        prompts = class_prompts(inputs.real.class_names, self.prompts)
        known: dict[int, torch.Tensor] = {}  # of the classes that units have asked for, on the CPU

        def start(unit: Unit) -> torch.Tensor:
            new = dict.fromkeys(k for k in unit.classes if k not in known)
            for k in progress(list(new), text="latents of classes"):
                known[k] = self.prototypes(pipe, inputs, k)
            return normalize(torch.cat([self.paint(
                pipe, torch.stack([known[k][i] for i, k in part]), [prompts[k] for _, k in part],
                [generator(inputs.seed, "painting", i, k) for i, k in part], size=inputs.size)
                for part in parts(unit.members, self.diffusion_batch)]), inputs.mean, inputs.std)
        return start

    def prototypes(self, pipe: Any, inputs: Inputs, k: int) -> torch.Tensor:
        """The centres of a class's latents, (IPC, C, H, W) float32; fewer where it has fewer images."""
        own = inputs.real.by_class[k]
        order = torch.randperm(len(own), generator=generator(inputs.seed, "k-means", k)).tolist()
        clusters, side = min(inputs.ipc, len(own)), pipe.unet.config.sample_size
        batches = (self.latents(pipe, inputs, part).flatten(1).double().numpy()
                   for part in parts([own[i] for i in order], self.km_expand * clusters))
        centres = cluster_centres(batches, clusters=clusters,
                                  seed=derive_seed(inputs.seed, "k-means", k) % 2**32)
        return torch.from_numpy(centres).float().view(clusters, -1, side, side)

    @torch.no_grad()
    def latents(self, pipe: Any, inputs: Inputs, positions: Sequence[int]) -> torch.Tensor:
        """A draw from the posterior of each of these images, scaled: (N, C, H, W) on the CPU."""
        side, vae, found = pipe.unet.config.sample_size * pipe.vae_scale_factor, pipe.vae, []
        for part in parts(positions, self.diffusion_batch):
            pixels = torch.stack([TF.pil_to_tensor(TF.resize(inputs.real.picture(i), [side, side]))
                                  for i in part])
            posterior = vae.encode((pixels / 127.5 - 1).to(vae.device, vae.dtype)).latent_dist
            noise = [generator(inputs.seed, "posterior", i) for i in part]
            found.append((posterior.sample(noise) * vae.config.scaling_factor).cpu())
        return torch.cat(found)

    def paint(self, pipe: Any, latents: torch.Tensor, prompts: list[str], noise: list[torch.Generator], *,
              size: int) -> torch.Tensor:
        """Image-to-image: (N, C, H, W), a prompt and a generator each, to (N, 3, size, size) uint8."""
        painted = pipe(prompt=prompts, image=latents, negative_prompt=[self.negative_prompt] * len(prompts),
                       strength=self.strength, num_inference_steps=self.steps, guidance_scale=self.guidance,
                       generator=noise, output_type="pt").images
        pixels = (painted.float() * 255).round().to("cpu", torch.uint8)
        return torch.stack([TF.pil_to_tensor(TF.resize(  # Pillow's bicubic, as the public code has it
            TF.to_pil_image(own), [size, size], TF.InterpolationMode.BICUBIC)) for own in pixels])


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """A sequence in parts of `size`, the last one shorter."""
    return (items[i:i + size] for i in range(0, len(items), size))


def cluster_centres(batches: Iterable[numpy.ndarray], *, clusters: int, seed: int) -> numpy.ndarray:
    """Mini-batch k-means over one pass of batches, started by k-means++ in the first.   Source: D4M.

    Args:    batches: (N, F) each, the first of at least `clusters` rows.
    Returns: (clusters, F).
    """
    from sklearn.cluster import MiniBatchKMeans
    law = MiniBatchKMeans(clusters, random_state=seed, n_init=1)
    for batch in batches:
        law.partial_fit(batch)
    return numpy.asarray(law.cluster_centers_)


def class_prompts(class_names: list[str], path: str) -> list[str]:
    """The prompt of each class: its name with spaces for underscores, or what a file says.

    Raises: ValueError where names are WordNet's numbers, or the file has not one line for each class.
    """
    if not path:
        numbers = [name for name in class_names if re.fullmatch(r"n\d{8}", name)]
        require(not numbers, f"class {''.join(numbers[:1])} is named by a number of WordNet, which is no "
                f"prompt; name a file with --prompts: a line for each class, class name, tab, prompt")
        return [name.replace("_", " ") for name in class_names]
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--prompts {path}: cannot be read as text ({error})") from error
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    for row in rows:
        require(len(row) == 2 and row[1].strip(), f"--prompts {path}: {' '.join(row)[:60]!r}, expected a "
                f"class name, a tab and its prompt")
    found = {name: prompt.strip() for name, prompt in rows}
    wrong = sorted(found.keys() ^ set(class_names))
    require(not wrong and len(rows) == len(class_names), f"--prompts {path}: {len(rows)} lines for "
            f"{len(class_names)} classes, one each; {wrong[0] if wrong else 'a class'!r} is "
            + ("listed twice" if not wrong else "missing" if wrong[0] in class_names else "no class here"))
    return [found[name] for name in class_names]
