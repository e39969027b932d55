"""Anyone's own network: a function in a file beside the profile, named there as `model: nets.py:mynet`.

    def mynet(*, classes, channels, image_size):  # for text: classes, vocabulary, tokens
        return torch.nn.Sequential(...)            # (N, channels, image_size, image_size) -> logits (N, classes)

Its weights have to come from torch's generator. The sha256 of the file is part of a run's identity; what the file
imports is not. The code runs only where that was allowed (`train(allow_code=True)`).
"""

from __future__ import annotations

import sys
import traceback
from types import FunctionType, ModuleType

from torch import nn

from kdlib.errors import InvalidInput, unknown


def build(name: str, source: str, **input_: int) -> nn.Module:
    """The network that `name`, 'nets.py:mynet@<sha256>', makes in the Python `source`; input_: its arguments.

    Raises InvalidInput for code that does not run, a function that is not there or fails, and what is no module.
    """
    path, _, sha256 = name.partition("@")
    file, _, function = path.partition(":")
    module = ModuleType(f"kdlib_own_{sha256}")
    sys.modules[module.__name__] = module  # where dataclasses look for the names in their annotations
    try:
        exec(compile(source.encode(), file, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{_at(error, file)}: it does not run: {told(error)}. Mend it, then start again.") from error
    functions = [name for name, value in vars(module).items() if isinstance(value, FunctionType | type)]
    if not callable(make := getattr(module, function, None)):
        raise unknown("function", function, functions, place=file)
    try:
        network = make(**input_)
    except (Exception, SystemExit) as error:
        call = f"{function}({', '.join(f'{key}={value}' for key, value in input_.items())})"
        raise InvalidInput(f"{_at(error, file)}: {call}, as kdlib calls it, fails: {told(error)}.") from error
    if not isinstance(network, nn.Module):
        raise InvalidInput(f"{path} gives {type(network).__name__}; it has to return a torch.nn.Module.")
    return network


def told(error: BaseException) -> str:
    """An error of somebody's code in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _at(error: BaseException, file: str) -> str:
    """'nets.py, line 3', the deepest line of the file that the error went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    lines += [error.lineno] if isinstance(error, SyntaxError) and error.filename == file else []
    return f"{file}, line {lines[-1]}" if lines else file
