"""G-VBSM: networks in turn, matched at convolutions and patches too, with moving averages; densified classes.

Left open, and read so:
- which network supervises an iteration: the paper draws, the code goes through them in turn: ours in turn;
- chunks: 80 images on two GPUs, each with statistics of its own 40: ours chunks of 40, sorted by class;
- public relabel and validate at IPC 50 and 100: ours as at IPC 10;
- the weight of alignment and the label crops on Tiny-ImageNet, and the labels' mean on CIFAR-10 and
  Tiny-ImageNet: ours as CIFAR-100's.
Not reproduced:
- densification over the images of both GPUs: ours over the chunk;
- teachers of 32 and 64 pixels: five there, with narrow networks; ours resnet18, mobilenet_v2 and
  shufflenet_v2_x0_5 with the small stem, as ConvNetW128 and WRN-16-2 are none of ours;
- teachers trained at a constant rate and saved at epoch 40 of 50 (CIFAR-10: after the first of five);
- CIFAR-100's student with instance norm; CIFAR-10 under CIFAR-100's pixel statistics;
- an epoch's last micro-batch cut in half.
"""
from utils.methods.method import Case, Method, Settings

POOL = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5")
SMALL = ("cifar10", "cifar100", "tiny-imagenet")
SMALL_POOL = ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5")


def small(crop_padding: int, relabel: Settings, validate: Settings) -> dict[str, Settings]:
    """The settings of a data set of 32 or 64 pixels."""
    return {
        "recover": {"pool": SMALL_POOL, "lr": 0.05, "batch_size": 100, "ema": 0.8, "drop_rate": 0.4,
                    "patch": 4, "real_batch": 64, "crop": "padded", "crop_padding": crop_padding,
                    "jitter": 32},
        "relabel": {"pool": SMALL_POOL, "ensemble": "mean", **relabel},
        "validate": {"gradient_accumulation_steps": 1, **validate}}


def vary(stage: str, case: Case) -> Settings:
    """Larger students of large images in smaller micro-batches: 128 images on each of two GPUs."""
    large = case.student in ("resnet50", "resnet101") and case.dataset not in SMALL
    return {"gradient_accumulation_steps": 8} if stage == "validate" and large else {}


SGD: Settings = {"optimizer": "sgd", "adamw_lr": 0.1, "momentum": 0.9, "adamw_weight_decay": 5e-4}
G_VBSM = Method(
    name="g-vbsm",
    source="Shao et al., CVPR 2024",
    code="shaoshitong/G_VBSM_Dataset_Condensation 1ed80b0 (2024-10-09)",
    recover={"pool": POOL, "teachers": "in-turn", "alignment": "bn-conv", "r_bn": 0.01, "ema": 0.4,
             "drop_rate": 0.0, "real_area": 0.08, "patch": 16, "class_share": 0.0,
             "priors": ("densification",), "densification": 1.0, "densification_temperature": 4.0,
             "init": "noise", "batching": "intra-class", "batch_size": 40, "lr": 0.1, "iteration_step": 0},
    relabel={"pool": POOL, "ensemble": "equal-norm", "batch_size": 1024, "min_scale_crops": 0.08},
    validate={"loss_type": "mse_gt", "ce_weight": 0.1, "schedule": "cosine",
              "gradient_accumulation_steps": 2},
    datasets={
        "cifar10": small(4, {"batch_size": 100, "epochs": 1000},
                         {"ce_weight": 0.15, "adamw_weight_decay": 0.0}),
        "cifar100": small(4, {"batch_size": 64, "epochs": 1000}, {"ce_weight": 0.15, **SGD}),
        "tiny-imagenet": small(8, {"batch_size": 100, "epochs": 100},
                               {"gradient_accumulation_steps": 2, **SGD})},
    vary=vary)
