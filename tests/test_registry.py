"""The zoo: every entry builds with its stems, and weights load, or are refused with a reason."""
import json

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from models import train_teachers
from models.optimizers import parameter_groups
from models.registry import (
    MODELS,
    ModelSpec,
    build_model,
    build_skeleton,
    find_weights,
    has_batchnorm,
    load_teacher,
    load_teachers,
    load_weights,
    model_spec,
    names_that,
    parse_weights,
    penultimate,
    read_state_dict,
)
from utils.files import sha256_file
from validate.losses import MSE
from validate.training import Learner, Recipe, train_batch

pytest_plugins = ["stage_fixtures"]
NARROW = [name for name in MODELS if name.startswith("narrow_")]
PUBLIC = [name for name in MODELS if name in torchvision.models.list_models(module=torchvision.models)]
IMAGENET_ONLY = {"convnext_tiny", "vit_b_16", "swin_t"}
STEMS = (("imagenet", 224), ("small", 32))


# ---------------------------------------------------------------- networks

@pytest.mark.parametrize("name", ["wide_resnet50_2", "regnet_y_400mf", "densenet121", "vgg11_bn"])
def test_any_torchvision_classifier_is_a_network(name):
    logits = build_skeleton(name, num_classes=7)(torch.empty(2, 3, 224, 224, device="meta"))
    assert logits.shape == (2, 7) and model_spec(name).filename.startswith(name)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "fasterrcnn_resnet50_fpn", "resnet19"])
def test_other_names_are_unknown(name):
    with pytest.raises(ValueError, match=f"unknown network '{name}'; expected one of resnet18"):
        model_spec(name)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5",
                                  "convnext_tiny", "vit_b_16", "swin_t"])
def test_every_family_learns_as_a_student(name):
    """One step at the size it is built for; the loss and every gradient are finite."""
    torch.manual_seed(0)
    student = build_model(name, num_classes=5)
    learner = Learner(student, torch.optim.AdamW(parameter_groups(student, 0.01), lr=1e-3), precision="fp32",
                      device=torch.device("cpu"))
    recipe = Recipe(loss=MSE(ce_weight=0.1), micro_batches=1, mean=(0.5,) * 3, std=(0.2,) * 3, epochs=1,
                    rate=lambda epoch: 1e-3)
    before = [p.clone() for p in student.parameters()]
    loss = train_batch(learner, torch.randn(2, 3, 224, 224), torch.randn(2, 5), torch.tensor([1, 3]), recipe)
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in student.parameters())
    learner.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))


def check_shapes(name, stem, size):
    """Logits and penultimate features, by shapes alone; or the stem is refused, naming the other."""
    try:
        model = build_skeleton(name, num_classes=7, stem=stem).eval()
    except ValueError as refused:
        other, = {"imagenet", "small"} - {stem}
        assert f"--stem {other}" in str(refused)
        return
    with torch.device("meta"):
        images = torch.zeros(2, 3, size, size)
        assert model(images).shape == (2, 7)
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        assert penultimate(model)(images).shape == (2, last.in_features)


def check_eval(name, size=32):
    """In eval mode an image's logits are its own, the same every time, and draw no random numbers."""
    torch.manual_seed(0)
    model = build_model(name, num_classes=7, stem="small")
    images, drawn = torch.randn(3, 3, size, size), torch.get_rng_state()
    trained = model(images)
    assert trained.shape == (3, 7) and trained.requires_grad
    torch.set_rng_state(drawn)
    alone = model.eval()(images[1:2])
    assert torch.equal(torch.get_rng_state(), drawn) and torch.equal(model(images), model(images))
    torch.testing.assert_close(model(images)[1:2], alone, rtol=1e-4, atol=1e-5)
    layers, calls = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)], []
    for layer in layers:
        layer.register_forward_pre_hook(lambda own, _: calls.append(own))
    model(images)
    assert len(calls) == len(set(calls)) == len(layers)
    assert all(layer.running_mean is not None for layer in layers)


@pytest.mark.parametrize("stem, size", STEMS)
@pytest.mark.parametrize("name", MODELS)
def test_every_entry_builds_and_gives_logits_and_features(name, stem, size):
    check_shapes(name, stem, size)


@pytest.mark.parametrize("name", [*NARROW, *(name for name in MODELS if name not in (*PUBLIC, *NARROW)),
                                  "resnet18", "mobilenet_v2"])
def test_an_image_has_its_own_logits_in_eval_mode(name):
    check_eval(name)


class Guest(nn.Module):
    """A network of someone else's, by the contract of models/README.md: one stem, a head that is no attribute
    of the network itself."""

    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                                  nn.AvgPool2d(2), nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12))
        self.top = nn.ModuleDict({"head": nn.Linear(12, num_classes)})

    def forward(self, x):
        x = torch.relu(self.body(x)).mean((2, 3))
        return self.top["head"](F.dropout(x, 0.1, self.training))


def build_guest(num_classes, stem):
    return Guest(num_classes)


@pytest.fixture
def guest(monkeypatch):
    """The name of a network that someone added: one line."""
    monkeypatch.setitem(MODELS, "guest20", ModelSpec(build_guest))
    return "guest20"


