"""The paper's tables as data: every row, its settings, the paper's figure.

How a row is read (plans.py beside this file does that; table 1 is in table_1.py).  Its settings are
those of its ancestors along `inherits`, the oldest first, then its own.  `protocol` goes to all three stages
as --protocol, unless a stage's settings hold a "protocol" of their own.  What neither says is the stage's for
that protocol and IPC.  Tables 3a to 3f (paper 4.4) are a cumulative chain from start/vanilla, SRe2L's
settings, to final/ssrs, the published recipe; supplement tables 3 and 4 hang off 3d/aligned.  Each of these
tables states what it varies on its first row too, so `--from final` is well defined: the published recipe
(protocol prism, no settings) with the settings of the row and of its ancestors in its own table.  Figures are
the paper's, never ours.
"""
from scripts.reproducing.rows import THREE_SEEDS, Row
from scripts.reproducing.table_1 import LAST_EPOCH, TABLE_1

POOL_4_4 = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5")
POOL_SWAPPED = ("resnet18", "mobilenet_v2", "alexnet", "shufflenet_v2_x0_5")
FULL = 1300  # "IPC about 1200": one image for each of 1,281,167 real ones, and the largest classes have 1300
STUDENT_2 = "validate: 90 epochs of 1,281,167 images"
COST_2 = f"recover: 13,000 units of 4,000 iterations, 204 times table 1's images at IPC 10; {STUDENT_2}"
DRAWN = "3.3 samples phi too, 'from their respective pools': ours drawn, supplement C's pool for both"

TABLE_2 = (
    Row(key="2/real", label="Baseline (real data)", paper=70.0, protocol="recovery-only", ipc=FULL,
        inherits="2/sre2l", recover={"iteration": 0, "iteration_step": 0}, cost=STUDENT_2,
        unknown=("original files or recover's starting points: ours these, 224 pixels, JPEG 75",)),
    Row(key="2/sre2l", label="SRe2L", paper=17.9, vram_gb=6.5, protocol="recovery-only", ipc=FULL,
        recover={"teachers": "single", "allow_short_classes": True}, cost=COST_2, unknown=(
            "SRe2L's initial images: ours real, as for all rows (4.1 and figure 5)",
            "student's optimiser: not given (supplement C); ours SGD, momentum 0.9, decay 1e-4",
            "'without ... additional training augmentation techniques': ours crops and flips, no mixing",
            "recover's rate and iterations: ours SRe2L's 0.25 and a fixed 4000 (supplement D)",
            "'IPC about 1200': ours every real image, so classes of 732 to 1300")),
    Row(key="2/single-intra", label="+ single-teacher alignment, intra-distillation, 1 BN teacher",
        paper=18.3, vram_gb=6.5, protocol="recovery-only", ipc=FULL, inherits="2/sre2l",
        recover={"selection": "intra", "primary": "drawn"}, unknown=(DRAWN,), cost=COST_2),
    Row(key="2/dual-intra", label="+ dual-teacher decoupling, intra-distillation, 1 BN teacher", paper=19.0,
        vram_gb=13.0, protocol="recovery-only", ipc=FULL, inherits="2/single-intra",
        recover={"teachers": "dual"}, cost=COST_2),
    Row(key="2/single-pre", label="+ single-teacher alignment, pre-distillation, 1 BN teacher", paper=32.4,
        vram_gb=6.5, protocol="recovery-only", ipc=FULL, inherits="2/sre2l", recover={"primary": "drawn"},
        cost=COST_2,
        unknown=(DRAWN, "drawn 'once for each synthetic image': ours per IPC index, as published")),
    Row(key="2/dual-pre", label="+ dual-teacher decoupling, pre-distillation, 1 BN teacher", paper=36.2,
        vram_gb=13.0, protocol="recovery-only", ipc=FULL, inherits="2/single-pre",
        recover={"teachers": "dual"}, cost=COST_2),
    Row(key="2/multi-2", label="+ multi-teacher alignment, pre-distillation, 2 BN teachers", paper=37.4,
        vram_gb=18.5, protocol="recovery-only", ipc=FULL, inherits="2/single-pre",
        recover={"teachers": "multi", "subset_law": "uniform", "max_bn_teachers": 2}, cost=COST_2, unknown=(
            "2, 3, 4 BN teachers, exactly or at most: ours at most, a uniform subset (3.2, eq. 5)",
            "whether phi aligns too: ours not forced in, as 3.2 has it; phi = theta_1 is table 3d's finding",
            "18.5 GB breaks the steps of 6.5 (6.5, 13.0, 26.0, 32.5): perhaps 19.5")),
    Row(key="2/multi-3", label="+ multi-teacher alignment, pre-distillation, 3 BN teachers", paper=38.7,
        vram_gb=26.0, protocol="recovery-only", ipc=FULL, inherits="2/multi-2",
        recover={"max_bn_teachers": 3}, cost=COST_2),
    Row(key="2/multi-4", label="+ multi-teacher alignment, pre-distillation, 4 BN teachers", paper=39.1,
        vram_gb=32.5, protocol="recovery-only", ipc=FULL, inherits="2/multi-2",
        recover={"max_bn_teachers": 4}, cost=COST_2),
)

