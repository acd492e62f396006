"""Optimisers of students: which parameters decay."""
import pytest
import torch
from torch import nn

from models.optimizers import OPTIMIZERS, parameter_groups
from models.registry import build_skeleton
from utils.pieces import build_piece, identity


def names_of(model: nn.Module) -> tuple[list[str], list[str]]:
    """The names of parameters that decay, and of those that do not."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    first, second = ([names[id(parameter)] for parameter in group["params"]]
                     for group in parameter_groups(model, 0.01))
    assert len(first) + len(second) == len(names)
    return first, second


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5",
                                  "alexnet", "narrow_resnet"])
def test_convolutional_students_decay_where_they_did(name):
    """In this order too, which an optimiser's state goes by: tensors of two dimensions, then the rest."""
    model = build_skeleton(name, num_classes=10)
    named = list(model.named_parameters())
    assert names_of(model) == ([n for n, p in named if p.ndim > 1], [n for n, p in named if p.ndim <= 1])


@pytest.mark.parametrize("name, spared, num", [
    ("vit_b_16", ("class_token", "pos_embedding"), 2), ("convnext_tiny", ("layer_scale",), 18),
    ("swin_t", ("relative_position_bias_table",), 12)])
def test_tokens_positions_scales_and_bias_tables_do_not_decay(name, spared, num):
    model = build_skeleton(name, num_classes=10)
    sizes = {n: p.ndim for n, p in model.named_parameters()}
    decays, others = names_of(model)
    tensors = [n for n in others if sizes[n] > 1]
    assert len(tensors) == num and all(n.rpartition(".")[2] in spared for n in tensors)
    assert decays == [n for n in sizes if sizes[n] > 1 and n not in tensors]
    assert all(n.endswith("weight") for n in decays)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_all_decays_biases_and_norms_too(name):
    """With a gradient of zero only the decay moves a weight: by the rate times the decay, of its value."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    for p in model.parameters():
        nn.init.constant_(p, 2.0)
    values = {"adamw_lr": 0.1, "adamw_weight_decay": 0.5}
    for more, left in (({}, {"0.weight": 1.9}), ({"decay_all": True}, dict.fromkeys(dict(
            model.named_parameters()), 1.9))):
        copy = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        copy.load_state_dict(model.state_dict())
        optimizer = build_piece(OPTIMIZERS, name, values | more)(copy)
        for p in copy.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        for key, p in copy.named_parameters():
            assert p.flatten().tolist() == pytest.approx([left.get(key, 2.0)] * p.numel())


def test_decay_all_is_no_part_of_a_run_that_does_without():
    assert "decay_all" not in identity(OPTIMIZERS["sgd"]())
    assert identity(build_piece(OPTIMIZERS, "sgd", {"decay_all": True}))["decay_all"] is True
