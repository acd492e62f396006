"""Students before they are trained: their networks and what their files will take."""
import torch
from torch import nn

from models import registry
from utils import runtime
from utils.compiling import compile_every_shape


def student_bytes(model: str, *, num_classes: int, stem: str, num_students: int) -> int:
    """Bytes of the saved students, last and best of each seed."""
    state = registry.build_skeleton(model, num_classes=num_classes, stem=stem).state_dict()
    return 2 * num_students * sum(value.numel() * value.element_size() for value in state.values())


def build_student(name: str, *, num_classes: int, stem: str, seed: int, device: torch.device,
                  compiled: bool) -> nn.Module:
    """A fresh student; every rank builds the same from the seed."""
    runtime.seed_everything(seed, "student", name)
    student = registry.build_model(name, num_classes=num_classes, stem=stem)
    student = student.to(device).to(memory_format=torch.channels_last)
    if compiled:
        compile_every_shape()
        student.compile(dynamic=False)
    return student
