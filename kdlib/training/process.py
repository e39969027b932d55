"""The process that trains: its threads, its memory, its device."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Generator
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch

from kdlib.errors import InvalidInput

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

Result = TypeVar("Result")

at_once = 1  # runs that train in this process: set by `together`
_shared: WeakValueDictionary[Any, Any] = WeakValueDictionary()


def prepare_process() -> None:
    """Take one thread and keep freed memory. Both last as long as the process, so it should do nothing but train.

    By default glibc hands the large activations back to the system at every step and gets them anew, zeroed page by
    page: half of LeNet-5's step at 224 pixels. Other C libraries are left as they are. A GPU's freed memory is given
    back, and its peak counted anew. On a GPU fp32 means fp32, not TF32, and convolutions are tried out for the fastest.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(1)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    if torch.cuda.is_initialized():  # what the run before left is not this one's need
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def choose_device(wanted: str) -> str:
    """'cpu', or 'cuda' where it is there and wanted ('auto' or 'cuda'). Raises InvalidInput for an absent GPU."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device 'cuda' was asked for, but torch finds no GPU here. Use device 'auto' or 'cpu'.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def shared(key: Any, make: Callable[[], Any], device: torch.device | str) -> Any:
    """`make()`, or what it made before for the same key while that is in use: several runs on one GPU share it."""
    if torch.device(device).type != "cuda":
        return make()
    if (value := _shared.get((key, str(device)))) is None:
        _shared[key, str(device)] = value = make()
        torch.cuda.synchronize()  # other runs use it on streams of their own
    return value


def through(steps: Generator[None, None, Result]) -> Result:
    """Take all steps of what is trained a step at a time; what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