TABLE_3 = (
    Row(key="start/vanilla", label="vanilla settings of SRe2L, with PRISM's teachers",
        recover={"pool": POOL_4_4, "subset_law": "uniform", "lr": 0.25, "iteration_step": 0},
        relabel={"pool": POOL_4_4, "batch_size": 1024, "ensemble": "primary"},
        validate={"loss_type": "kl", "schedule": "cosine"}, unknown=(
            "teachers before table 3d: ours phi = resnet18 (4.4) and any subset of the pool for BN (eq. 5); "
            "else phi drawn too (3.3), or SRe2L's one teacher (3a's 21.22 is close to its 21.3)",
            "k_max: ours 4, table 2's best", "initial images: ours real (4.1), though SRe2L's are noise",
            "the student's schedule before SSRS: ours SRe2L's cosine to 0",
            "labels' crops: no table has SRe2L's 0.08 become 0.25, the value at 3d; ours 0.25 from the start",
            "micro-batches: ours two, as SRe2L and the public scripts; at 1024 BatchNorm sees 512",
            "temperature of KL: ours 20 without T^2, SRe2L's",
            "runs behind a figure of table 3: no spread is given, ours one seed")),
    Row(key="3a/r18-only", label="ResNet-18 Only", paper=21.22, inherits="start/vanilla",
        relabel={"ensemble": "primary"}, validate={"loss_type": "kl"}),
    Row(key="3a/ensemble-kl", label="Ensemble Average", paper=23.75, inherits="3a/r18-only",
        relabel={"ensemble": "equal-norm"}, unknown=(
            "which models: 'an ensemble of the recovery models', ours 4.4's four",
            "average of raw or of equal-norm logits: ours equal-norm, the published r18 rule, and G-VBSM's")),
    Row(key="3a/mae-0.05", label="+ MAE (GT=0.05)", paper=28.97, inherits="3a/ensemble-kl",
        validate={"loss_type": "mae_gt", "ce_weight": 0.05}, unknown=(
            "'GT addition': ours so much cross-entropy with the class of the un-mixed image, as published",)),
    Row(key="3a/mse-0.05", label="+ MSE (GT=0.05)", paper=28.07, inherits="3a/ensemble-kl",
        validate={"loss_type": "mse_gt", "ce_weight": 0.05}),
    Row(key="3a/mae-0.1", label="+ MAE (GT=0.1)", paper=23.85, inherits="3a/ensemble-kl",
        validate={"loss_type": "mae_gt", "ce_weight": 0.1},
        unknown=("MAE loses 5 points from 0.05 to 0.1, MSE gains 1.5: as printed",)),
    Row(key="3a/mse-0.1", label="+ MSE (GT=0.1)", paper=29.53, inherits="3a/ensemble-kl",
        validate={"loss_type": "mse_gt", "ce_weight": 0.1}),
    Row(key="3b/baseline", label="Baseline from (a)", paper=29.53, inherits="3a/mse-0.1",
        recover={"iteration_step": 0, "min_scale_schedule": "none"}),
    Row(key="3b/resize", label="+ Resize Schedule", paper=29.93, inherits="3b/baseline",
        recover={"min_scale_schedule": "cosine"},
        unknown=("curve and range of the minimum crop: ours CDA's cosine, 1 to 0.08",)),
    Row(key="3b/iterations", label="+ Var. Iterations", paper=31.30, inherits="3b/baseline",
        recover={"iteration_step": 500},
        unknown=("'varying ... per image': ours 4000 - 500 (i mod 8) by IPC index i, as published",)),
    Row(key="3b/both", label="+ Both", paper=30.89, inherits="3b/baseline",
        recover={"iteration_step": 500, "min_scale_schedule": "cosine"}),
    Row(key="3c/1024", label="1024 from (b)", paper=31.30, inherits="3b/iterations",
        relabel={"batch_size": 1024},
        unknown=("whether the student's batch follows the labels': ours yes, stored batches are replayed",)),
    Row(key="3c/16", label="16", paper=40.41, inherits="3c/1024", relabel={"batch_size": 16}),
    Row(key="3c/32", label="32", paper=43.40, inherits="3c/1024", relabel={"batch_size": 32}),
    Row(key="3c/50", label="50", paper=44.04, inherits="3c/1024", relabel={"batch_size": 50}),
    Row(key="3c/64", label="64", paper=43.79, inherits="3c/1024", relabel={"batch_size": 64}),
    Row(key="3c/128", label="128", paper=42.59, inherits="3c/1024", relabel={"batch_size": 128}),
    Row(key="3d/baseline", label="Baseline from (c)", paper=44.04, inherits="3c/50",
        recover={"subset_law": "uniform"}),
    Row(key="3d/aligned", label="phi = theta_1 != theta_>1", paper=45.73, inherits="3d/baseline",
        recover={"subset_law": "bernoulli"},
        unknown=("the law of theta_>1: ours the published slots with p = 0.5",)),
    Row(key="3e/0.25", label="0.25 from (d)", paper=45.73, inherits="3d/aligned", recover={"lr": 0.25}),
    Row(key="3e/0.10", label="0.10", paper=46.63, inherits="3e/0.25", recover={"lr": 0.1}),
    Row(key="3e/0.05", label="0.05", paper=47.35, inherits="3e/0.25", recover={"lr": 0.05}),
    Row(key="3f/from-e", label="Models from (e)", paper=47.35, inherits="3e/0.05", recover={"pool": POOL_4_4},
        relabel={"pool": POOL_4_4}),
    Row(key="3f/swap-relabel", label="- EfficientNet (Rel.), + AlexNet (Rel.)", paper=47.53,
        inherits="3f/from-e", relabel={"pool": POOL_SWAPPED},
        unknown=("two lines of the table share 47.53: ours one row, the swap",)),
    Row(key="3f/alexnet-recover", label="+ AlexNet (Rec.)", paper=47.77, inherits="3f/swap-relabel",
        recover={"pool": (*POOL_4_4, "alexnet")}, unknown=(
            "in recovery 4.4's text swaps EfficientNet for AlexNet, the table adds it: ours adds, as "
            "published",)),
    Row(key="final/ssrs", label="SSRS decayed cosine", paper=49.4, std=0.2, inherits="3f/alexnet-recover",
        validate={"schedule": "ssrs", "seeds": THREE_SEEDS}, unknown=(LAST_EPOCH,)),
)

