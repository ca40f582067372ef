"""Log-mel front end, with equal frames for a clip, an hour of audio and an 80 ms chunk."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from kws.common.settings import SettingError
from kws.common.tensors import exporting, windows
from kws.common.torchaudio_compat import torchaudio

SHIFT, SCALE = 4.0, 5.0  # scale log energies to about unit range
UNITS_PER_DB = math.log(10) / 10 / SCALE  # change of a feature per dB of gain
FLOOR = 1e-6  # power added before the logarithm: about 16-bit rounding noise, so that digital silence stays finite


@dataclass
class FeaturesConfig:
    """Settings of the log-mel front end."""

    n_mels: Annotated[int, Field(ge=8, le=128, description="mel bands")] = 40
    window_s: Annotated[float, Field(ge=0.005, le=0.1, description="window, s")] = 0.025
    hop_s: Annotated[float, Field(ge=0.002, le=0.05, description="time between frames, s; at most window_s")] = 0.01
    low_hz: Annotated[float, Field(ge=0, le=1000, description="lower edge of the lowest band, Hz")] = 60.0

    def check(self) -> None:
        if self.hop_s > self.window_s:
            raise SettingError("hop_s", self.hop_s, f"must be at most window_s={self.window_s}")

    def layer(self) -> tuple[str | None, dict[str, Any]]:
        """Name and arguments of the input layer between log-mel frames and net; None for log-mel."""
        return None, {}

    def n_rows(self) -> int:
        """Rows of a frame at the input of the net."""
        return self.n_mels


class LogMel(nn.Module):
    """Log-mel energies of unpadded frames (Davis & Mermelstein, 1980), scaled to about unit range.

    Frame `i` covers samples `[i * hop, i * hop + window)`. Nothing is centred, padded or normalised over the
    utterance, so a frame depends on its own samples only.

    Args:
        sample_rate: Hz.
        n_mels: number of mel bands, M.
        window_s: length of the Hann window, seconds.
        hop_s: seconds between frames.
        low_hz: lower edge of the lowest band, Hz; the highest ends at 0.95 of the Nyquist frequency.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mels: int = 40,
        window_s: float = 0.025,
        hop_s: float = 0.01,
        low_hz: float = 60.0,
    ) -> None:
        super().__init__()
        self.sample_rate, self.n_mels = sample_rate, n_mels
        self.window_n, self.hop_n = round(window_s * sample_rate), round(hop_s * sample_rate)
        self.context_n = self.window_n - self.hop_n  # earlier samples that the first new frame needs
        self.fft_n = 1 << (self.window_n - 1).bit_length()
        banks = torchaudio.functional.melscale_fbanks(
            self.fft_n // 2 + 1, low_hz, 0.95 * sample_rate / 2, n_mels, sample_rate, norm=None, mel_scale="htk"
        )
        self.piece_n = math.gcd(self.window_n, self.hop_n)
        self.shift, self.scale, self.floor = SHIFT, SCALE, FLOOR
        self.window: Tensor
        self.banks: Tensor
        self.register_buffer("window", torch.hann_window(self.window_n), persistent=False)
        self.register_buffer("banks", banks, persistent=False)
        used = banks.sum(1).nonzero()
        self.first, self.last = int(used[0]), int(used[-1]) + 1  # bins of the spectrum that bands use
        self.cosine: Tensor
        self.register_buffer(
            "cosine", torch.cos(torch.arange(self.fft_n) * (2 * math.pi / self.fft_n)), persistent=False
        )

    def forward(self, pcm: Tensor) -> Tensor:
        """Compute log-mel frames of `pcm` in [-1, 1].

        Shape: pcm [..., T], T at least one window; returns [..., M, N], N = (T - window) // hop + 1.
        """
        if exporting():
            bands = self.banks[self.first : self.last]
            power = self._squares(pcm) @ torch.cat([bands, bands])
        else:
            spectrum = torch.fft.rfft(pcm.unfold(-1, self.window_n, self.hop_n) * self.window, self.fft_n)
            power = (torch.real(spectrum).square() + torch.imag(spectrum).square()) @ self.banks
        return (torch.log(power + self.floor).transpose(-2, -1) + self.shift) / self.scale

    def _squares(self, pcm: Tensor) -> Tensor:
        """Squares of the real and imaginary parts of the spectrum, by one matrix product: fast for a few frames.

        Shape: pcm [..., T], returns [..., N, 2 * F].
        """
        pieces = pcm[..., : pcm.shape[-1] // self.piece_n * self.piece_n].unflatten(-1, (-1, self.piece_n))
        frames = windows(pieces, self.window_n // self.piece_n, 1, self.hop_n // self.piece_n).flatten(-2)
        # The file holds one period of the cosine and not the whole matrix: onnxruntime computes it when it starts.
        turns = torch.arange(self.window_n)[:, None] * torch.arange(self.first, self.last)
        waves = torch.cat([self.cosine[(turns - i * self.fft_n // 4) % self.fft_n] for i in range(2)], 1)
        parts = frames @ (waves * self.window[:, None])
        return parts * parts

    def clips(self, pcm: Tensor, multiple: int) -> Tensor:
        """Compute features of clips as in a detector that starts from silence.

        Shape: pcm [B, T], cut to a multiple of `multiple` samples; returns [B, M, T / hop].
        """
        usable = pcm.shape[1] // multiple * multiple
        padded = torch.nn.functional.pad(pcm[:, :usable], (self.context_n, 0))
        # A few clips at a time stay in the cache of a CPU, three times as fast as the whole batch at once.
        at_once = 4 if pcm.device.type == "cpu" else pcm.shape[0]
        return torch.cat([self.forward(some) for some in torch.split(padded, at_once)])
