"""RD3: one way to train students for every decoupled set, under which published gaps shrink.

Its repository is closed to us; known are (two notes, reviews): 400 epochs, batch 50, rate 1e-3, a cosine of
length 1 for resnet18 and 2 for others, RDED's views, KL to one pretrained resnet18.
"""
from utils.methods.method import Case, Method, Settings


def vary(stage: str, case: Case) -> Settings:
    """Other students' cosine is twice as long."""
    return {"eta": 1.0 if case.student in ("", "resnet18") else 2.0} if stage == "validate" else {}


WHOLE: dict[str, Settings] = {"relabel": {"min_scale_crops": 1.0}}  # RDED has no crops of small images
RD3 = Method(
    name="rd3",
    source="ICLR 2026, arXiv:2509.19743",
    code="not public to us (ndhg1213/RD3)",
    reading="AdamW (notes of it say Adam too), decay 0.01, of weight matrices; KL at T = 20 without T "
            "squared; crops from 0.5 at 224 px, none up to 64 px, no shuffled tiles; one teacher in eval "
            "mode, online (on ImageNet-1K IMAGENET1K_V1); batch 50 whole, at every IPC, for every student; "
            "no average of weights; our seeds and test view; the last epoch, the best beside it",
    recover=None,
    absent="it is a way to train students; recover the images with another method",
    relabel={"label_format": "online", "epochs": 400, "batch_size": 50, "min_scale_crops": 0.5,
             "ensemble": "primary"},
    validate={"loss_type": "kl", "temperature": 20.0, "schedule": "smoothed-cosine",
              "gradient_accumulation_steps": 1},
    datasets=dict.fromkeys(("cifar10", "cifar100", "tiny-imagenet", "digits"), WHOLE),
    vary=vary)
