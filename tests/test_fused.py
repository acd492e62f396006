"""The fused engine against the readable reference: equal terms and gradients for all networks."""
import functools

import pytest
import torch
import torch._dynamo
from torch import nn

from models.frozen import FrozenConv2d
from models.registry import MODELS, build_model
from recover.alignments import ALIGNMENTS
from recover.alignments.fused import ConvNormAct, FusedBNAlignment, rewrite
from recover.objective import Objective
from recover.priors import L2, TotalVariation
from recover.selection import Draw, Pool
from recover.units import Inputs

N, SIZE = 3, 32
FUSED = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "mnasnet1_0",
         "narrow_resnet", "narrow_mobilenet", "narrow_efficientnet", "narrow_shufflenet", "narrow_plain")
SIBLINGS = {"resnet34", "resnet50", "resnet101", "shufflenet_v2_x1_0"}  # deeper ones of those
WITHOUT = {"alexnet", "narrow_alexnet", "convnext_tiny", "vit_b_16", "swin_t"}


def calibrated(model: nn.Module) -> nn.Module:
    """The network in float64, frozen, with the running statistics of random images."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(5):
            model.train()(torch.randn(8, 3, SIZE, SIZE) + 0.3)
    return model.eval().requires_grad_(False).double()


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    try:
        return calibrated(build_model(name, num_classes=5, stem="small"))
    except ValueError:  # it has the other stem alone
        return calibrated(build_model(name, num_classes=5, stem="imagenet"))


def draw(primary: str, *aligned: str, reduce: str = "mean") -> Draw:
    """Phi and the aligned teachers, weighted as --bn-reduce says."""
    return Draw({primary: 1.0}, dict.fromkeys(aligned, 1 / len(aligned) if reduce == "mean" else 1.0))


def step(engine: str, models: dict, draws: list[Draw], *, size: int = SIZE, priors=None, variance=1.0):
    """The terms of every slice and the gradient on its images, (S, N, 3, H, W)."""
    torch.manual_seed(2)
    images = torch.randn(len(draws), N, 3, size, size, dtype=torch.float64).requires_grad_()
    alignment = ALIGNMENTS["bn"](engine=engine, first_bn_multiplier=10.0, r_bn=0.01,
                                 bn_variance_weight=variance)
    inputs = Inputs(real=None, pool=Pool(tuple(models)), networks=models, seed=0, size=size,
                    mean=(0.5,) * 3, std=(0.2,) * 3, device=torch.device("cpu"))
    objective = Objective(alignment.prepare(inputs, tuple(models)), weight=alignment.r_bn, priors=priors,
                          keep_graphs=alignment.keeps_graphs)
    terms = objective.backward([slice_ * 1.5 for slice_ in images], torch.arange(N), draws)
    return terms, images.grad


def assert_equal_steps(models: dict, draws: list[Draw], **settings):
    """Both engines give the same step to float64's rounding."""
    (a, grad), (b, fused) = (step(engine, models, draws, **settings) for engine in ("reference", "fused"))
    assert [list(own) for own in a] == [list(own) for own in b]
    for own, other in zip(a, b, strict=True):
        for name, value in own.items():
            assert other[name].item() == pytest.approx(value.item(), rel=1e-10), name
    assert grad.abs().max() > 0
    assert (grad - fused).abs().max() <= 1e-10 * grad.abs().max()


@pytest.mark.parametrize("name", [name for name in MODELS if name not in SIBLINGS | WITHOUT])
def test_one_teacher(name):
    assert_equal_steps({name: network(name)}, [draw(name, name)])


@pytest.mark.parametrize("variance", [0.0, 2.0, 11.0])
def test_the_variances_own_weight(variance):
    models = {name: network(name) for name in ("narrow_resnet", "narrow_efficientnet")}
    assert_equal_steps(models, [draw(*models, *models)], variance=variance)


