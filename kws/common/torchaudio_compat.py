"""Import of torchaudio, also if its native part was built for another CUDA version than torch.

Linux wheels of torchaudio are built for one CUDA version. With a CPU-only torch, or a torch of another CUDA version,
the native part does not load and the import fails. The native part holds forced alignment and a faster filter loop;
transforms, features and data sets are Python. Only on this error the native part is left out. kws needs none of it, so
nobody has to know; the log has it at level DEBUG.
"""

import importlib
import logging
import re
import sys
import warnings
from types import ModuleType

_LOG = logging.getLogger(__name__)
_NATIVE = "torchaudio._extension"
_CUDA_LIBRARY = re.compile(
    r"lib(c10_cuda|torch_cuda|cudart|cublas|cufft|curand|cusolver|cusparse|nvrtc)[\w.-]*: cannot open shared"
)
_CUDA_VERSIONS = re.compile(r"compiled with different CUDA versions")


def load() -> ModuleType:
    """Import torchaudio; after a CUDA mismatch without its native part.

    Raises:
        Exception: any other error of the import. A mismatch is an OSError for a missing CUDA library, or a
            RuntimeError for two CUDA versions.
    """
    try:
        return _import()
    except (OSError, RuntimeError) as error:
        mismatch = _cuda_mismatch(error)
        if mismatch is None:
            raise
    _forget()  # a half-imported submodule would keep a reference to the real extension
    sys.modules[_NATIVE] = _without_native_part()
    try:
        module = _import()
    except BaseException:
        _forget()
        raise
    _LOG.debug("torchaudio runs without its native part, built for another CUDA version than torch (%s)", mismatch)
    return module


def _import() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchaudio's own deprecations
        return importlib.import_module("torchaudio")


def _cuda_mismatch(error: OSError | RuntimeError) -> str | None:
    """Message of the mismatch, or None. Torch 2.13 wraps it in an error that names no library."""
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
    """Stub of `torchaudio._extension`, as in a build without native code."""
    stub = ModuleType(_NATIVE)
    vars(stub).update(_IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=lambda f: f)
    return stub


torchaudio = load()
