"""Audio as other programs hand it to a detector: any sample type and one-channel shape. TorchScript compiles this."""

import torch
from torch import Tensor


def one_channel(pcm: Tensor) -> Tensor:
    """One channel of audio as a vector, with samples as of `full_scale`.

    Shape: pcm [n], [1, n] or [n, 1]; returns float32 [n].

    Raises:
        ValueError: another shape, or samples that are no audio.
    """
    if pcm.dim() == 2 and (pcm.shape[0] == 1 or pcm.shape[1] == 1):
        pcm = pcm.reshape(-1)
    if pcm.dim() != 1:
        raise ValueError(f"pcm: must be one channel of audio, [n], [1, n] or [n, 1], not {list(pcm.shape)}")
    return full_scale(pcm)


def full_scale(pcm: Tensor) -> Tensor:
    """Samples as float32 in [-1, 1]. Integers are divided by their range.

    Samples that are not finite, or more than 60 dB above full scale, count as silence.

    Shape: any; the same is returned.

    Raises:
        ValueError: samples that are no audio.
    """
    if pcm.dtype == torch.int16:
        return pcm.float() / 32768.0
    if pcm.dtype == torch.int32:
        return pcm.float() / 2147483648.0
    if pcm.dtype == torch.uint8:
        return (pcm.float() - 128.0) / 128.0
    if not torch.is_floating_point(pcm):
        raise ValueError("pcm: must be samples of type float32, float64, float16, int16, int32 or uint8")
    pcm = pcm.float()
    return torch.where(pcm.abs() <= 1000.0, pcm, 0.0)
