"""torch.compile where shapes change: every shape is compiled, none falls back to eager in silence."""

SHAPES = 4096


def compile_every_shape() -> None:
    """Lets compiled networks of this process be compiled anew for as many shapes as they meet.

    torch's limit is 8, above which it goes on uncompiled: ten slices that end one after another are ten
    shapes, and students in turn with their last batches and evaluations are more than eight.
    """
    import torch._dynamo  # takes a second: for those who compile

    for name in ("cache_size_limit", "accumulated_cache_size_limit"):  # torch 2.6's names, which hold later
        setattr(torch._dynamo.config, name, SHAPES)
