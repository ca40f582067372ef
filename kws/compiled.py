"""torch.compile for what is called at every step of a training."""

import shutil
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from kws.errors import KwsError

Called = TypeVar("Called", bound=Callable[..., Any])


def compiled(called: Called, device: torch.device) -> Called:
    """The same, compiled by TorchInductor when it is first called: faster steps, after a minute or so of compiling.

    The same machine, compiler and settings make the same weights; other sums than those that are not compiled.

    Args:
        called: a module, or a method of one.
        device: that it runs on; for a CPU the code is C++.

    Raises:
        KwsError: there is nothing to compile with.
    """
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
        raise KwsError("compile=true: allowed on a CPU is this where there is a C++ compiler, such as g++")
    return cast(Called, torch.compile(called))