def test_a_network_added_by_the_contract_passes_the_checks_of_all(guest, tiny, tmp_path, capfd):
    for stem, size in STEMS:
        check_shapes(guest, stem, size)
    check_eval(guest)
    train_teachers.main(tiny.teacher_flags(tmp_path / "teachers", "--models", guest, "narrow_plain"))
    flags = ("--weights-dir", tmp_path / "teachers", "--pool", guest, "narrow_plain", "--arch-name", guest,
             "--min-teacher-accuracy", 0, "--iteration", 1)
    capfd.readouterr()
    run = tiny.recover(tmp_path, *flags)
    assert f"{guest} 2 of 2, narrow_plain 3 of 3" in capfd.readouterr().err
    tiny.relabel(run, *flags[:-2])
    assert tiny.validate(run, "--model", guest)["n"] == 2


def test_a_network_with_one_stem_may_refuse_the_other(guest, monkeypatch):
    def build(num_classes, stem):
        if stem == "imagenet":
            raise ValueError("guest20 is for small images; use --stem small")
        return Guest(num_classes)
    monkeypatch.setitem(MODELS, guest, ModelSpec(build))
    for stem, size in STEMS:
        check_shapes(guest, stem, size)


@pytest.mark.parametrize("name", sorted(IMAGENET_ONLY))
def test_a_network_without_a_small_stem_says_so(name):
    with torch.device("meta"), pytest.raises(ValueError, match="no small-image stem.*--stem imagenet"):
        build_model(name, num_classes=7, stem="small")


@pytest.mark.parametrize("name", [n for n in (*PUBLIC, *NARROW) if n not in IMAGENET_ONLY])
def test_a_small_stem_neither_strides_nor_pools(name):
    def sides(stem):
        """The side of what the first convolution gives, and of what the second takes in."""
        seen, model = [], build_model(name, num_classes=7, stem=stem).eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(
                    lambda _, inputs, out: seen.append((inputs[0].shape[-1], out.shape[-1])))
        model(torch.zeros(1, 3, 64, 64))
        return seen[0][1], seen[1][0]
    with torch.device("meta"):
        after, before_second = sides("small")
        assert after == 64 > sides("imagenet")[0]
        assert before_second == 64 or name in NARROW  # two of these pool by design


def test_five_narrow_networks_have_batchnorm_and_one_has_none():
    with_bn = names_that(NARROW, has_batchnorm, stem="small")
    assert len(with_bn) >= 5 and len(NARROW) - len(with_bn) >= 1
    assert {n for n in NARROW if has_batchnorm(build_model(n, num_classes=3, stem="small"))} == set(with_bn)


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("size", [8, 16, 28])
def test_narrow_networks_are_small_and_take_small_images(name, size):
    model = build_model(name, num_classes=10, stem="small")
    assert 10_000 < sum(p.numel() for p in model.parameters()) < 110_000
    assert torch.isfinite(model(torch.randn(2, 3, size, size))).all()


def test_penultimate_features_give_the_logits_through_the_last_layer(gen):
    for name in NARROW:
        model = build_model(name, num_classes=4, stem="small").eval()
        images = torch.randn(3, 3, 16, 16, generator=gen)
        last, logits = [m for m in model.modules() if isinstance(m, nn.Linear)][-1], model(images)
        torch.testing.assert_close(penultimate(model)(images) @ last.weight.T + last.bias, logits)


def test_public_weights_are_the_first_version():
    public = {name: spec.weights for name, spec in MODELS.items() if spec.weights}
    assert set(public) == set(PUBLIC)
    assert {weights.name for weights in public.values()} == {"IMAGENET1K_V1"}
    assert MODELS["resnet50"].accuracy == pytest.approx(0.76130)  # V2 has 0.80858
    assert MODELS["resnet18"].filename == "resnet18-f37072fd.pth"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'resnet19'.*resnet18.*narrow_plain"):
        model_spec("resnet19")


# ---------------------------------------------------------------- weights files

@pytest.fixture
def net(gen):
    """A small network with statistics of its own."""
    torch.manual_seed(0)
    model = build_model("narrow_plain", num_classes=4, stem="small")
    model(torch.randn(8, 3, 16, 16, generator=gen))
    return model.eval()


@pytest.mark.parametrize("wrap", [
    lambda state: state, lambda state: {"state_dict": state, "epoch": 3}, lambda state: {"model": state},
    lambda state: {f"module.{key}": value for key, value in state.items()},
    lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
], ids=["bare", "state_dict", "model", "module.", "both", "old"])
def test_state_dicts_load_in_every_wrapping(wrap, net, tmp_path, gen):
    torch.save(wrap(net.state_dict()), tmp_path / "w.pt")
    model = build_model("narrow_plain", num_classes=4, stem="small").eval()
    load_weights(model, tmp_path / "w.pt", name="narrow_plain")
    images = torch.randn(2, 3, 16, 16, generator=gen)
    assert torch.equal(model(images), net(images))


