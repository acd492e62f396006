"""The start `latent` (D4M), by a tiny Stable Diffusion pipeline made here and loaded as a real one is.

What needs diffusers is skipped without it; what is refused is tested without it too.
"""
import dataclasses
import shutil
import sys
import types

import numpy
import pytest
import torch
from helpers import Tiny, contents, pixels_of, write_data, write_pictures
from PIL import Image

from models import diffusion
from recover import data_synthesis
from recover.selection import Pool
from recover.starts.latent import Latent, class_prompts, cluster_centres
from recover.units import Inputs, Unit
from utils.data import RealSet
from utils.pieces import identity
from utils.records import read_json
from utils.runtime import generator

pytest_plugins = ["stage_fixtures"]
MEAN, STD = (0.5,) * 3, (0.25,) * 3
COUNTS = {"ant_hill": 7, "bee": 5, "cat": 5}


@pytest.fixture
def inputs(tmp_path):
    """f(**changes): three classes of 20-pixel pictures, to be made into images of 12 pixels, IPC 2."""
    write_pictures(tmp_path / "train", COUNTS, size=20)
    real = RealSet(f"folder:{tmp_path}", "", "train", size=12)
    base = Inputs(real, Pool(("narrow_resnet",), "small"), {}, 0, 12, MEAN, STD, torch.device("cpu"), ipc=2)
    return lambda **changes: dataclasses.replace(base, **changes)


@pytest.fixture
def law(pipeline):
    """f(**options): the piece with the tiny pipeline and few steps."""
    return lambda **options: Latent(**{"diffusion_model": str(pipeline), "steps": 4, **options})


@pytest.fixture(scope="session")
def pipe(pipeline):
    return diffusion.load_pipeline(pipeline, device=torch.device("cpu"), dtype=torch.float32)


def unit(ipc_id, *classes):
    return Unit(ipc_id, 0, tuple((ipc_id, k) for k in classes))


# ---------------------------------------------------------------- k-means

def assign(centres, rows):
    return numpy.square(rows[:, None] - centres[None]).sum(2).argmin(1)


def mini_batches(first, batches):
    """Centres after batches, each centre the mean of all rows that came to it.   first: (K, F)."""
    centres, counts = first.copy(), numpy.zeros(len(first))
    for rows in batches:
        near = assign(centres, rows)
        for k in range(len(centres)):
            own = rows[near == k]
            if len(own):
                centres[k] = (counts[k] * centres[k] + own.sum(0)) / (counts[k] + len(own))
                counts[k] += len(own)
    return centres


@pytest.mark.parametrize("rest", [0, 3])
def test_centres_are_the_running_means_of_the_batches(rest):
    pytest.importorskip("sklearn", reason="scikit-learn is an extra: scripts/setup.sh digits")
    rng = numpy.random.default_rng(0)
    rows = rng.normal(0, 1, (5 * 4 + rest, 6)) + 4 * rng.integers(0, 3, (5 * 4 + rest, 1))
    batches = [rows[i:i + 5] for i in range(0, len(rows), 5)]
    got = cluster_centres(iter(batches), clusters=5, seed=3)
    expected = mini_batches(batches[0], batches)  # as many centres as rows: k-means++ takes every row
    assert numpy.allclose(got[numpy.lexsort(got.T)], expected[numpy.lexsort(expected.T)], atol=1e-12)
    assert not numpy.allclose(got, cluster_centres(iter(batches[:1]), clusters=5, seed=3))


def test_one_centre_is_the_mean_and_centres_hang_on_the_seed():
    pytest.importorskip("sklearn", reason="scikit-learn is an extra: scripts/setup.sh digits")
    rows = numpy.random.default_rng(1).normal(0, 1, (12, 4))
    one = cluster_centres([rows[:5], rows[5:]], clusters=1, seed=0)
    assert numpy.allclose(one, rows.mean(0), atol=1e-12)
    made = [cluster_centres([rows], clusters=3, seed=seed) for seed in (0, 0, 1)]
    assert (made[0] == made[1]).all() and (made[0] != made[2]).any()


# ---------------------------------------------------------------- latents and prototypes

def picture(path, k, i, side=16):
    name = list(COUNTS)[k]
    with Image.open(path / "train" / name / f"{i:02d}.png") as opened:
        small = opened.convert("RGB").resize((side, side), Image.BILINEAR)
    return torch.from_numpy(numpy.asarray(small).copy()).permute(2, 0, 1) / 127.5 - 1


@torch.no_grad()
def latent_by_hand(pipe, pixels, position):
    """mean + std * noise of the encoder's moments, times the scaling factor: (F,)."""
    mean, log_var = pipe.vae.quant_conv(pipe.vae.encoder(pixels[None])).chunk(2, 1)
    noise = torch.randn(mean.shape, generator=generator(0, "posterior", position))
    return ((mean + (log_var.clamp(-30, 20) / 2).exp() * noise) * 0.18215).flatten().double().numpy()


