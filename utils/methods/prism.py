"""PRISM: phi's cross-entropy, BatchNorm statistics of phi and a drawn subset of other teachers.

The stages' defaults are these settings (a test holds them equal), and recover_r18.sh, relabel_r18.sh and
train_FKD_10_r18.sh spell them out.  Where the paper's text and its published recipe differ, the recipe
stands (docs/sources.md lists both).
"""
from utils.methods.method import Method, published_batch

PRISM = Method(
    name="prism",
    source="Moser et al., TMLR 2026, arXiv:2511.09905: sections 3 and 4, supplement tables 1 to 4",
    code="Brian-Moser/prism a691b41 (2026-01-05)",
    recover={
        "arch_name": "resnet18",
        "pool": ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet"),
        "teachers": "multi", "subset_law": "bernoulli", "max_bn_teachers": 4, "selection": "pre",
        "primary": "fixed", "bn_reduce": "mean",
        "alignment": "bn", "r_bn": 0.01, "first_bn_multiplier": 10.0,
        "init": "real", "min_scale_schedule": "none", "min_scale_crops": 0.08,
        "lr": 0.05, "betas": (0.5, 0.9), "batch_size": 100,
        "iteration": 4000, "iteration_step": 500, "iteration_period": 8},
    relabel={
        "arch_name": "resnet18", "pool": ("resnet18", "mobilenet_v2", "alexnet", "shufflenet_v2_x0_5"),
        "candidate_number": 4, "ensemble": "equal-norm",
        "epochs": 300, "min_scale_crops": 0.25, "mix_type": "cutmix", "mix_alpha": 1.0, "augment": "none",
        "label_format": "fp16"},
    validate={
        "loss_type": "mse_gt", "ce_weight": 0.1,
        "optimizer": "adamw", "adamw_lr": 1e-3, "adamw_weight_decay": 0.01,
        "schedule": "ssrs", "zeta": 2.5, "gradient_accumulation_steps": 2, "eval_every": 10},
    label_batch=published_batch,
    students={  # resnet18's images serve every student, as published
        "resnet50": {"relabel": {"arch_name": "resnet50", "ensemble": "primary-half"}},
        "resnet101": {"relabel": {"arch_name": "resnet101", "ensemble": "primary-half"}}})