STATE_S = "state and student: ours 3d/aligned, its 45.73 being this 45.7 (3e/0.25 is the same), and resnet18"
SUPPLEMENT_3_4 = (
    Row(key="s3/0.1", label="0.1", paper=45.0, inherits="3d/aligned", relabel={"min_scale_crops": 0.1},
        unknown=(STATE_S,)),
    Row(key="s3/0.15", label="0.15", paper=45.1, inherits="s3/0.1", relabel={"min_scale_crops": 0.15}),
    Row(key="s3/0.2", label="0.2", paper=45.3, inherits="s3/0.1", relabel={"min_scale_crops": 0.2}),
    Row(key="s3/0.25", label="0.25", paper=45.7, inherits="s3/0.1", relabel={"min_scale_crops": 0.25}),
    Row(key="s3/0.3", label="0.3", paper=45.4, inherits="s3/0.1", relabel={"min_scale_crops": 0.3}),
    Row(key="s3/0.4", label="0.4", paper=45.1, inherits="s3/0.1", relabel={"min_scale_crops": 0.4}),
    Row(key="s4/40", label="40", paper=44.8, inherits="3d/aligned", recover={"batch_size": 40},
        unknown=(STATE_S,)),
    Row(key="s4/80", label="80", paper=45.2, inherits="s4/40", recover={"batch_size": 80},
        unknown=("1000 classes are no multiple of 80: ours a last chunk of 40 classes",)),
    Row(key="s4/100", label="100", paper=45.7, inherits="s4/40", recover={"batch_size": 100}),
)

