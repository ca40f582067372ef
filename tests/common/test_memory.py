"""Memory that is freed and allocated again."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
from kws.common.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
block = b"x" * (100 << 20)
del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = b"x" * (100 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep: bool) -> int:
    """Pages of 100 MB that the system clears once more after they were freed."""
    code = FAULTS.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries are left as they are")
def test_a_large_block_that_is_freed_is_used_again():
    if page_faults(keep=False) < 1000:
        pytest.skip("this C library keeps large blocks by itself")
    assert page_faults(keep=True) < 1000
