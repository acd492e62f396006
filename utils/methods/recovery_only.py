"""Recovery alone, as PRISM's table 2 measures it: hard labels, no relabelling, no mixing.

The paper names no optimiser: SGD with momentum 0.9 and decay 1e-4 is ours, the usual one at this rate.
The pool is supplement C's; recover's rate and fixed iterations are our reading of supplement D.
"""
from utils.methods.method import Method

RECOVERY_ONLY = Method(
    name="recovery-only",
    source="paper table 2, supplement C and D",
    code="none is public",
    recover={"pool": ("resnet18", "resnet34", "shufflenet_v2_x1_0", "mnasnet1_0", "efficientnet_b0"),
             "lr": 0.25, "iteration_step": 0},
    relabel=None,
    absent="it has no soft labels: leave relabel out, and run validate without --fkd-path",
    validate={"loss_type": "ce", "epochs": 90, "batch_size": 256, "optimizer": "sgd", "adamw_lr": 0.1,
              "adamw_weight_decay": 1e-4, "schedule": "linear", "min_scale_crops": 0.08,
              "gradient_accumulation_steps": 1})
