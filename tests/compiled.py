"""Compile what the processes of the tests would each compile at the same time: `make test` calls this once.

Python compiles what is imported, pytest the assertions, and numba the functions of librosa and the threshold sweep.
"""

import pytest

if __name__ == "__main__":
    pytest.main(["--collect-only"])  # before other imports: pytest compiles assertions of what it imports itself
    import librosa
    import numpy as np

    from kws.evaluation.threshold_sweep import sweep
    from tests.tracks import track

    sweep(track([0.5]))
    librosa.resample(np.zeros(2), orig_sr=2, target_sr=1)
    assert callable(librosa.feature.mfcc)