def test_prototypes_are_the_centres_of_a_classs_sampled_latents(inputs, law, pipe, tmp_path):
    given = inputs(ipc=2)
    made = law().prototypes(pipe, given, 0)
    assert made.shape == (2, 4, 8, 8) and made.dtype == torch.float32
    order = torch.randperm(7, generator=generator(0, "k-means", 0)).tolist()
    rows = numpy.stack([latent_by_hand(pipe, picture(tmp_path, 0, i), i) for i in order])
    expected = mini_batches(rows[:2], [rows[i:i + 2] for i in range(0, 7, 2)])  # the last batch: one row
    got = made.flatten(1).numpy()
    assert numpy.allclose(got[numpy.lexsort(got.T)], expected[numpy.lexsort(expected.T)], atol=1e-5)
    whole = law(km_expand=10).prototypes(pipe, inputs(ipc=1), 0)  # one centre: of all at once
    assert numpy.allclose(whole.flatten().numpy(), rows.mean(0), atol=1e-5)
    assert law().prototypes(pipe, inputs(ipc=9), 1).shape[0] == 5  # --allow-short-classes


# ---------------------------------------------------------------- painting

@torch.no_grad()
def painted_by_hand(pipe, prototype, prompt, member, *, steps, strength, guidance):
    """Noise to the strength, then denoise under guidance, step by step: (3, 16, 16) in 0..1."""
    def spoken(text):
        ids = pipe.tokenizer(text, padding="max_length", max_length=16, truncation=True,
                             return_tensors="pt").input_ids
        return pipe.text_encoder(ids)[0]
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps[steps - int(steps * strength):]
    noise = torch.randn((1, 4, 8, 8), generator=generator(0, "painting", *member))
    kept = scheduler.alphas_cumprod[times[0]]
    x = kept.sqrt() * prototype[None] + (1 - kept).sqrt() * noise
    for t in times:
        free, bound = (pipe.unet(x, t, encoder_hidden_states=spoken(text)).sample
                       for text in ("cartoon, anime, painting", prompt))
        x = scheduler.step(free + guidance * (bound - free), t, x).prev_sample
    return (pipe.vae.decode(x / 0.18215).sample[0] / 2 + 0.5).clamp(0, 1)


def test_an_image_is_painted_from_its_prototype_towards_its_prompt(inputs, law, pipe):
    given, own = inputs(), law(steps=6, strength=0.7)
    images = own.prepare(given)(unit(1, 0, 2))
    assert images.shape == (2, 3, 12, 12) and images.dtype == torch.float32
    for image, k, prompt in zip(images, (0, 2), ("ant hill", "cat"), strict=True):
        expected = painted_by_hand(pipe, own.prototypes(pipe, given, k)[1], prompt, (1, k), steps=6,
                                   strength=0.7, guidance=8.0)
        large = Image.fromarray((expected * 255).round().byte().permute(1, 2, 0).numpy())
        small = numpy.asarray(large.resize((12, 12), Image.BICUBIC), float).transpose(2, 0, 1) / 255
        assert abs(image.numpy() - (small - 0.5) / 0.25).max() < 1.5 / 255 / 0.25  # a grey level
        assert small.std() > 0.01


def test_equal_seeds_are_equal_images_in_any_order_of_units(inputs, law):
    given, units = inputs(), [unit(0, 0, 1), unit(1, 0, 1), unit(0, 2), unit(1, 2)]
    forth, back = law().prepare(given), law().prepare(given)
    made = {own: forth(own) for own in units}
    assert all(torch.equal(back(own), made[own]) for own in reversed(units))
    assert len({image.numpy().tobytes() for images in made.values() for image in images}) == 6
    other = law().prepare(inputs(seed=1))
    assert not any(torch.equal(other(own), made[own]) for own in units)
    small = law(diffusion_batch=1).prepare(given)  # to rounding
    assert all(abs(small(own) - made[own]).max() < 3 / 255 / 0.25 for own in units)
    one = law().prepare(given)(Unit(0, 0, ((0, 1), (1, 1))))  # --batching intra-class: a class's indices
    assert abs(one - torch.stack([made[units[0]][1], made[units[1]][1]])).max() < 3 / 255 / 0.25
    torch.manual_seed(5)  # nothing comes from global generators
    assert torch.equal(law().prepare(given)(units[2]), made[units[2]])


# ---------------------------------------------------------------- identity and prompts

