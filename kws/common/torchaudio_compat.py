"""The one place that imports torchaudio, so that a torch of another CUDA version does not stop the program.

torchaudio's Linux wheels are built for one CUDA version. Beside a CPU-only torch, or one of another CUDA
version, its native part does not load and takes the whole import down. That part holds forced alignment and a
faster filter loop; transforms, features and data sets are Python. So it is left out where that is all that is
wrong, and the log says so in one line.

Elsewhere write `from kws.common.torchaudio_compat import torchaudio`.
"""

import importlib
import logging
import re
import sys
import warnings
from collections.abc import Callable
from types import ModuleType

_LOG = logging.getLogger(__name__)
_NATIVE = "torchaudio._extension"
_CUDA_LIBRARY = re.compile(
    r"lib(c10_cuda|torch_cuda|cudart|cublas|cufft|curand|cusolver|cusparse|nvrtc)[\w.-]*: cannot open shared"
)
_CUDA_VERSIONS = re.compile(r"compiled with different CUDA versions")


def load() -> ModuleType:
    """Import torchaudio, without its native part where that was built for a CUDA version that torch is not.

    Logs one warning where the native part is left out; later calls return the same module silently.

    Raises:
        Exception: whatever the import raises, but for the two signs of a CUDA mismatch: OSError for a CUDA
            library that is not there, RuntimeError for two CUDA versions.
    """
    try:
        return _import()
    except (OSError, RuntimeError) as error:
        mismatch = _cuda_mismatch(error)
        if mismatch is None:
            raise
    _forget()  # a half-imported submodule would keep its hold on the real extension
    sys.modules[_NATIVE] = _without_native_part()
    try:
        module = _import()
    except BaseException:
        _forget()
        raise
    _LOG.warning("torchaudio runs without its native part, built for another CUDA version than torch (%s)", mismatch)
    return module


def _import() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torchaudio deprecates of its own is no news to who trains a model
        return importlib.import_module("torchaudio")


def _cuda_mismatch(error: OSError | RuntimeError) -> str | None:
    """The line that names the mismatch, or None; torch 2.13 wraps it in an error that names no library."""
    link: BaseException | None = error
    while link is not None:
        sign = _CUDA_LIBRARY if isinstance(link, OSError) else _CUDA_VERSIONS
        if isinstance(link, OSError | RuntimeError) and sign.search(str(link)):
            return str(link)
        link = link.__cause__ or link.__context__
    return None


def _forget() -> None:
    for name in [n for n in sys.modules if n == "torchaudio" or n.startswith("torchaudio.")]:
        del sys.modules[name]


def _without_native_part() -> ModuleType:
    """What torchaudio's modules ask of `torchaudio._extension`, as a build without native code answers."""

    def fail_if_no_align(function: Callable[..., object]) -> Callable[..., object]:
        return function

    stub = ModuleType(_NATIVE)
    vars(stub).update(_IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=fail_if_no_align)
    return stub


torchaudio = load()
