"""A pytest plugin for the tests of whole stages: what they share is made once a session.

A test file takes part with `pytest_plugins = ["stage_fixtures"]`.
"""
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import Tiny, contents, words, write_data

from models import diffusion, train_teachers
from utils.runtime import command_line


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    """Four classes of 16-pixel pictures and a pool of teachers that learnt them."""
    root = tmp_path_factory.mktemp("tiny")
    stages = Tiny(write_data(root / "data"), root / "teachers")
    train_teachers.main(stages.teacher_flags(stages.teachers))
    return stages


@pytest.fixture(scope="session")
def made(tiny, tmp_path_factory) -> Iterator[Path]:
    """A run that went through recover, relabel and validate; read it, or copy it first."""
    run = tiny.recover(tmp_path_factory.mktemp("made"))
    tiny.relabel(run)
    tiny.validate(run)
    before = contents(run)
    yield run
    assert contents(run) == before, "a test wrote into the run that the tests of this process share"


@pytest.fixture
def refused(monkeypatch, capfd):
    """f(main, argv): the one line with which a command line refuses its input, with exit status 2."""
    def run(main, argv) -> str:
        monkeypatch.setattr(sys, "argv", ["stage", *words(*argv)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line(main)
        assert ended.value.code == 2
        lines = capfd.readouterr().err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1 and lines[-1] == errors[0], lines
        return errors[0]
    return run


@pytest.fixture
def dry_run(monkeypatch, capfd):
    """f(main, argv): the plan that --dry-run prints, and the line with which it refuses; "" if it does not.

    The plan comes first, the line last; without a refusal the last line says that every check passed.
    """
    def run(main, argv) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["stage", *words(*argv, "--dry-run")])
        capfd.readouterr()
        status = 0
        try:
            command_line(main)
        except SystemExit as ended:
            status = ended.code
        shown = capfd.readouterr()
        lines = shown.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if status == 0:
            assert not errors and lines[-1].endswith("every check passed; without --dry-run it starts"), lines
            return shown.out, ""
        assert status == 2 and len(errors) == 1 and lines[-1] == errors[0], lines
        return shown.out, errors[0]
    return run


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """A folder as diffusers saves it: latents of 8 x 8 and 4 channels, images of 16 x 16, random weights."""
    diffusers, transformers, *_ = (pytest.importorskip(name, reason=f"{name}: scripts/setup.sh d4m")
                                   for name in diffusion.PACKAGES)
    folder = tmp_path_factory.mktemp("pipeline")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,"
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    spoken = tmp_path_factory.mktemp("tokenizer")  # in the two files of the public copy
    (spoken / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (spoken / "merges.txt").write_text("#version: 0.2\n")
    (spoken / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, "unk_token": "<|endoftext|>",
         "pad_token": "<|endoftext|>"}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = transformers.CLIPTextModel(transformers.CLIPTextConfig(
            vocab_size=len(words), hidden_size=8, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=16, bos_token_id=len(words) - 2,
            eos_token_id=len(words) - 1, pad_token_id=len(words) - 1))
        unet = diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8,
            norm_num_groups=4, attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
        vae = diffusers.AutoencoderKL(
            block_out_channels=(4, 8), norm_num_groups=4, latent_channels=4, sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
    scheduler = diffusers.PNDMScheduler(  # that of Stable Diffusion v1.5
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True,
        steps_offset=1, set_alpha_to_one=False)
    diffusers.StableDiffusionImg2ImgPipeline(
        vae=vae, text_encoder=text, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
        tokenizer=transformers.CLIPTokenizer.from_pretrained(spoken)).save_pretrained(folder)
    for path in (folder / "tokenizer").iterdir():
        path.unlink()
    for path in spoken.iterdir():
        path.rename(folder / "tokenizer" / path.name)
    return folder
