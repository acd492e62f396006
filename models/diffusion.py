"""A Stable Diffusion pipeline as image-to-image: where its files are found, what they are, how it is loaded.

diffusers, transformers and accelerate are an extra, requirements-d4m.txt, imported only where a start asks.
"""
import importlib
from pathlib import Path
from typing import Any

import torch

from utils.files import sha256_file, sha256_json
from utils.pieces import require
from utils.runtime import say

STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # the first owner's copy is gone
PACKAGES = ("diffusers", "transformers", "accelerate", "sklearn")
NEEDED = ("model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json",
          "text_encoder/config.json", "text_encoder/model.safetensors",
          "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
          "vae/config.json", "vae/diffusion_pytorch_model.safetensors")
READ = (*NEEDED, "tokenizer/*.json", "tokenizer/*.txt")  # half of a public copy: no second format, no checker


def check_packages(flag: str) -> None:
    """Imports the extra.   Raises: ValueError saying what is missing and what installs it."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError) as error:  # diffusers says the second of packages that do not fit
            raise ValueError(f"{flag} needs the packages of requirements-d4m.txt, {name} does not load "
                             f"({error}): pip install -r requirements-d4m.txt") from error


def find_pipeline(name: str, *, flag: str) -> Path:
    """The folder of a pipeline: a folder, else a name of the Hugging Face hub, from its cache or downloaded.

    Raises: ValueError that names the files that are missing, where they belong, and the flag.
    """
    if Path(name).is_dir():
        missing = _missing(Path(name))
        require(not missing, f"{flag} {name}: {missing} is missing; expected a folder as diffusers saves a "
                f"Stable Diffusion pipeline, its weights as safetensors")
        return Path(name)
    from huggingface_hub import constants, snapshot_download
    cache, missing = constants.HF_HUB_CACHE, ""
    for local in (True, False):
        if not local:
            say(f"{name}: not whole in {cache}; downloads what is missing there, up to 4 GB")
        try:
            folder = Path(snapshot_download(name, allow_patterns=list(READ), local_files_only=local))
        except Exception as error:  # the hub's own kinds, the network's, and those of a bad name
            missing = type(error).__name__
            continue
        missing = _missing(folder)
        if not missing:
            return folder
    raise ValueError(f"{flag} {name}: no folder, not in the Hugging Face cache, and not to be downloaded "
                     f"({missing}); put it into {cache} (hf download {name}), or name a folder that holds "
                     f"model_index.json and the rest of a Stable Diffusion pipeline")


def _missing(folder: Path) -> str:
    return next((name for name in NEEDED if not (folder / name).is_file()), "")


def pipeline_digest(folder: Path) -> str:
    """SHA-256 of all files that a pipeline is read from: its settings, its vocabulary, its weights."""
    files = sorted({path.relative_to(folder).as_posix() for law in READ for path in folder.glob(law)})
    return sha256_json({name: sha256_file(folder / name) for name in files})


def load_pipeline(folder: Path, *, device: torch.device, dtype: torch.dtype) -> Any:
    """The image-to-image pipeline of a folder, without a safety checker: a blackened image is no sample.

    Raises: ValueError where the folder is damaged, or holds another kind of pipeline.
    """
    from diffusers import StableDiffusionImg2ImgPipeline
    for package in ("diffusers", "transformers"):
        importlib.import_module(f"{package}.utils.logging").disable_progress_bar()
    importlib.import_module("diffusers.utils.logging").set_verbosity_error()  # .to() warns of nothing
    try:
        pipe = StableDiffusionImg2ImgPipeline.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False)
        square = isinstance(pipe.unet.config.sample_size, int)
    except Exception as error:  # safetensors, json, torch and diffusers each have kinds of their own
        raise ValueError(f"{folder}: damaged, or no Stable Diffusion pipeline "
                         f"({type(error).__name__}: {str(error)[:200]})") from error
    require(square and pipe.vae.config.latent_channels == 4,
            f"{folder}: expected square images and latents of 4 channels, as of Stable Diffusion 1 and 2")
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device=device, dtype=dtype)