@pytest.mark.parametrize("name", FUSED)
def test_every_batchnorm_is_fused_and_no_convolution_keeps_its_input(name):
    model = network(name)
    multipliers = {m: 1.0 for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    num = len(multipliers)
    rewritten = rewrite(model, multipliers=multipliers, tape=None)
    kinds = [type(m) for m in rewritten.modules()]
    assert not multipliers and kinds.count(ConvNormAct) == num
    wrapped = {id(m.conv) for m in rewritten.modules() if isinstance(m, ConvNormAct | FrozenConv2d)}
    assert all(id(m) in wrapped for m in rewritten.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_slices_with_their_own_teachers_and_priors(reduce):
    models = {name: network(name) for name in ("narrow_resnet", "narrow_mobilenet", "narrow_alexnet")}
    draws = [draw(*names, reduce=reduce) for names in (
        ("narrow_resnet", "narrow_resnet", "narrow_mobilenet"),
        ("narrow_mobilenet", "narrow_resnet", "narrow_alexnet"),
        ("narrow_alexnet", "narrow_mobilenet", "narrow_resnet", "narrow_alexnet"),
        ("narrow_resnet", "narrow_alexnet"))]
    assert_equal_steps(models, draws, priors={"tv": TotalVariation(tv_l2=1e-3), "l2": L2(l2_scale=1e-2)})


def test_several_cross_entropies_and_alignments_with_weights_of_their_own():
    models = {name: network(name) for name in ("narrow_resnet", "narrow_mobilenet", "narrow_alexnet")}
    weighted = Draw({"narrow_mobilenet": 0.3, "narrow_alexnet": 2.0, "narrow_resnet": 0.5},
                    {"narrow_alexnet": 0.7, "narrow_resnet": 5.0, "narrow_mobilenet": 0.2})
    assert_equal_steps(models, [weighted, Draw({"narrow_resnet": 1.0}, {})])


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_silent_teacher_that_is_not_the_primary_is_not_run(engine, monkeypatch):
    models = {name: network(name) for name in ("narrow_plain", "narrow_alexnet")}
    monkeypatch.setattr(models["narrow_alexnet"], "forward", None)
    terms, _ = step(engine, models, [draw("narrow_plain", "narrow_plain", "narrow_alexnet")])
    assert terms[0]["bn/narrow_alexnet"] == 0


class Odd(nn.Module):
    """What the rewriting does not know: shared outputs, reflection, BatchNorm first, other activations."""

    def __init__(self, *, branch: bool):
        super().__init__()
        self.branch = branch
        self.first = nn.BatchNorm2d(3, affine=False)
        self.shared = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.mirror = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.mirror_norm = nn.BatchNorm2d(4)
        self.biased = nn.Conv2d(4, 6, 3, stride=2, groups=2, dilation=2, padding=1)
        self.biased_norm, self.gelu = nn.BatchNorm2d(6, eps=1e-2), nn.GELU()
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.shared(self.first(x))
        x = x + self.norm(x)
        if self.branch and x.mean() > 1e9:  # data-dependent control flow: fx cannot trace it
            x = -x
        x = torch.relu(self.mirror_norm(self.mirror(x)))
        x = self.gelu(self.biased_norm(self.biased(x)))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("branch", [False, True])
def test_unknown_layers_fall_back(branch, capsys, monkeypatch):
    monkeypatch.setattr("utils.runtime._said", set())
    torch.manual_seed(3)
    models = {"odd": calibrated(Odd(branch=branch)), "narrow_plain": network("narrow_plain")}
    assert_equal_steps(models, [draw("narrow_plain", "narrow_plain", "odd"), draw("odd", "odd")])
    assert ("Odd cannot be traced" in capsys.readouterr().err) == branch


def test_the_teacher_itself_is_left_as_it_was():
    model = network("narrow_mobilenet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(N, 3, SIZE, SIZE, dtype=torch.float64)
    logits = model(images)
    step("fused", {"narrow_mobilenet": model}, [draw("narrow_mobilenet", "narrow_mobilenet")])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(model(images), logits)


def test_one_tensor_a_layer_is_kept():
    """The fused graph of a convolution, BatchNorm and ReLU keeps u alone; autograd's keeps more its size."""
    kept = {}
    model = calibrated(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
                                     nn.Linear(8 * 30 * 30, 5)))
    for engine in ("reference", "fused"):
        sizes = []

        def pack(tensor, sizes=sizes):
            sizes.append((tensor.untyped_storage().data_ptr(), tensor.shape))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            step(engine, {"net": model}, [draw("net", "net")])
        kept[engine] = len({pointer for pointer, shape in sizes if shape == (N, 8, 30, 30)})
    assert kept["fused"] == 1 < kept["reference"]


def test_slices_that_end_in_turn_stay_compiled(monkeypatch):
    compiled, ran = [], []

    def count(graph, inputs):
        compiled.append(graph)
        return lambda *given: ran.append(graph) or graph.forward(*given)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=count))
    torch._dynamo.reset()
    model = calibrated(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                                     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)))
    align = FusedBNAlignment(model, first_multiplier=10.0, compiled=True)
    most = 10  # torch's own limit is 8
    for slices in range(most, 0, -1):
        for _ in range(2):
            images = torch.randn(2 * slices, 3, 8, 8, dtype=torch.float64, requires_grad=True)
            logits, distances = align(images, torch.arange(2), slices=slices, aligned=slices)
            (logits.sum() + distances.sum()).backward()
    assert len(compiled) == most and len(ran) == 2 * most


