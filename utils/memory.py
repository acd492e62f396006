"""What tensors take in memory: counted, what a forward keeps for its backward; and kept on the host."""
import contextlib
import weakref
from collections.abc import Iterable
from typing import Any

import torch


def num_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the distinct storages of tensors."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


class _Holder:
    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor.detach()


class SavedBytes:
    """While it is entered, counts the distinct storages that autograd keeps for backward passes.

    alive: bytes kept now;  peak: the most so far.   Source: ours, on torch's saved-tensor hooks.
    """

    def __init__(self, constants: Iterable[torch.Tensor]):
        """Args: constants: weights, inputs and other tensors that are there anyway: not counted."""
        self._constants = {t.untyped_storage().data_ptr() for t in constants}
        self._kept: dict[int, list[int]] = {}
        self.alive, self.peak = 0, 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda holder: holder.tensor)

    def _pack(self, tensor: torch.Tensor) -> _Holder:
        """Counts a storage until the last of its tensors is dropped."""
        storage, holder = tensor.untyped_storage(), _Holder(tensor)
        pointer = storage.data_ptr()
        if pointer and pointer not in self._constants:
            entry = self._kept.setdefault(pointer, [storage.nbytes(), 0])
            self.alive += 0 if entry[1] else entry[0]
            entry[1] += 1
            self.peak = max(self.peak, self.alive)
            weakref.finalize(holder, self._drop, pointer)
        return holder

    def _drop(self, pointer: int) -> None:
        entry = self._kept[pointer]
        entry[1] -= 1
        if not entry[1]:
            self.alive -= self._kept.pop(pointer)[0]

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)


class Offloaded(contextlib.AbstractContextManager[None]):
    """Frozen tensors that lie on the host, and on a device while it is entered.

    The copies on the device are dropped, not written back.  For a CUDA device the host's memory is pinned, so
    that copying does not wait for the host.   Source: ours.
    """

    def __init__(self, tensors: Iterable[torch.Tensor], device: torch.device):
        self._tensors, self._device = list(tensors), device
        self._host = [t.data.cpu().pin_memory() if device.type == "cuda" else t.data.cpu()
                      for t in self._tensors]
        self.__exit__()

    def __enter__(self) -> None:
        for tensor, host in zip(self._tensors, self._host, strict=True):
            tensor.data = host.to(self._device, non_blocking=True, copy=True)

    def __exit__(self, *error: Any) -> None:
        for tensor, host in zip(self._tensors, self._host, strict=True):
            tensor.data = host
