"""R_BN against numpy on a net of two convolutions, slice by slice, and its refusals."""
import numpy as np
import pytest
import torch
from torch import nn

from recover.alignments import ALIGNMENTS, ENGINES, BNAlignment
from recover.data_synthesis import RecoverConfig
from recover.selection import Pool
from recover.units import Inputs
from utils.pieces import identity

N, SIZE, FIRST = 4, 9, 10.0
TARGETS = torch.arange(N)


def convolve(x, conv):
    """A convolution written out: x (N, C, H, W) float64."""
    pad, stride = conv.padding[0], conv.stride[0]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,ocij->nohw", windows, conv.weight.double().numpy()) \
        + conv.bias.double().numpy()[:, None, None]


def distance(x, bn):
    """||mean - running mean|| + ||biased variance - running variance|| over batch, height and width."""
    channels = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
    mean = channels.sum(1) / channels.shape[1]
    var = ((channels - mean[:, None]) ** 2).sum(1) / channels.shape[1]
    return np.sqrt(((mean - bn.running_mean.numpy()) ** 2).sum()) \
        + np.sqrt(((var - bn.running_var.numpy()) ** 2).sum())


def closed_form(model, images):
    """R_BN of one batch through the first two convolutions and BatchNorms of a tiny teacher."""
    first = convolve(images.double().numpy(), model[0])
    bn = model[1]
    scale = (bn.weight / torch.sqrt(bn.running_var + bn.eps)).double().numpy()[:, None, None]
    normal = (first - bn.running_mean.numpy()[:, None, None]) * scale + bn.bias.numpy()[:, None, None]
    second = convolve(np.maximum(normal, 0), model[3])
    return FIRST * distance(first, bn) + distance(second, model[4])


@pytest.fixture
def model(tiny_teacher):
    return tiny_teacher(1)


@pytest.fixture
def images(gen):
    return torch.randn(3 * N, 3, SIZE, SIZE, generator=gen) * 1.5 + 0.3


def inputs(**networks) -> Inputs:
    """What a run prepares an alignment with."""
    return Inputs(real=None, pool=Pool(tuple(networks)), networks=networks, seed=0, size=SIZE,
                  mean=(0.5,) * 3, std=(0.2,) * 3, device=torch.device("cpu"))


def test_r_bn_is_the_closed_form(model, images):
    expected_logits = model(images[:N])
    logits, r_bn = BNAlignment(model, first_multiplier=FIRST)(images[:N], TARGETS, slices=1, aligned=1)
    assert r_bn.shape == (1,)
    assert r_bn.item() == pytest.approx(closed_form(model, images[:N]), rel=1e-5)
    torch.testing.assert_close(logits, expected_logits)


def test_norms_are_not_squared(model, images):
    """Statistics displaced in a single channel count with their distance, not its square."""
    alignment = BNAlignment(nn.Sequential(model[1]), first_multiplier=1.0)
    bn, x = model[1], torch.zeros(N, 4, SIZE, SIZE)
    bn.running_mean.copy_(torch.tensor([3.0, 0, 0, 0]))
    bn.running_var.copy_(torch.tensor([0.0, 0, 5, 0]))
    assert alignment(x, TARGETS, slices=1, aligned=1)[1].item() == pytest.approx(3 + 5)


def test_slices_side_by_side_equal_each_alone(model, images):
    alignment = BNAlignment(model, first_multiplier=FIRST)
    logits, r_bn = alignment(images, TARGETS, slices=3, aligned=3)
    for s, own in enumerate(images.split(N)):
        assert r_bn[s].item() == pytest.approx(closed_form(model, own), rel=1e-5)
        own_logits, own_r_bn = alignment(own, TARGETS, slices=1, aligned=1)
        torch.testing.assert_close(logits[s * N:(s + 1) * N], own_logits)
        torch.testing.assert_close(r_bn[s:s + 1], own_r_bn)


@pytest.mark.parametrize("aligned", [0, 1, 2])
def test_only_the_first_slices_are_aligned_and_all_have_logits(model, images, aligned):
    expected_logits = model(images)
    logits, r_bn = BNAlignment(model, first_multiplier=FIRST)(images, TARGETS, slices=3, aligned=aligned)
    torch.testing.assert_close(logits, expected_logits)
    expected = [closed_form(model, own) for own in images.split(N)[:aligned]]
    assert r_bn.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_multiplier_is_that_of_the_first_layer_only(model, images):
    once, thrice = (BNAlignment(model, first_multiplier=m)(images[:N], TARGETS, slices=1, aligned=1)[1].item()
                    for m in (1.0, 3.0))
    first = convolve(images[:N].double().numpy(), model[0])
    assert thrice - once == pytest.approx(2 * distance(first, model[1]), rel=1e-4)


