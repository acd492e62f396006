"""Lower precision and compiled networks: the same objective to their rounding, statistics in float32."""
import shutil

import pytest
import torch
import torch.nn.functional as F
from helpers import POOL

from models.registry import load_teachers
from recover.data_synthesis import RecoverConfig
from recover.selection import Draw, Pool
from recover.units import Inputs
from utils.flags import build_config
from utils.precision import LOSS_SCALE, lowered, set_precision
from utils.records import read_json
from validate.training import Learner

pytest_plugins = ["stage_fixtures"]
CPU = torch.device("cpu")
NAMES = POOL[:3]


@pytest.fixture
def step(tiny):
    """f(engine, precision): terms and image gradient of one step over three trained teachers, two slices."""
    teachers = load_teachers(NAMES, weights=(), weights_dir=str(tiny.teachers), dataset="x", num_classes=4,
                             stem="small", device=CPU)

    def run(engine: str, precision: str = "fp32", **settings):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, 8, 3, 16, 16, generator=generator).requires_grad_()
        models = {name: teacher.model for name, teacher in teachers.items()}
        if engine == "reference":
            models = {name: load_teachers([name], weights=(), weights_dir=str(tiny.teachers), dataset="x",
                                          num_classes=4, stem="small", device=CPU)[name].model
                      for name in NAMES}
        config = build_config(RecoverConfig, {
            "pool": NAMES, "arch_name": NAMES[0], "engine": engine, "first_bn_multiplier": 10.0, "r_bn": 0.3,
            "precision": precision, **settings})
        objective = config.objective(Inputs(
            real=None, pool=Pool(tuple(models)), networks=models, seed=0, size=16, mean=config.mean,
            std=config.std, device=CPU, precision=config.precision))
        terms = objective.backward([image * 1.5 for image in images], torch.arange(8) % 4,
                                   [Draw({NAMES[0]: 1.0}, dict.fromkeys(NAMES, 1 / 3)),
                                    Draw({NAMES[1]: 1.0}, dict.fromkeys(NAMES[:2], 1 / 2))])
        return terms, images.grad
    return run


def cosine(a, b) -> float:
    return F.cosine_similarity(a.flatten().double(), b.flatten().double(), 0).item()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_lower_precision_keeps_terms_and_gradients_near(engine, precision, step):
    exact, expected = step(engine)
    terms, gradient = step(engine, precision)
    assert 0.97 < cosine(gradient, expected) < 1 - 1e-9  # it did round
    assert gradient.norm() == pytest.approx(expected.norm().item(), rel=0.1)  # the loss's scale is undone
    for own, other in zip(terms, exact, strict=True):
        for name, value in own.items():
            assert value.dtype == torch.float32
            assert value.item() == pytest.approx(other[name].item(), rel=0.05)


@pytest.mark.parametrize("prior", ["tv_l2", "l2_scale"])
def test_the_losss_scale_leaves_the_priors_alone(prior, step):
    def of_prior(precision):
        without, weighted = (step("fused", precision, **{prior: weight})[1] for weight in (0.0, 0.05))
        return weighted - without
    assert cosine(of_prior("fp16"), of_prior("fp32")) > 0.99
    assert of_prior("fp16").norm() == pytest.approx(of_prior("fp32").norm().item(), rel=0.05)


def test_fp32_and_tf32_are_set_and_not_left_to_a_default(capfd):
    set_precision("tf32", torch.device("cuda"))
    assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
    set_precision("fp32", CPU)
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    set_precision("tf32", CPU)
    assert "no effect" in capfd.readouterr().err
    set_precision("fp32", CPU)


def test_only_the_half_precisions_change_what_networks_compute():
    x = torch.randn(2, 3, 8, 8)
    weight = torch.randn(4, 3, 3, 3)
    for name, dtype in (("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16),
                        ("fp16", torch.float16)):
        with lowered(name, CPU):
            assert F.conv2d(x, weight).dtype == dtype
    assert list(LOSS_SCALE) == ["fp16"]


def test_only_fp16_scales_the_students_loss():
    student = torch.nn.Linear(2, 2)
    for name in ("fp32", "tf32", "bf16", "fp16"):
        learner = Learner(student, torch.optim.SGD(student.parameters(), lr=0.1), precision=name, device=CPU)
        assert learner.scaler.is_enabled() == (name == "fp16")
        other = Learner(student, learner.optimizer, precision=name, device=CPU)
        other.load(learner.state())
        assert other.scaler.state_dict() == learner.scaler.state_dict()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_stages_run_and_say_their_precision(precision, made, tiny, tmp_path):
    flags = ("--precision", precision)
    run = tiny.recover(tmp_path, *flags)
    ours, exact = (read_json(folder / "units" / "ipc0000_chunk01.json")["final"] for folder in (run, made))
    assert ours == pytest.approx(exact, rel=0.1) and ours != exact
    tiny.relabel(run, *flags)
    assert tiny.validate(run, *flags)["n"] == 2
    with pytest.raises(ValueError, match=f"config.precision is \"{precision}\" there and \"fp32\" here"):
        tiny.recover(tmp_path)


@pytest.mark.slow
def test_compiled_networks_compute_the_same(step, made, tiny, tmp_path):
    if not shutil.which("g++"):
        pytest.skip("torch.compile on a CPU needs a C++ compiler")
    (exact, expected), (terms, gradient) = step("fused"), step("fused", compile=True)
    assert cosine(gradient, expected) > 1 - 1e-9
    for own, other in zip(terms, exact, strict=True):
        assert {name: value.item() for name, value in own.items()} \
            == pytest.approx({name: value.item() for name, value in other.items()}, rel=1e-4)
    run = tiny.recover(tmp_path, "--compile", "--pool", *NAMES)
    assert len(list(run.glob("syn/*/*.png"))) == 8
    assert tiny.validate(made, "--compile", "--output-dir", tmp_path / "out", "--seeds", 0)["n"] == 1