DAS = "losses, weights, CLIP model, resolutions of direct ascent synthesis: supplement D gives none"
T2I = "prompts, guidance, sampler, steps of a text-to-image model: supplement E gives none"
SUPPLEMENT_5_6 = (
    Row(key="s5/real", label="Baseline (real data)", paper=70.0, protocol="recovery-only", ipc=FULL,
        inherits="2/real", cost=STUDENT_2),
    Row(key="s5/sre2l", label="SRe2L", paper=17.9, protocol="recovery-only", ipc=FULL, inherits="2/sre2l",
        cost=COST_2, unknown=(
            "supplement D and E run 'as in ??': ours table 2's protocol, whose two figures they repeat",
            "table 5's caption and text have varying iterations (worse), without a row or a figure")),
    Row(key="s5/clip", label="+ CLIP", paper=8.8, protocol="recovery-only", ipc=FULL, needs=DAS),
    Row(key="s5/multires", label="+ Multi-Resolution - DeepInversion", paper=7.6, protocol="recovery-only",
        ipc=FULL, needs=DAS),
    Row(key="s5/clip-multires", label="+ CLIP + Multi-Resolution - DeepInversion", paper=5.2,
        protocol="recovery-only", ipc=FULL, needs=DAS),
    Row(key="s6/real", label="Baseline (real data)", paper=70.0, protocol="recovery-only", ipc=FULL,
        inherits="2/real", cost=STUDENT_2),
    Row(key="s6/sre2l", label="SRe2L", paper=17.9, protocol="recovery-only", ipc=FULL, inherits="2/sre2l",
        cost=COST_2),
    Row(key="s6/sd-1.0", label="SD 1.0", paper=17.1, protocol="recovery-only", ipc=FULL, needs=T2I),
    Row(key="s6/sd-2.1", label="SD 2.1", paper=14.5, protocol="recovery-only", ipc=FULL, needs=T2I),
    Row(key="s6/flux-schnell", label="FLUX (Schnell)", paper=9.8, protocol="recovery-only", ipc=FULL,
        needs=T2I),
    Row(key="s6/sdxl", label="SDXL", paper=9.7, protocol="recovery-only", ipc=FULL, needs=T2I),
    Row(key="s6/sd-3.5-turbo", label="SD 3.5 Turbo", paper=6.4, protocol="recovery-only", ipc=FULL,
        needs=T2I),
    Row(key="s6/sdxl-turbo", label="SDXL Turbo", paper=4.7, protocol="recovery-only", ipc=FULL, needs=T2I),
)

# Other students on the images and the labels of table 1's PRISM row, ResNet-18, IPC 10.
CROSS_ARCH = (
    Row(key="cross-arch/mobilenet_v2", label="MobileNetV2", inherits="1/prism-r18-10",
        validate={"model": "mobilenet_v2"},
        unknown=("a learning rate for other students: ours 0.001 for every one (supplement table 1a)",)),
    Row(key="cross-arch/efficientnet_b0", label="EfficientNet-B0", inherits="1/prism-r18-10",
        validate={"model": "efficientnet_b0"}),
    Row(key="cross-arch/shufflenet_v2_x0_5", label="ShuffleNetV2 x0.5", inherits="1/prism-r18-10",
        validate={"model": "shufflenet_v2_x0_5"}),
    Row(key="cross-arch/convnext_tiny", label="ConvNeXt-Tiny", inherits="1/prism-r18-10",
        validate={"model": "convnext_tiny"}),
    Row(key="cross-arch/vit_b_16", label="ViT-B/16", inherits="1/prism-r18-10",
        validate={"model": "vit_b_16"}),
    Row(key="cross-arch/swin_t", label="Swin-T", inherits="1/prism-r18-10", validate={"model": "swin_t"}),
    Row(key="cross-arch/resnet50", label="ResNet-50, labels of ResNet-18's ensemble",
        inherits="1/prism-r18-10", validate={"model": "resnet50"}),
)

ROWS = (*TABLE_1, *TABLE_2, *TABLE_3, *SUPPLEMENT_3_4, *SUPPLEMENT_5_6, *CROSS_ARCH)