def test_the_variances_distance_has_a_weight_of_its_own(model, images):
    first = convolve(images[:N].double().numpy(), model[0])
    mean = np.linalg.norm(first.mean((0, 2, 3)) - model[1].running_mean.numpy())
    one_layer = nn.Sequential(model[0], model[1])
    for weight in (0.0, 1.0, 2.0, 11.0):
        alignment = BNAlignment(one_layer, first_multiplier=FIRST, variance_weight=weight)
        expected = FIRST * (mean + weight * (distance(first, model[1]) - mean))
        r_bn = alignment(images[:N], TARGETS, slices=1, aligned=1)[1].item()
        model[1]._forward_pre_hooks.clear()
        assert r_bn == pytest.approx(expected, rel=1e-5)


def test_the_variances_weight_joins_identities_only_where_it_is_not_one():
    plain, weighted = (RecoverConfig(alignment=ALIGNMENTS["bn"](bn_variance_weight=w)) for w in (1.0, 2.0))
    assert identity(plain) == identity(RecoverConfig()) and "bn_variance_weight" not in identity(plain)
    assert identity(weighted)["bn_variance_weight"] == 2.0


def test_a_teacher_without_batchnorm_gives_zero(tiny_teacher, images):
    plain = tiny_teacher(2, bn=False)
    alignment = BNAlignment(plain, first_multiplier=FIRST)
    logits, r_bn = alignment(images, TARGETS, slices=3, aligned=2)
    assert len(alignment) == 0 and r_bn.tolist() == [0.0, 0.0]
    torch.testing.assert_close(logits, plain(images))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_piece_prepares_the_networks_that_it_is_told_of(engine, model, tiny_teacher, images, capsys,
                                                          monkeypatch):
    monkeypatch.setattr("utils.runtime._said", set())
    piece = ALIGNMENTS["bn"](first_bn_multiplier=FIRST, engine=engine)
    expected = closed_form(model, images[:N])
    own = inputs(a=model, b=tiny_teacher(2), plain=tiny_teacher(3, bn=False))
    aligned = piece.prepare(own, ("plain", "a"))
    assert [(name, len(network)) for name, network in aligned.items()] == [("plain", 0), ("a", 2)]
    assert all(type(network) is ENGINES[engine] for network in aligned.values())
    assert piece.keeps_graphs == (engine == "reference")
    r_bn = aligned["a"](images[:N], TARGETS, slices=1, aligned=1)[1]
    assert r_bn.item() == pytest.approx(expected, rel=1e-5)
    assert "warning: plain has no BatchNorm: drawn as a BN teacher" in capsys.readouterr().err
    piece.prepare(own, ("a",))
    assert "warning" not in capsys.readouterr().err


def test_its_options_are_checked():
    with pytest.raises(ValueError, match="--compile needs --engine fused"):
        ALIGNMENTS["bn"](engine="reference", compile=True)
    with pytest.raises(ValueError, match="--r-bn must be >= 0, got -0.1"):
        ALIGNMENTS["bn"](r_bn=-0.1)
    assert (ALIGNMENTS["bn"]().r_bn, ALIGNMENTS["bn"]().first_bn_multiplier) == (0.01, 10.0)


def test_batchnorm_has_no_state(model, images):
    alignment = BNAlignment(model, first_multiplier=FIRST)
    before = alignment(images, TARGETS, slices=3, aligned=3)[1]
    assert alignment.state() is None
    alignment.load(None)
    assert torch.equal(alignment(images, TARGETS, slices=3, aligned=3)[1], before)


def test_a_replaced_layer_is_noticed(model, images):
    alignment = BNAlignment(model, first_multiplier=FIRST)
    model[4] = nn.BatchNorm2d(5).eval()
    with pytest.raises(RuntimeError, match="stale hooks: 1 of 2"):
        alignment(images, TARGETS, slices=3, aligned=3)


def test_a_reused_layer_is_noticed(model, images):
    alignment = BNAlignment(nn.Sequential(model[0], model[1], model[1]), first_multiplier=FIRST)
    with pytest.raises(RuntimeError, match="stale hooks: 2 of 1"):
        alignment(images, TARGETS, slices=3, aligned=3)


def test_a_layer_without_running_statistics_is_refused():
    with pytest.raises(ValueError, match="track_running_stats"):
        BNAlignment(nn.BatchNorm2d(3, track_running_stats=False), first_multiplier=FIRST)


def test_use_changes_no_statistics_and_leaves_nothing_behind(model, images):
    alignment, before = BNAlignment(model, first_multiplier=FIRST), {k: v.clone() for k, v
                                                                     in model.state_dict().items()}
    first = alignment(images, TARGETS, slices=3, aligned=3)[1]
    model(images[:N])  # a plain forward, as the verifier's, between two measurements
    torch.testing.assert_close(alignment(images, TARGETS, slices=3, aligned=3)[1], first, rtol=0, atol=0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_statistics_of_a_half_precision_input_are_taken_in_float32(model, images):
    alignment, bn = BNAlignment(nn.Sequential(model[1]), first_multiplier=1.0), model[1]
    x = model[0](images).bfloat16()
    expected = distance(x.double().numpy(), bn)
    alignment.aligned, alignment.per_slice = 1, len(x)
    assert alignment._distance(bn, x).item() == pytest.approx(expected, rel=1e-6)
