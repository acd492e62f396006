"""A CUDA device that is not there: its tensors lie in the CPU's memory, and mixed devices fail as on a GPU.

It shows on any machine that every tensor is where an operation wants it, and how often the CPU waits for the
device (a non-blocking copy: never).  It does not show the device's rounding, autocast, its memory, streams,
and what copies overtake; `.cuda()` and generators of the device are not there.
As a plugin it lends the device to every test, of which those that ask for `auto` then take it:

    PYTHONPATH=tests python -m pytest -p pretended_cuda tests/test_evaluate.py       with -m cuda: those tests
"""
import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

DEVICE, CPU = torch.device("cuda:0"), torch.device("cpu")
COPIES = ("_to_copy", "copy_")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")  # by indices on either device
WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "bincount", "_unique2",
           "unique_dim", "unique_consecutive", "repeat_interleave", "_linalg_eigh")
TO_DATA = torch.Tensor.data.__set__


class Lent(torch.Tensor):
    """A tensor on the device.   here: its values;  torch's C++ takes it to be on `meta`, which has none."""

    here: torch.Tensor
    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda, is_cpu, is_meta = True, False, False

    @staticmethod
    def __new__(cls, here: torch.Tensor):
        own = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            layout=here.layout, device="meta", requires_grad=here.requires_grad)
        own.here = here
        return own

    def __repr__(self, **_) -> str:
        return f"Lent({self.here})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _Operations().__torch_dispatch__(func, types, args, kwargs)  # in a backward: without our modes


def _check(name: str, args, tensors: list[torch.Tensor]) -> None:
    """Raises: RuntimeError where tensors are on two devices; one number of the CPU's, and indices, may be."""
    lent = [isinstance(tensor, Lent) for tensor in tensors]
    assert not any(tensor.is_meta for tensor in tensors) or not any(lent), f"{name}: values were lost on meta"
    if name in COPIES or not any(lent):
        return
    if name in INDEXING:
        if not isinstance(args[0], Lent):
            raise RuntimeError(f"{name}: indices on cuda:0 of a tensor on cpu")
        if len(args) > 2 and not isinstance(args[2], Lent) and args[2].dim():
            raise RuntimeError(f"{name}: values on cpu, expected the same device as the tensor, cuda:0")
    elif any(not own and tensor.dim() for own, tensor in zip(lent, tensors, strict=True)):
        found = [(str(tensor.device), tuple(tensor.shape)) for tensor in tensors]
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found {found}")


def _waits(name: str, args, kwargs, tensors: list[torch.Tensor], *, there: bool) -> bool:
    """Whether the CPU waits until the device has done all that it was asked before.

    Args: tensors: among args and kwargs;  there: whether the result is on the device.
    """
    if name in COPIES:  # a blocking one to the device too: it waits for its stream
        crosses = isinstance(tensors[-1], Lent) != there  # the last one is what is copied
        return crosses and not (there and (kwargs.get("non_blocking") or True in args[2:]))
    if name in INDEXING and isinstance(args[0], Lent):  # masks are counted, indices of the CPU's copied
        indices = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, torch.Tensor)]
        return any(own.dtype == torch.bool or not isinstance(own, Lent) for own in indices)
    return name in WAITING and any(isinstance(tensor, Lent) for tensor in tensors)


class _Operations(TorchDispatchMode):
    """Computes on the CPU what is asked of the device, whatever operation it is."""

    waits: Counter[str] = Counter()  # operation -> how often its caller waited for the device

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func._schema.name.split("::")[1], kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        _check(name, args, tensors)
        lent = {id(tensor.here): tensor for tensor in tensors if isinstance(tensor, Lent)}
        there = isinstance(args[0], Lent) if name == "copy_" else bool(lent)
        if kwargs.get("device") is not None:  # meta: torch's own wish, beside a tensor of ours
            there = torch.device(kwargs["device"]).type in ("cuda", "meta")
            kwargs = {**kwargs, "device": CPU}
        if there and kwargs.get("generator") is not None:
            raise RuntimeError(f"{name}: Expected a 'cuda' device type for generator but found 'cpu'")
        if _waits(name, args, kwargs, tensors, there=there):
            self.waits[name] += 1
        args, kwargs = tree_map(lambda x: x.here if isinstance(x, Lent) else x, (args, kwargs))
        return tree_map(lambda x: x if not isinstance(x, torch.Tensor) or isinstance(x, Lent) else
                        lent[id(x)] if id(x) in lent else Lent(x) if there else x, func(*args, **kwargs))


