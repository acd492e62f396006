"""SRe2L: one teacher in all three stages, images from noise.   PRISM's common ancestor.

Left open, and read so:
- CIFAR-10 has no official script: CIFAR-100's settings, as DD-Ranking has them, its ten classes in one chunk.
Not reproduced:
- on CIFAR the public teacher is never switched to eval mode: its labels are of batch statistics that drift
  (ours running statistics; --teacher-statistics batch --label-splits 1 is nearest);
- CIFAR-100 under CIFAR-10's pixel statistics: here the data set's own;
- on Tiny-ImageNet shifts of -4 to 4 pixels: here 0 to 4; the student is tested every tenth epoch;
- reconstruction of label batches from a seed that --fkd-seed does not reach; a crash on an odd last chunk.
"""
from utils.methods.method import Method, Settings

CIFAR: dict[str, Settings] = {
    "recover": {"iteration": 1000, "min_scale_crops": 1.0, "flip": False, "jitter": 4, "image_format": "jpg"},
    "relabel": {"label_format": "online", "epochs": 400, "batch_size": 128, "crop": "padded",
                "crop_padding": 4, "mix_type": "mixup", "mix_alpha": 0.8},
    "validate": {"temperature": 30.0, "decay_all": True, "gradient_accumulation_steps": 1}}
TINY: dict[str, Settings] = {
    "recover": {"lr": 0.1, "r_bn": 1.0, "jitter": 4},
    "relabel": {"label_format": "online", "epochs": 100, "batch_size": 256, "mix_type": "none"},
    "validate": {"t_squared": True, "optimizer": "sgd", "adamw_lr": 0.2, "momentum": 0.9,
                 "adamw_weight_decay": 1e-4, "decay_all": True, "schedule": "warmup-cosine",
                 "warmup_epochs": 5, "warmup_factor": 0.01, "gradient_accumulation_steps": 1}}
SRE2L = Method(
    name="sre2l",
    source="Yin, Xing and Shen, NeurIPS 2023",
    code="VILA-Lab/SRe2L 8d00cba (2024-11-15)",
    recover={"teachers": "single", "init": "noise", "lr": 0.25, "iteration_step": 0},
    relabel={"batch_size": 1024, "min_scale_crops": 0.08, "ensemble": "primary"},
    validate={"loss_type": "kl", "temperature": 20.0, "schedule": "cosine"},
    datasets={"cifar10": CIFAR, "cifar100": CIFAR, "tiny-imagenet": TINY})
