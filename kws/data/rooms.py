"""Impulse responses of rooms: with them, clips sound as if they were spoken at some distance from the microphone."""

from pathlib import Path

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws.common.errors import KwsError, missing_extra
from kws.data.audio import load
from kws.data.sound_files import sound_files

LONGEST_S = 1.0  # of a response; what comes later is hardly heard under noise
MOST = 2000  # of the responses of a folder, to bound the memory
ONSET = 0.25  # the direct sound is the first that reaches this part of the highest peak, which may be an echo
EARLY_S = 0.001  # kept before the direct sound: its rise
SMALLEST_M, LARGEST_M = np.array([2.5, 2.5, 2.3]), np.array([8.0, 6.0, 3.2])  # simulated rooms: length, width, height
TRIES = 10_000  # rooms that are sampled until one fits
WALL_M = 0.3  # least distance of speaker and microphone from a wall
IMAGE_ORDER, SCATTERING = 3, 0.1  # reflections by image sources, and the share of sound that a wall scatters
DECAY_DB = -40.0  # a response ends where this part of its energy is left; recorded ones are noise from there on


def read_rooms(folder: Path, sample_rate: int) -> Tensor:
    """Read the impulse responses in a folder, each of energy 1 and from its direct sound on.

    Args:
        folder: sound files of any sample rate, one response each; several channels are averaged. Of more than MOST,
            as many are taken, evenly over their names.
        sample_rate: Hz of the result.

    Shape: returns float32 [R, L], L at most LONGEST_S; shorter responses are followed by zeros.

    Raises:
        KwsError: there is no sound file, or one does not decode.
    """
    files = sound_files(folder, "augment.rooms")
    chosen = files if len(files) <= MOST else [files[int(i)] for i in np.linspace(0, len(files) - 1, MOST)]
    found = [trimmed(load(path, sample_rate), sample_rate) for path in chosen]
    made = torch.zeros(len(found), max(map(len, found)))
    for row, response in zip(made, found, strict=True):
        row[: len(response)] = torch.from_numpy(response)
    return made


def trimmed(response: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """A response from its direct sound to the end of its decay, with energy 1.

    The distance to the microphone is no delay then, so that a keyword ends where it did. The decay is integrated
    backwards (Schroeder, 1965).

    Shape: response [T], returns [at most T].
    """
    loud = np.abs(response)
    first = max(0, int((loud >= ONSET * loud.max()).argmax()) - round(EARLY_S * sample_rate))
    kept = response[first : first + round(LONGEST_S * sample_rate)].astype(np.float64)
    left = np.cumsum(kept[::-1] ** 2)[::-1]
    kept = kept[: int((left > left[0] * 10 ** (DECAY_DB / 10)).sum())]
    scaled: NDArray[np.float32] = (kept / np.sqrt((kept**2).sum())).astype(np.float32)
    return scaled


def reverberate(x: Tensor, responses: Tensor) -> Tensor:
    """Convolve each clip with a response; what would follow the end of the clip is left out.

    Shape: x [B, T], responses [B, L]; returns [B, T].
    """
    n = scipy.fft.next_fast_len(x.shape[1] + responses.shape[1] - 1, real=True)
    product = torch.fft.rfft(x, n) * torch.fft.rfft(responses, n)
    clips: Tensor = torch.fft.irfft(product, n)[:, : x.shape[1]]
    return clips


def simulated(
    seed: int, sample_rate: int, decay_s: tuple[float, float], distance_m: tuple[float, float]
) -> NDArray[np.float32]:
    """Simulate a response between two places of a random living room.

    The first reflections are those of image sources (Allen & Berkley, 1979), the later ones of traced rays (Schröder,
    2011): image sources alone decay up to 1.7 times as slowly as asked.

    Args:
        seed: of the room, the two places, the decay and the rays.
        sample_rate: Hz.
        decay_s: shortest and longest time in which sound decays by 60 dB, s.
        distance_m: shortest and longest distance of speaker and microphone, m.

    Shape: returns float32 [T].

    Raises:
        KwsError: the package that simulates is missing, or no room has such a distance and decay.
    """
    try:
        import pyroomacoustics
    except ModuleNotFoundError as error:
        if error.name != "pyroomacoustics":
            raise
        raise missing_extra("kws rooms", "rooms") from None
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):  # until a room has both places and can decay so fast
        size = rng.uniform(SMALLEST_M, LARGEST_M)
        speaker, microphone = (rng.uniform(WALL_M, size - WALL_M) for _ in range(2))
        if not distance_m[0] <= np.linalg.norm(speaker - microphone) <= distance_m[1]:
            continue
        try:
            absorption, _order = pyroomacoustics.inverse_sabine(rng.uniform(*decay_s), size)
        except ValueError:  # even walls that absorb all sound would let it decay more slowly
            continue
        break
    else:
        raise KwsError(
            f"decay_s={list(decay_s)} distance_m={list(distance_m)}: no living room is so wide and decays so fast"
        )
    pyroomacoustics.seed(seed)
    material = pyroomacoustics.Material(absorption, SCATTERING)
    room = pyroomacoustics.ShoeBox(size, sample_rate, materials=material, max_order=IMAGE_ORDER, ray_tracing=True)
    room.add_source(speaker)
    room.add_microphone(microphone)
    room.compute_rir()
    return trimmed(np.asarray(room.rir[0][0], np.float32), sample_rate)