def test_what_is_not_tested_has_no_batchnorm_or_a_shallower_sibling():
    with torch.device("meta"):
        have = {name for name in (*FUSED, *SIBLINGS, *WITHOUT) if any(
            isinstance(m, nn.BatchNorm2d) for m in build_model(name, num_classes=2).modules())}
    assert have == {*FUSED, *SIBLINGS} and have | WITHOUT <= set(MODELS)


def test_what_the_fused_engine_took_is_said(capsys):
    torch.manual_seed(3)
    models = {"odd": calibrated(Odd(branch=False)), "untraceable": calibrated(Odd(branch=True)),
              "narrow_plain": network("narrow_plain"), "narrow_alexnet": network("narrow_alexnet")}
    step("reference", models, [draw("odd", "odd")])
    assert "engine" not in capsys.readouterr().err
    step("fused", models, [draw("odd", "odd")])
    assert "BatchNorm layers in the fused engine (the rest runs as it is): odd 1 of 4, untraceable 0 of 4, " \
        "narrow_plain 3 of 3\n" in capsys.readouterr().err


def test_what_a_compiler_is_given_is_the_same_step(monkeypatch):
    models = {name: network(name) for name in ("narrow_mobilenet", "narrow_efficientnet")}
    draws = [draw("narrow_mobilenet", *models), Draw({"narrow_efficientnet": 1.0}, {})]
    (terms, grad), traced = step("reference", models, draws), ConvNormAct._traceable
    calls = []
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(ConvNormAct, "_traceable", lambda self, *args: calls.append(self) or traced(*args))
    again, fused = step("fused", models, draws)
    assert len(calls) == sum(isinstance(m, nn.BatchNorm2d) for own in models.values() for m in own.modules())
    assert [{name: value.item() for name, value in own.items()} for own in again] \
        == [pytest.approx({name: value.item() for name, value in own.items()}, rel=1e-10) for own in terms]
    assert (grad - fused).abs().max() <= 1e-10 * grad.abs().max()


def test_its_gradient_cannot_be_differentiated_and_says_so():
    model = FusedBNAlignment(network("narrow_resnet"), first_multiplier=1.0)
    images = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64).requires_grad_()
    logits, _ = model(images, torch.arange(2), slices=1, aligned=0)
    once, = torch.autograd.grad(logits.square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()
