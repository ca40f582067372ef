"""Background noise as long as it is needed: a short recording is repeated."""

import numpy as np
from numpy.typing import NDArray

_FADE_S = 0.05  # crossfade between two repeats


def repeated(x: NDArray[np.int16], n: int, sample_rate: int) -> NDArray[np.int16]:
    """Noise that holds a window of `n` samples from any place of its recording; a longer recording as it is.

    A shorter one is repeated with crossfades of equal power, until a window may begin anywhere in its first repeat.

    Shape: x int16 [T], T at least 1; returns int16 [at least n].
    """
    if len(x) >= n:
        return x
    fade_n = min(round(_FADE_S * sample_rate), len(x) // 2)
    period_n = len(x) - fade_n
    angle = (np.arange(fade_n) + 0.5) / max(1, fade_n) * (np.pi / 2)
    seam = x[period_n:] * np.cos(angle) + x[:fade_n] * np.sin(angle)
    once = np.concatenate([np.clip(np.rint(seam), -32768, 32767).astype(np.int16), x[fade_n:period_n]])
    return np.resize(once, n + period_n - 1)
