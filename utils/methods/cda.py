"""CDA: SRe2L with a crop curriculum: the least area of a crop falls from 1 to 0.08 along a cosine.

Left open, and read so:
- the student's batch: the README refers to SRe2L (1024 as 2 x 512), tables of others have 128: ours 128,
  whole;
- labels and students of Tiny-ImageNet: SRe2L's, after that README.
Not reproduced: ImageNet-21K; a --verifier that ends the process after the first batch.
"""
from utils.methods.method import Method
from utils.methods.sre2l import TINY

CDA = Method(
    name="cda",
    source="Yin and Shen, arXiv:2311.18838",
    code="VILA-Lab/SRe2L 8d00cba (2024-11-15), folder CDA",
    recover={"teachers": "single", "init": "noise", "lr": 0.25, "iteration_step": 0,
             "min_scale_schedule": "cosine", "milestone": 1.0},
    relabel={"batch_size": 128, "min_scale_crops": 0.08, "ensemble": "primary"},
    validate={"loss_type": "kl", "temperature": 20.0, "schedule": "cosine", "gradient_accumulation_steps": 1},
    datasets={"tiny-imagenet": {**TINY, "recover": {"lr": 0.4, "r_bn": 0.05, "jitter": 4}}})