def _indexed(device):
    """The device's name with its number: without one torch asks the driver for it."""
    return DEVICE if isinstance(device, (str, torch.device)) and str(device) == "cuda" else device


def _set_data(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """tensor.data = value, which may make it one of the other device."""
    own = value.detach()
    torch.utils.swap_tensors(tensor, own if not isinstance(tensor, torch.nn.Parameter)
                             else torch.nn.Parameter(own, requires_grad=tensor.requires_grad))


class _Functions(TorchFunctionMode):
    """What does not come as far as an operation."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "to":
            args = (args[0], *map(_indexed, args[1:]))
        kwargs |= {"device": _indexed(kwargs["device"])} if "device" in kwargs else {}
        if "meta" in [str(own) for own in (kwargs.get("device"), *(args[1:] if name == "to" else ()))]:
            with _disable_current_modes():
                return func(*args, **kwargs)
        if func == TO_DATA and any(isinstance(own, Lent) for own in args):
            return _set_data(*args)
        if name in ("tensor", "as_tensor") and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if args and isinstance(args[0], Lent):
            if name in ("__getitem__", "__setitem__"):  # torch would make tensors of lists on meta
                args = (args[0], tree_map(lambda own: torch.tensor(own) if isinstance(own, list) else own,
                                          args[1], is_leaf=lambda own: isinstance(own, list)), *args[2:])
            if name in ("numpy", "__array__"):
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
            if name == "tolist":
                return args[0].cpu().tolist()
            if name in ("untyped_storage", "data_ptr"):
                return getattr(args[0].here, name)()
        return func(*args, **kwargs)


def _answers() -> Iterator[tuple[object, str, object]]:
    """What torch itself would ask a driver: owner, name, answer."""
    for name, answer in {"is_available": True, "device_count": 1, "current_device": 0, "memory_allocated": 0,
                         "get_device_name": "pretended", "mem_get_info": (2**33, 2**33),
                         "max_memory_allocated": 10**6, "is_bf16_supported": True, "_lazy_init": None,
                         "set_device": None, "reset_peak_memory_stats": None, "synchronize": None,
                         "empty_cache": None, "set_rng_state": None}.items():
        yield torch.cuda, name, lambda *_, own=answer, **__: own
    yield torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state()
    yield torch.Tensor, "pin_memory", lambda tensor, *_: tensor
    if hasattr(torch, "accelerator"):
        yield torch.accelerator, "is_available", lambda: False  # to loaders, which would pin in a thread
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(torch.optim.Optimizer, name):
            yield torch.optim.Optimizer, name, lambda *_: None


@contextlib.contextmanager
def pretended_cuda() -> Iterator[Counter[str]]:
    """Lends the device to what runs inside; yields how often that waited for it, by operation."""
    _Operations.waits.clear()
    with contextlib.ExitStack() as stack:
        for owner, name, answer in _answers():
            stack.enter_context(mock.patch.object(owner, name, answer))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="'pin_memory' argument is set")
        stack.enter_context(_Operations())
        stack.enter_context(_Functions())
        yield _Operations.waits


@pytest.hookimpl(hookwrapper=True)
def pytest_collection_modifyitems():
    """As a plugin: tests marked `cuda` are not skipped."""
    with mock.patch.object(torch.cuda, "is_available", lambda: True):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """As a plugin: fixtures and test run with it."""
    with pretended_cuda():
        yield
