"""Which network measures, and that its features are the penultimate ones of normalised images."""
import dataclasses
import shutil

import pytest
import torch
from helpers import POOL

from models.registry import MODELS, build_model
from utils.data import RealSet
from utils.flags import WeightFlags
from utils.formats import ImageManifest
from utils.image_sets import open_images
from validate import features

pytest_plugins = ["stage_fixtures"]
CPU = torch.device("cpu")


def set_of(folder, *, weights=(), dataset="imagenet-1k", stem="imagenet", config=None) -> ImageManifest:
    return ImageManifest(
        run=folder, dataset=dataset, class_names=["a", "b"], ipc=1, size=16, mean=(0.5,) * 3, std=(0.5,) * 3,
        stem=stem, saved={"units": [], "weights": dict.fromkeys(weights, ""), "config": config or {}})


def test_on_imagenet_the_default_is_of_a_family_that_no_published_pool_has(tmp_path):
    def chosen(*sets, **flags):
        return features.choose_network([set_of(tmp_path, weights=weights) for weights in sets],
                                       WeightFlags(**flags), stem="imagenet")
    prism = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet")
    assert chosen(prism) == chosen(()) == "convnext_tiny"
    assert chosen(prism, ("convnext_tiny",)) == "swin_t"  # of two sets neither's teacher
    assert chosen(prism, ("convnext_tiny", "swin_t")) == "resnet34"
    everybody = [name for name, spec in MODELS.items() if spec.weights]
    assert chosen(everybody) == "resnet18"  # the paper's, where all taught
    (tmp_path / "vgg11.pt").touch()
    (tmp_path / "mine.pt").touch()
    assert chosen(everybody, weights_dir=str(tmp_path)) == "vgg11"
    assert chosen(everybody, weights=("regnet_x_400mf=r.pt",)) == "regnet_x_400mf"


def test_elsewhere_the_default_is_of_the_weights_that_are_named(tmp_path):
    def chosen(*weights, flags=None, **about):
        images = set_of(tmp_path, weights=weights, dataset="digits", stem="small", **about)
        return features.choose_network([images], flags or WeightFlags(weights_dir=str(tmp_path)),
                                       stem="small")
    with pytest.raises(ValueError, match="models.train_teachers.*--weights-dir"):
        chosen()
    for name in ("narrow_plain", "narrow_mobilenet", "narrow_alexnet"):
        (tmp_path / f"{name}.pt").touch()
    assert chosen() == "narrow_mobilenet" and chosen("narrow_mobilenet") == "narrow_plain"
    assert chosen(flags=WeightFlags(weights=("narrow_resnet=x.pt",))) == "narrow_resnet"
    taught = ("narrow_mobilenet", "narrow_plain", "narrow_alexnet")
    assert chosen(*taught, config={"arch_name": "narrow_alexnet"}) == "narrow_alexnet"
    assert chosen(*taught, config={"arch_name": "narrow_resnet"}) == "narrow_mobilenet"


def test_who_made_the_labels_taught(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--teachers", "single", "--iteration", 1)
    images = open_images(str(run), flag="--data")
    assert features.teachers_of(images) == {POOL[0]}
    flags = WeightFlags(weights_dir=str(tiny.teachers))
    assert features.choose_network([images], flags, stem=images.stem) == POOL[1]
    tiny.relabel(run)
    assert features.teachers_of(images) == {POOL[0], POOL[1], POOL[3]}
    network = features.open_network("", images, flags, device=CPU)
    assert (network.name, network.taught) == (POOL[2], False)
    assert features.open_network(POOL[1], images, flags, device=CPU).taught


def test_what_is_said_of_the_network(tiny, tmp_path, capfd):
    run = tiny.recover(tmp_path)
    only = tmp_path / "only"
    only.mkdir()
    for path in tiny.teachers.glob(f"{POOL[0]}.*"):
        shutil.copyfile(path, only / path.name)
    images = open_images(str(run), flag="--data")
    flags = WeightFlags(weights_dir=str(only))
    assert features.open_network("", images, flags, device=CPU).taught
    told = capfd.readouterr().err
    assert f"{POOL[0]} measures, which taught these images or their labels, as all did" in told
    foreign = dataclasses.replace(set_of(tmp_path, dataset=images.dataset, stem=images.stem),
                                  class_names=images.class_names)
    assert not features.open_network("", foreign, flags, device=CPU).taught
    assert "teachers are not recorded" in capfd.readouterr().err
    with pytest.raises(ValueError, match="narrow_plain"):
        features.open_network("narrow_plain", images, flags, device=CPU)


def test_features_are_of_normalised_images_in_their_order(tiny, tmp_path):
    run = tiny.recover(tmp_path, "--iteration", 0, "--image-format", "png")
    images = open_images(str(run), flag="--data")
    network = features.open_network(POOL[2], images, WeightFlags(weights_dir=str(tiny.teachers)), device=CPU)
    real = RealSet(images.dataset, "", "train", size=16)
    positions = [own[i] for own in real.by_class for i in range(2)]
    seen, labels = map(torch.cat, zip(*features.real_features(network, real, positions, images, CPU),
                                      strict=True))
    whole = build_model(POOL[2], num_classes=4, stem=images.stem)
    whole.load_state_dict(torch.load(tiny.teachers / f"{POOL[2]}.pt", weights_only=True))
    kept = []
    [module for module in whole.modules() if isinstance(module, torch.nn.Linear)][-1] \
        .register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    pixels = torch.stack([real[i][0] for i in positions]) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (images.mean, images.std))
    with torch.no_grad():
        whole.eval()((pixels - mean) / std)
    assert torch.allclose(seen, kept[0], atol=1e-5) and labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    made, labels = map(torch.cat, zip(*features.distilled_features(
        network, images, images.select(0), CPU), strict=True))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and made.dtype == torch.float32
    assert torch.allclose(made, seen, atol=1e-5)