def test_identity_is_the_files_and_prompts_and_not_where_they_lie(inputs, law, pipeline, tmp_path):
    real, copy = inputs().real, tmp_path / "copy"
    shutil.copytree(pipeline, copy)
    before = law().digests(real)
    assert sorted(before) == ["diffusion_model", "prompts"]
    assert law(diffusion_model=str(copy)).digests(real) == before
    (copy / "README.md").write_text("nothing that is read")
    assert law(diffusion_model=str(copy)).digests(real) == before
    for name in ("vae/config.json", "tokenizer/merges.txt", "unet/diffusion_pytorch_model.safetensors"):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content + b" ")
        assert law(diffusion_model=str(copy)).digests(real)["diffusion_model"] != before["diffusion_model"]
        (copy / name).write_bytes(content)
    (tmp_path / "prompts.txt").write_text("bee\tbee\ncat\tcat\nant_hill\tant hill\n")
    assert law(prompts=str(tmp_path / "prompts.txt")).digests(real) == before
    (tmp_path / "prompts.txt").write_text("bee\ta bee\ncat\tcat\nant_hill\tant hill\n")
    assert law(prompts=str(tmp_path / "prompts.txt")).digests(real)["prompts"] != before["prompts"]
    saved = identity(data_synthesis.RecoverConfig(init=law(prompts="x")))
    assert {"strength", "guidance", "km_expand", "negative_prompt", "diffusion_batch"} <= saved.keys()
    assert not {"diffusion_model", "prompts"} & saved.keys()


def test_all_images_of_a_units_classes_are_opened_first(inputs):
    real = inputs().real
    assert Latent().positions(real, unit(1, 0, 2), 0) == real.by_class[0] + real.by_class[2]
    assert Latent().positions(real, Unit(0, 0, ((0, 1), (1, 1))), 0) == real.by_class[1]
    assert Latent().available(real, 1) == 5 and Latent.whole_set


def test_prompts_are_names_or_a_file_of_names_in_any_order(tmp_path):
    assert class_prompts(["aquarium_fish", "bee"], "") == ["aquarium fish", "bee"]
    path = tmp_path / "prompts.txt"
    path.write_text("n2\tcrane, a bird\n\nn1\t tench \n", encoding="utf-8")
    assert class_prompts(["n1", "n2"], str(path)) == ["tench", "crane, a bird"]


@pytest.mark.parametrize("text, expected", [
    ("a\tx\n", "1 lines for 2 classes, one each; 'b' is missing"),
    ("a\tx\nb\ty\nc\tz\n", "3 lines for 2 classes, one each; 'c' is no class here"),
    ("a\tx\nb\ty\na\tz\n", "3 lines for 2 classes, one each; 'a class' is listed twice"),
    ("a\tx\nb\n", "'b', expected a class name, a tab and its prompt"),
    ("a\tx\nb\t \n", "expected a class name, a tab and its prompt"),
    ("a\tx\ty\nb\tz\n", "'a x y', expected a class name, a tab and its prompt"),
    (None, "cannot be read as text"),
    (b"\xff\xfe", "cannot be read as text")])
def test_other_files_of_prompts_are_refused(tmp_path, text, expected):
    path = tmp_path / "prompts.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"--prompts .*{expected}"):
        class_prompts(["a", "b"], str(path))


def test_a_number_of_wordnet_is_no_prompt():
    with pytest.raises(ValueError, match="class n01440764 is named by a number of WordNet.*--prompts"):
        class_prompts(["n01440764", "n01443537"], "")


@pytest.mark.parametrize("options, expected", [
    ({"strength": 0.1, "steps": 9}, "--strength 0.1 of --steps 9 is no step"),
    ({"strength": 0.0}, "--strength must be"), ({"km_expand": 0}, "--km-expand must be"),
    ({"guidance": float("nan")}, "--guidance must be")])
def test_options_out_of_range_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        Latent(**options)


# ---------------------------------------------------------------- what is missing, in one line

@pytest.fixture
def as_if_installed(monkeypatch):
    """The extra's packages as empty modules, a hub that has nothing and notes how it was asked."""
    asked = []

    def nothing(name, *, allow_patterns, local_files_only):
        asked.append(local_files_only)
        raise OSError("no network, no cache")
    for name in diffusion.PACKAGES:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download, hub.constants = nothing, types.SimpleNamespace(HF_HUB_CACHE="/the/cache")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return asked


@pytest.fixture
def tiny_flags(tmp_path):
    """Flags of a run that needs no teacher."""
    stages = Tiny(write_data(tmp_path / "data"), tmp_path / "teachers")
    return lambda *flags: stages.recover_flags(tmp_path / "out", "--init", "latent", "--iteration", 0, *flags)