@pytest.mark.parametrize("change, named", [
    (lambda state: state.update({"5.2.weight": torch.zeros(9, 64)}),
     r"5\.2\.weight is \(9, 64\), expected \(4, 64\)"),
    (lambda state: state.pop("2.1.running_var"), r"2\.1\.running_var is nothing, expected \(48,\)"),
    (lambda state: state.update({"extra": torch.zeros(2)}), r"extra is \(2,\), expected nothing"),
], ids=["shape", "missing", "extra"])
def test_weights_that_do_not_fit_name_the_tensor(change, named, net, tmp_path):
    state = dict(net.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt: does not fit narrow_plain: " + named):
        load_weights(net, tmp_path / "w.pt", name="narrow_plain")


def test_what_is_no_state_dict_is_refused(net, tmp_path):
    torch.save(net, tmp_path / "pickled.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    for name in ("pickled", "text"):
        with pytest.raises(ValueError, match=rf"{name}\.pt: damaged, or not a weights file.*weights_only"):
            read_state_dict(tmp_path / f"{name}.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"lr": 0.1}, tmp_path / "numbers.pt")
    for name in ("list", "numbers"):
        with pytest.raises(ValueError, match=rf"{name}\.pt: expected a state dict"):
            read_state_dict(tmp_path / f"{name}.pt")
    with pytest.raises(ValueError, match="gone.pt: no such weights file"):
        read_state_dict(tmp_path / "gone.pt")


# ---------------------------------------------------------------- teachers

def teacher_from(path, *, stem="small"):
    return load_teacher("narrow_plain", path, num_classes=4, stem=stem, device=torch.device("cpu"))


def test_a_teacher_is_frozen_and_carries_its_record(net, tmp_path):
    path = tmp_path / "narrow_plain.pt"
    torch.save(net.state_dict(), path)
    bare = teacher_from(path)
    assert bare.accuracy is None and bare.class_names is None and bare.sha256 == sha256_file(path)
    assert not bare.model.training and not any(p.requires_grad for p in bare.model.parameters())
    record = {"accuracy": 0.9, "class_names": list("abcd"), "stem": "small"}
    path.with_suffix(".json").write_text(json.dumps(record))
    known = teacher_from(path)
    assert (known.accuracy, known.class_names, known.sha256) == (0.9, list("abcd"), bare.sha256)
    with pytest.raises(ValueError, match="trained with --stem small.*--stem imagenet"):
        teacher_from(path, stem="imagenet")


def test_a_damaged_record_is_named(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "narrow_plain.pt")
    (tmp_path / "narrow_plain.json").write_text('{"accuracy": ')
    with pytest.raises(ValueError, match="narrow_plain.json"):
        teacher_from(tmp_path / "narrow_plain.pt")


def test_weights_are_found_by_flag_then_folder_then_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    places = [tmp_path / "given.pth", tmp_path / "alexnet.pt", tmp_path / "alexnet-owt-7be5be79.pth",
              tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    for path in places:
        path.write_bytes(b"")
    for path in places:
        assert find_weights("alexnet", weights={"alexnet": str(path)} if path == places[0] else {},
                            weights_dir=str(tmp_path), dataset="imagenet-1k") == path
        path.unlink()


def test_missing_weights_name_the_file(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    places = {"weights_dir": str(tmp_path), "num_classes": 4, "stem": "small", "device": torch.device("cpu")}
    with pytest.raises(ValueError, match=r"narrow_plain on digits.*narrow_plain\.pt.*train_teachers"):
        load_teachers(["narrow_plain"], weights=(), dataset="digits", **places)
    with pytest.raises(ValueError, match="resnet18 on imagenet-1k: expected gone.pth"):
        load_teachers(["resnet18"], weights=("resnet18=gone.pth",), dataset="imagenet-1k", **places)
    with pytest.raises(ValueError, match=r"resnet18-f37072fd\.pth.*hub.*--weights-dir"):
        load_teachers(["resnet18"], weights=(), dataset="imagenet-1k", **places)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_download_is_checked_against_the_hash_in_its_name(name, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file",
                        lambda url, to, hash_prefix: asked.append((url, hash_prefix)))
    find_weights(name, weights={}, weights_dir="", dataset="imagenet-1k")
    (url, digest), = asked
    assert digest and url.endswith(f"-{digest}.pth")


def test_weights_pairs():
    assert parse_weights(("resnet18=a=b.pt", "alexnet=c")) == {"resnet18": "a=b.pt", "alexnet": "c"}
    for pair, named in (("resnet18", "name=path"), ("resnet19=x", "resnet19")):
        with pytest.raises(ValueError, match=named):
            parse_weights((pair,))


@pytest.mark.parametrize("name", [n for n in MODELS if n not in IMAGENET_ONLY])
def test_a_small_stem_keeps_the_channels_and_the_bias_of_the_first_convolution(name):
    with torch.device("meta"):
        small, published = (next(m for m in build_model(name, num_classes=7, stem=stem).modules()
                                 if isinstance(m, nn.Conv2d)) for stem in ("small", "imagenet"))
    assert (small.in_channels, small.out_channels, small.bias is None) \
        == (published.in_channels, published.out_channels, published.bias is None)
    assert small.kernel_size == (3, 3) and small.padding == (1, 1)
