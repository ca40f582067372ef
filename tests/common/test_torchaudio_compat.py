"""Import of torchaudio: a CUDA mismatch is handled without a word, other errors pass."""

import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kws.common.torchaudio_compat import load
from tests import ROOT

WARNING = "without its native part"
STUB = "torchaudio._extension"

# First a bare import, as a user meets it; then the same process imports it through kws.
REAL = """
try:
    import torchaudio
    print("fits")
except (OSError, RuntimeError) as error:
    print("mismatch" if "cuda" in str(error.__cause__ or error).lower() else error)
import warnings
import torch
from kws.common.torchaudio_compat import load, torchaudio
import torchaudio as again
assert load() is torchaudio is again
impulse = torch.eye(4)[0]
print(torchaudio.functional.lfilter(impulse, torch.tensor([1.0, -0.5]), torch.tensor([1.0, 0.0])).tolist())
warnings.filterwarnings("ignore", ".torch.jit", DeprecationWarning)
scripted = torch.jit.script(torchaudio.transforms.MelSpectrogram(16000, n_mels=40))
print(tuple(scripted(torch.zeros(16000)).shape))
"""


def test_the_installed_torchaudio_loads_without_a_word():
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", REAL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    fit, filtered, shape = run.stdout.splitlines()
    assert fit in {"fits", "mismatch"}
    assert run.stderr == ""
    assert filtered == "[1.0, 0.5, 0.25, 0.125]"
    assert shape == "(40, 81)"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A torchaudio whose native part runs the given line; the real one is back in place afterwards."""

    def ours() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "torchaudio"]

    def write(native: str, after: str = "") -> None:
        package = tmp_path / "torchaudio"
        package.mkdir()
        (package / "__init__.py").write_text(f"from . import early\nfrom . import _extension\n{after}\n")
        (package / "early.py").write_text(f"import sys\nafter_stub = {STUB!r} in sys.modules\n")
        (package / "_extension.py").write_text(f"{native}\n")
        monkeypatch.syspath_prepend(tmp_path)

    real = {name: sys.modules.pop(name) for name in ours()}
    yield write
    for name in ours():
        del sys.modules[name]
    sys.modules.update(real)


@pytest.mark.parametrize(
    "native",
    [
        "raise OSError('libc10_cuda.so: cannot open shared object file: No such file or directory')",
        "raise OSError('Could not load this library: x.so') from OSError("
        "'libcudart.so.13: cannot open shared object file: No such file or directory')",
        "raise RuntimeError('Detected that PyTorch and TorchAudio were compiled with different CUDA versions."
        " PyTorch has CUDA version 12.6 whereas TorchAudio has CUDA version 13.0.')",
    ],
)
def test_a_cuda_mismatch_is_handled_and_logged_once(fake, caplog, native):
    caplog.set_level(logging.DEBUG)
    fake(native)
    module = load()
    assert module is load()
    assert module.early.after_stub  # submodules are imported again
    assert module._extension._IS_TORCHAUDIO_EXT_AVAILABLE is False
    assert [WARNING in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("native", "error"),
    [
        ("raise OSError('libsox.so.3: cannot open shared object file: No such file or directory')", OSError),
        ("raise OSError('x.so: undefined symbol: aoti_torch_new')", OSError),
        ("raise OSError('libc10_cuda.so: invalid ELF header')", OSError),
        ("raise RuntimeError('CUDA out of memory')", RuntimeError),
        ("raise ImportError('libc10_cuda.so: cannot open shared object file')", ImportError),
        ("raise ValueError('compiled with different CUDA versions')", ValueError),
    ],
)
def test_any_other_error_passes_and_leaves_no_stub(fake, caplog, native, error):
    fake(native)
    with pytest.raises(error):
        load()
    assert STUB not in sys.modules
    assert caplog.records == []


def test_a_package_that_fails_without_its_native_part_too_leaves_no_stub(fake, caplog):
    fake("raise OSError('libc10_cuda.so: cannot open shared object file')", after="raise ImportError('broken')")
    with pytest.raises(ImportError, match="broken"):
        load()
    assert STUB not in sys.modules
    assert caplog.records == []


def test_a_fitting_torchaudio_is_unchanged(fake, caplog):
    fake("native = True")
    assert load()._extension.native
    assert caplog.records == []


def test_a_warning_of_torchaudio_at_import_is_no_error(fake):
    fake("import warnings; warnings.warn('moved', DeprecationWarning)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load().early
