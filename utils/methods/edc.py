"""EDC: G-VBSM's statistics, half of them of the class; starts of easy mosaics; an averaged student.

Where the released script and the paper differ ours is the script's, but for its slip with the schedule.
Left open, and read so:
- 1000 iterations (script; paper 2000), r_bn 0.1 (script alone), SGD on CIFAR-100 and Tiny-ImageNet
  (script; paper AdamW);
- the student's schedule: the script asks for a cosine and gets a line; ours the paper's slowed cosine (its
  SSRS, for higher IPC: --schedule ssrs --zeta 2; as run: --schedule linear --linear-length 2);
- chunks: 80 images on four GPUs, each with statistics of its own 20: ours chunks of 20; likewise 25 on small
  data, all images on CIFAR-10;
- CIFAR-10's batch is 10 at IPC 1 (script), else 25 (paper); its start and rate are as CIFAR-100's;
- RandAugment's two operations at 9, of 30 we suppose, always applied: ours timm's at 3, of 10, each with
  p = 0.5; Tiny-ImageNet's momentum: 0.9.
Not reproduced:
- the starts' choice of the 300 easiest photographs, crops shared by 64, and its draw of mosaics with
  replacement: ours RDED's rule, scored by the mean logits of four networks, four crops each;
- the flatness term (constant 0 as run), shuffled patches (no effect as run), swapped class statistics of
  patches (a fault of its files);
- teachers of 32 and 64 pixels: five or eight there; ours three, as g_vbsm.py's; and pixel statistics of
  CIFAR-100 on CIFAR-10, of ImageNet on Tiny-ImageNet.
"""
from utils.methods.g_vbsm import SMALL, SMALL_POOL
from utils.methods.method import Case, Method, Settings

POOL = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet")
SGD: Settings = {"optimizer": "sgd", "adamw_lr": 0.1, "adamw_weight_decay": 5e-4}


def small(recover: Settings, relabel: Settings, validate: Settings) -> dict[str, Settings]:
    """The settings of a data set of 32 or 64 pixels."""
    return {
        "recover": {"pool": SMALL_POOL, "init": "random", "iteration": 2000, "batch_size": 25, "r_bn": 0.01,
                    "drop_rate": 0.4, "patch": 4, "real_batch": 64, "image_format": "png", **recover},
        "relabel": {"pool": SMALL_POOL, "label_format": "online", "augment": "randaugment", "magnitude": 3.0,
                    "operations": 2, **relabel},
        "validate": validate}


def vary(stage: str, case: Case) -> Settings:
    """What goes with the IPC, and large images' starts."""
    if case.dataset == "cifar10" and stage == "recover":
        return {"batch_size": 10 * case.ipc}
    if case.dataset == "cifar10" and stage == "relabel":
        return {"batch_size": 10 if case.ipc == 1 else 25}
    if case.dataset == "tiny-imagenet" and stage == "relabel":
        return {"epochs": 1000 if case.ipc == 1 else 300}
    if case.dataset not in SMALL and stage == "recover":
        return {"init": "mosaic", "candidates": max(300, 4 * case.ipc), "crops": 4, "least_area": 0.08,
                "factor": 2, "observers": 4}
    return {}


EDC = Method(
    name="edc",
    source="Shao et al., NeurIPS 2024",
    code="shaoshitong/EDC 80116a7 (2024-05-02)",
    recover={"pool": POOL, "teachers": "in-turn", "alignment": "bn-conv", "r_bn": 0.1, "ema": 0.8,
             "drop_rate": 0.0, "real_area": 0.08, "patch": 16, "class_share": 0.5,
             "batching": "intra-class", "batch_size": 20,
             "lr": 0.05, "iteration": 1000, "iteration_step": 0, "min_scale_crops": 0.5, "jitter": 0},
    relabel={"pool": ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "alexnet"), "ensemble": "mean",
             "batch_size": 100, "min_scale_crops": 0.5},
    validate={"loss_type": "mse_gt", "ce_weight": 0.025, "schedule": "smoothed-cosine",  # eta 2
              "average": "ema", "average_decay": 0.99, "average_buffers": "online",
              "gradient_accumulation_steps": 1, "eval_every": 30},
    datasets={
        "cifar10": small({"iteration": 75, "min_scale_crops": 0.08, "image_format": "jpg"},
                         {"epochs": 1000, "min_scale_crops": 0.08},
                         {"schedule": "multistep", "milestones": (0.8, 0.9, 0.95), "gamma": 0.5,
                          "eval_every": 10, "eval_from": 0.8}),
        "cifar100": small({}, {"epochs": 1000, "batch_size": 50},
                          {"schedule": "ssrs", "zeta": 2.0, "eval_every": 100, **SGD, "momentum": 0.875}),
        "tiny-imagenet": small({}, {"batch_size": 100}, {**SGD, "momentum": 0.9})},
    vary=vary)