@pytest.mark.parametrize("name", diffusion.PACKAGES)
def test_a_missing_package_is_one_line_and_no_folder(name, as_if_installed, monkeypatch, tiny_flags, refused,
                                                     tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    line = refused(data_synthesis.main, tiny_flags())
    assert f"--init latent needs the packages of requirements-d4m.txt, {name} does not load" in line
    assert line.endswith("pip install -r requirements-d4m.txt") and not (tmp_path / "out").exists()


def test_missing_weights_are_one_line_and_no_folder(as_if_installed, tiny_flags, dry_run, refused, tmp_path):
    line = refused(data_synthesis.main, tiny_flags())
    assert f"--diffusion-model {diffusion.STABLE_DIFFUSION}: no folder, not in the Hugging Face cache" in line
    assert f"put it into /the/cache (hf download {diffusion.STABLE_DIFFUSION})" in line
    assert as_if_installed == [True, False] and not (tmp_path / "out").exists()  # the cache first
    assert dry_run(data_synthesis.main, tiny_flags())[1] == line
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "model_index.json").write_text("{}")
    line = refused(data_synthesis.main, tiny_flags("--diffusion-model", tmp_path / "model"))
    assert f"--diffusion-model {tmp_path / 'model'}: scheduler/scheduler_config.json is missing" in line
    assert len(as_if_installed) == 4 and not (tmp_path / "out").exists()  # a folder is never asked of the hub


def test_a_wrong_file_of_prompts_is_one_line_and_no_folder(as_if_installed, tiny_flags, refused, tmp_path):
    (tmp_path / "prompts.txt").write_text("ant\tan ant\n")
    line = refused(data_synthesis.main, tiny_flags("--prompts", tmp_path / "prompts.txt"))
    assert "1 lines for 4 classes" in line and not (tmp_path / "out").exists()


def test_a_half_cached_model_is_completed_or_named(as_if_installed, monkeypatch, tmp_path):
    for name in diffusion.NEEDED[:-1]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    hub, asked = sys.modules["huggingface_hub"], []

    def fetch(name, *, allow_patterns, local_files_only):
        asked.append(local_files_only)
        if len(asked) == 4:
            (tmp_path / diffusion.NEEDED[-1]).write_text("{}")
        return str(tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", fetch)
    with pytest.raises(ValueError, match=f"not to be downloaded \\({diffusion.NEEDED[-1]}\\).*"):
        diffusion.find_pipeline("some/model", flag="--diffusion-model")
    assert diffusion.find_pipeline("some/model", flag="--diffusion-model") == tmp_path
    assert diffusion.find_pipeline("some/model", flag="--diffusion-model") == tmp_path
    assert asked == [True, False, True, False, True]


def test_a_damaged_or_other_pipeline_is_named(pipeline, tmp_path):
    shutil.copytree(pipeline, tmp_path / "copy")
    weights = tmp_path / "copy" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="copy: damaged, or no Stable Diffusion pipeline"):
        diffusion.load_pipeline(tmp_path / "copy", device=torch.device("cpu"), dtype=torch.float32)


# ---------------------------------------------------------------- through the stages

def test_recover_writes_painted_images_and_says_what_made_them(pipeline, tiny_flags, refused, tmp_path):
    flags = tiny_flags("--diffusion-model", pipeline, "--steps", 4, "--strength", 0.5)
    run = data_synthesis.main(flags)
    saved = read_json(run / "config.json")
    assert saved["weights"] == Latent(diffusion_model=str(pipeline)).digests(RealSet(
        f"folder:{tmp_path / 'data'}", "", "train", size=16)) and saved["whole_set"] == 2
    assert pixels_of(run).shape == (8, 16, 16, 3)
    before = contents(run)
    (run / "units" / "ipc0001_chunk01.json").unlink()  # made anew, alone, to the same bytes
    assert contents(data_synthesis.main(flags)) == before
    line = refused(data_synthesis.main, [*flags, "--ipc-end", "3"])
    assert "whole_set is 2 there and 3 here" in line
    (tmp_path / "prompts.txt").write_text("ant\tan ant\nbee\tbee\ncat\tcat\ndog\tdog\n")
    line = refused(data_synthesis.main, [*flags, "--prompts", str(tmp_path / "prompts.txt")])
    assert "weights.prompts is" in line


@pytest.mark.slow
def test_d4m_through_the_three_stages(pipeline, tiny, tmp_path):
    flags = ("--init", "latent", "--iteration", 0, "--diffusion-model", pipeline)
    run = tiny.recover(tmp_path, *flags)
    by_class = tiny.recover(tmp_path, *flags, "--exp-name", "by-class", "--batching", "intra-class")
    assert abs(pixels_of(run) - pixels_of(by_class)).max() <= 2  # equal to rounding
    tiny.relabel(run)
    summary = tiny.validate(run)
    assert summary["n"] == 2
    assert sorted(summary["results"][0]["images_teachers"]) == ["diffusion_model", "prompts"]
