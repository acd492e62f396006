"""DELT's evaluation of any images: labels of one teacher computed at every batch, RandAugment, KL.

The teacher is resnet18 for every student, DELT's default; other students have learning rates of their own.
Not reproduced, as the settings here are ImageNet-1K's:
- the public code's second BatchNorm update a step;
- RandAugment's strengths on small data (CIFAR-10: magnitude 5, four operations; Tiny-ImageNet: magnitude 4,
  three): here magnitude 6 and two operations on all data;
- ImageNet's pixel statistics on all data: here the data set's own, as its teachers were trained;
- half the batch for resnet101 on ImageNet-100, which is none of our data sets: give --batch-size.
"""
from utils.methods.method import Method


def batch_size(ipc: int, num_classes: int, student: str = "") -> int:
    """DELT's batch: 10, from IPC 10 on 50, from 30 on 100; doubled for 100 and 1000 classes.

    Of 1000 classes a resnet101 has half; Tiny-ImageNet (200 classes) has 100 throughout.   Source: DELT's
    published recipe; never more than all images.
    """
    base = 10 if ipc < 10 else 50 if ipc <= 20 else 100
    if num_classes == 200:
        base = 100
    elif num_classes in (100, 1000):
        base *= 1 if student == "resnet101" and num_classes == 1000 else 2
    return min(base, ipc * num_classes)


RATES = {"vgg11": 5e-4, "efficientnet_b0": 2e-3, "mobilenet_v2": 2.5e-3, "alexnet": 1e-4, "vit_b_16": 1e-4,
         "swin_v2_t": 1e-4}  # others: 1e-3
DELT = Method(
    name="delt",
    source="Shen et al., CVPR 2025; figures of PRISM's images (paper table 1, double dagger)",
    code="VILA-Lab/DELT f2f81ca (2025-02-27)",
    recover=None,
    absent="it is a way to evaluate images; recover them with --protocol prism or sre2l",
    relabel={"label_format": "online", "augment": "randaugment", "ensemble": "primary"},
    validate={"loss_type": "kl", "temperature": 20.0, "schedule": "half-cosine",
              "gradient_accumulation_steps": 1},
    label_batch=batch_size,
    student_batch=batch_size,
    students={student: {"validate": {"adamw_lr": lr}} for student, lr in RATES.items()},
    figures={
        "resnet18": {10: (46.9, 0.1), 50: (59.6, 0.2), 100: (62.7, 0.1)},
        "resnet50": {10: (46.3, 0.7), 50: (66.5, 0.2), 100: (69.4, 0.1)},
        "resnet101": {10: (40.7, 3.6), 50: (66.7, 0.2), 100: (70.4, 0.2)}})
