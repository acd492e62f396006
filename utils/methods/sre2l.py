"""SRe2L: one teacher in all three stages, images from noise.   PRISM's common ancestor."""
from utils.methods.method import Method

SRE2L = Method(
    name="sre2l",
    source="Yin, Xing and Shen, NeurIPS 2023; figures as PRISM's table 1 repeats them",
    code="VILA-Lab/SRe2L 8d00cba (2024-11-15)",
    recover={"teachers": "single", "init": "noise", "lr": 0.25, "iteration_step": 0},
    relabel={"batch_size": 1024, "min_scale_crops": 0.08, "ensemble": "primary"},
    validate={"loss_type": "kl", "temperature": 20.0, "schedule": "cosine"},
    figures={
        "resnet18": {10: (21.3, 0.6), 50: (46.8, 0.2), 100: (52.8, 0.3)},
        "resnet50": {10: (28.4, 0.1), 50: (55.6, 0.3), 100: (61.0, 0.4)},
        "resnet101": {10: (30.9, 0.1), 50: (60.8, 0.5), 100: (62.8, 0.2)}})
