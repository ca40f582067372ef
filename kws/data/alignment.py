"""Alignment of recordings of one keyword: the stretch of sound on which they agree.

A left-to-right hidden Markov model of the keyword, against a Gaussian mixture of all sound of the recordings (keyword
and filler model: Rose & Paul, 1990). It is trained by Viterbi alignment, from known positions or from the segment of a
recording that recurs in most others (segmental matching: Park & Glass, 2008). One state is one frame, may be held or
skipped, and all scores are log-likelihood ratios, so the length of the keyword need not be known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

HOP_S = 0.02
BREAK = -1  # frame number of a break between two stretches, which no keyword spans

_WINDOW_S = 0.032
_MELS, _CEPSTRA = 26, 13
_GAUSSIANS = 2  # of the background; more of them model the keyword too
_ROUNDS = 8  # of training
_SKIP = 3.0  # log-likelihood that skipping a state costs
_SEED_N = (24, 40)  # frames of a segment that is tried as the keyword
_SEED_FILES, _SEED_STEP, _PROBES = 8, 4, 24  # recordings that segments are taken from, and that they are tried on
_SEED_VARIANCE = 0.6  # of a frame given the keyword, as a share of all variance
_PRIOR_N = 4  # recordings that the assumed variance counts for
_TRIED = 3  # segments that are trained on
_LOWEST = -20.0  # a segment may not match everywhere: a score below counts as this
_NEVER = np.float32(-1e9)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sound:
    """Frames of the stretches of a recording that may hold the keyword, with a break between two stretches.

    Shape: frames float32 [N, D]; numbers int64 [N], of each frame in the recording, or BREAK.
    """

    frames: Floats
    numbers: Ints


@dataclass(frozen=True)
class Match:
    """Best position of the keyword in a recording.

    Args:
        start, end: first frame, and the frame after the last.
        score: log-likelihood ratio of keyword and background.
        rival: score of the best position that does not overlap it; -inf without one.
    """

    start: int
    end: int
    score: float
    rival: float


@dataclass(frozen=True, eq=False)
class Consensus:
    """Model of a keyword. Shape: means, variances [S, D]; background: weights [G], means and variances [G, D]."""

    means: Floats
    variances: Floats
    background: tuple[Floats, Floats, Floats]
    scale: Floats


def cepstra(x: Floats, sample_rate: int, hop_s: float = HOP_S) -> tuple[Floats, Floats]:
    """Mel cepstra (Davis & Mermelstein, 1980) and level of frames of 32 ms, 20 ms apart or `hop_s`.

    Shape: x [T]; returns [N, 13] and, in dB, [N].
    """
    hop_n, window_n = round(hop_s * sample_rate), round(_WINDOW_S * sample_rate)
    fft_n = 1 << (window_n - 1).bit_length()
    frames = sliding_window_view(np.pad(x, (window_n - hop_n, window_n)), window_n)[::hop_n]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(window_n).astype(np.float32), fft_n))).astype(np.float32)
    mels = power @ _mel_bank(sample_rate, fft_n)
    total = mels.sum(1)
    log_mels = np.log(mels + 1e-5 * np.percentile(total, 99) / _MELS + 1e-9)
    angle = np.pi * np.arange(_CEPSTRA) * (np.arange(_MELS)[:, None] + 0.5) / _MELS
    return log_mels @ np.cos(angle).astype(np.float32) * np.float32((2 / _MELS) ** 0.5), 10 * np.log10(total + 1e-9)


def _mel_bank(sample_rate: int, fft_n: int) -> Floats:
    """Triangles on the mel scale from 100 Hz to 7.5 kHz. Shape: returns [F, M]."""
    top = min(7500.0, 0.95 * sample_rate / 2)
    mel = np.linspace(np.log(1 + 100 / 700), np.log(1 + top / 700), _MELS + 2)
    edges, hz = 700 * (np.exp(mel) - 1), np.fft.rfftfreq(fft_n, 1 / sample_rate)[:, None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    triangles: Floats = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return triangles


def sound(c: Floats, stretches: Sequence[tuple[int, int]]) -> Sound:
    """Cepstra without their mean, and their slopes, in the given stretches (first frame, frame after the last).

    Shape: c [N, 13]; at least one stretch.
    """
    padded = np.pad(c, ((2, 2), (0, 0)), mode="edge")
    slopes = (2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10
    numbers = np.concatenate([np.append(np.arange(a, b), BREAK) for a, b in stretches])[:-1]
    frames = np.concatenate([c - c[numbers[numbers != BREAK]].mean(0), slopes], 1)
    return Sound(frames[numbers].astype(np.float32), numbers)


class _Padded:
    """Frames of many recordings side by side. Shape: frames [T, N, D], scores of the background and validity [T, N]."""

    def __init__(self, sounds: Sequence[Sound], scale: Floats) -> None:
        longest = max(len(one.numbers) for one in sounds)
        self.frames = np.zeros((longest, len(sounds), len(scale)), np.float32)
        self.valid = np.zeros((longest, len(sounds)), bool)
        for i, one in enumerate(sounds):
            self.frames[: len(one.numbers), i] = one.frames / scale
            self.valid[: len(one.numbers), i] = one.numbers != BREAK

    def ratios(self, means: Floats, variances: Floats, background: Floats) -> Floats:
        """Log-likelihood ratio of each frame and state. Shape: background [T, N]; returns [T, S, N]."""
        scores = _gaussian(self.frames, means, variances) - background[..., None]
        scores[~self.valid] = _NEVER
        return np.ascontiguousarray(scores.transpose(0, 2, 1))


def _gaussian(x: Floats, means: Floats, variances: Floats) -> Floats:
    """Log-likelihood of diagonal Gaussians. Shape: x [..., D], means and variances [S, D]; returns [..., S]."""
    inverse = 1 / variances
    constant = (means**2 * inverse + np.log(2 * np.pi * variances)).sum(1)
    flat = x.reshape(-1, x.shape[-1])
    scores = (flat @ (means * inverse).T - 0.5 * (flat**2 @ inverse.T + constant)).astype(np.float32)
    shaped: Floats = scores.reshape(*x.shape[:-1], -1)
    return shaped


def _mixture(x: Floats, background: tuple[Floats, Floats, Floats]) -> Floats:
    weights, means, variances = background
    scores: Floats = np.logaddexp.reduce(_gaussian(x, means, variances) + np.log(weights), -1)
    return scores


def _background(x: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Gaussian mixture of the frames, by expectation maximisation. Shape: x [N, D]."""
    n = min(_GAUSSIANS, max(1, len(x) // 20))
    means, floor = x[rng.choice(len(x), n, replace=False)], x.var(0) * 0.1 + 1e-6
    variances, weights = np.tile(x.var(0) + 1e-6, (n, 1)), np.full(n, 1 / n, np.float32)
    for _ in range(_ROUNDS):
        scores = _gaussian(x, means, variances) + np.log(weights)
        share = np.exp(scores - np.logaddexp.reduce(scores, 1)[:, None])
        total = share.sum(0) + 1e-3
        means = share.T @ x / total[:, None]
        variances = np.maximum(share.T @ x**2 / total[:, None] - means**2, floor)
        weights = total / total.sum()
    return weights, means, variances


def _viterbi(ratios: Floats, longest_n: int) -> tuple[Floats, Ints]:
    """Score of the best path that ends at each frame, and the frame where it begins.

    Shape: ratios [T, S, N]; returns [T, N] and [T, N].
    """
    t_n, s_n, n = ratios.shape
    # Two rows before the first state let a path begin in it, or skip it.
    score, begin = np.full((s_n + 2, n), _NEVER), np.zeros((s_n + 2, n), np.int64)
    scores, begins = np.empty((t_n, n), np.float32), np.empty((t_n, n), np.int64)
    for t in range(t_n):
        score[0], score[1], begin[:2] = _NEVER, 0, t
        best, start = score[2:].copy(), begin[2:].copy()
        for back, cost in ((1, 0.0), (2, _SKIP)):
            rows = slice(2 - back, -back)
            other = score[rows] - np.float32(cost)
            better = other > best
            best, start = np.where(better, other, best), np.where(better, begin[rows], start)
        best += ratios[t]
        best[start <= t - longest_n] = _NEVER
        score[2:], begin[2:] = best, start
        scores[t], begins[t] = score[-1], begin[-1]
    return scores, begins


def align(model: Consensus, sounds: Sequence[Sound], longest_n: int) -> list[Match]:
    """The best position of the keyword in each recording, at most `longest_n` frames long."""
    matches: list[Match] = []
    order = sorted(range(len(sounds)), key=lambda i: len(sounds[i].numbers))
    for at in range(0, len(order), 64):  # of similar length, so that little is padded
        some = [sounds[i] for i in order[at : at + 64]]
        padded = _Padded(some, model.scale)
        background = _mixture(padded.frames, model.background)
        tracks = _viterbi(padded.ratios(model.means, model.variances, background), longest_n)
        for one, scores, begins in zip(some, tracks[0].T, tracks[1].T, strict=True):
            matches.append(_match(one, scores, begins))
    return [matches[place] for place in np.argsort(order)]


def _match(one: Sound, scores: Floats, begins: Ints) -> Match:
    last = int(scores.argmax())
    first = int(begins[last])
    ends = np.arange(len(scores))
    apart = (ends < first) | (begins > last)
    numbers = one.numbers
    return Match(
        int(numbers[first]), int(numbers[last]) + 1, float(scores[last]), float(scores[apart].max(initial=-np.inf))
    )


def likeness_elsewhere(model: Consensus, one: Sound, match: Match, longest_n: int) -> float:
    """How well the keyword of a recording matches another position of it, as a share of how well it matches itself.

    The frames of the keyword are the model: query by example (Hazen, Shen & White, 2009). One speaker and one
    microphone say more than the model of all recordings, for which in long talk some position is nearly the keyword.
    """
    inside = (one.numbers >= match.start) & (one.numbers < match.end)
    numbers = np.where(inside, BREAK, one.numbers)
    if (numbers == BREAK).all():
        return -np.inf
    means = one.frames[inside] / model.scale
    variances = np.full_like(means, _SEED_VARIANCE)
    itself = np.diagonal(_gaussian(means, means, variances)) - _mixture(means, model.background)
    example = Consensus(means, variances, model.background, model.scale)
    (elsewhere,) = align(example, [Sound(one.frames, numbers)], longest_n)
    return elsewhere.score / max(float(itself.sum()), 1.0)


def learn(
    sounds: Sequence[Sound], known: Mapping[int, tuple[int, int]], longest_n: int, rng: np.random.Generator
) -> Consensus:
    """Train the model of a keyword on recordings of it.

    Args:
        sounds: recordings, at least one.
        known: first and last place of the keyword in the frames of some of them; empty to find what recurs.
        longest_n: longest keyword, frames.
        rng: samples frames, and recordings that segments are tried on.
    """
    frames = np.concatenate([one.frames[one.numbers != BREAK] for one in sounds])
    scale = frames.std(0) + np.float32(1e-6)
    frames = rng.permutation(frames / scale)[:6000]
    background = _background(frames, rng)
    padded = _Padded(sounds, scale)
    against = _mixture(padded.frames, background)
    if known:
        segments = [sounds[i].frames[a:b] / scale for i, (a, b) in known.items()]
        starts = [_states(segments, round(np.median([len(one) for one in segments])))]
    else:
        starts = _recurring(sounds, padded, against, scale, longest_n, rng)
    best, best_score = None, -np.inf
    for means, variances in starts:
        score, model = _trained(padded, against, Consensus(means, variances, background, scale), longest_n)
        if score > best_score:
            best, best_score = model, score
    assert best is not None
    return best


def _states(segments: Sequence[Floats], n: int) -> tuple[Floats, Floats]:
    """Means and variances of `n` equal parts of the segments, each of which is [frames, D]."""
    n = max(6, n)
    places = [np.minimum((np.arange(n) + 0.5) * len(one) / n, len(one) - 1).astype(int) for one in segments]
    parts = np.stack([one[place] for one, place in zip(segments, places, strict=True)])
    variances = parts.var(0)
    # A few recordings tell little of the variance of a state.
    pooled = 0.65 * (variances + variances.mean(0)) + 0.05  # a third more than measured: other recordings vary more
    pooled = (len(parts) * pooled + _PRIOR_N * _SEED_VARIANCE) / (len(parts) + _PRIOR_N)
    return parts.mean(0), pooled.astype(np.float32)


def _trained(padded: _Padded, against: Floats, model: Consensus, longest_n: int) -> tuple[float, Consensus]:
    """Align and estimate in turn, without the fifth of the recordings that match worst. Returns the mean score."""
    for _ in range(_ROUNDS):
        scores, begins = _viterbi(padded.ratios(model.means, model.variances, against), longest_n)
        last = scores.argmax(0)
        n = np.arange(len(last))
        top, first = scores[last, n], begins[last, n]
        kept = np.flatnonzero(top >= np.percentile(top, 20))
        segments = [padded.frames[first[i] : last[i] + 1, i] for i in kept]
        means, variances = _states(segments, round(np.median(last[kept] + 1 - first[kept])))
        model = replace(model, means=means, variances=variances)
    return float(np.maximum(top, _LOWEST).mean()), model


def _recurring(
    sounds: Sequence[Sound],
    padded: _Padded,
    against: Floats,
    scale: Floats,
    longest_n: int,
    rng: np.random.Generator,
) -> list[tuple[Floats, Floats]]:
    """States of the segments of the shortest recordings that match best elsewhere."""
    probes = rng.permutation(len(sounds))[:_PROBES]
    some = _Padded([sounds[i] for i in probes], scale)
    beneath = against[: len(some.frames), probes]
    shortest = sorted(range(len(sounds)), key=lambda i: len(sounds[i].numbers))[:_SEED_FILES]
    found: list[tuple[float, int, int, Floats]] = []
    for length in _SEED_N:
        for i in shortest:
            places = range(0, len(sounds[i].numbers) - length + 1, _SEED_STEP)
            whole = [a for a in places if padded.valid[a : a + length, i].all()]
            segments = [padded.frames[a : a + length : 2, i] for a in whole]
            scores = [_recurrence(some, beneath, segments[k : k + 16], longest_n) for k in range(0, len(segments), 16)]
            flat = np.concatenate(scores) if scores else ()
            found += [(float(s), i, a, padded.frames[a : a + length, i]) for s, a in zip(flat, whole, strict=True)]
    found.sort(key=lambda one: -one[0])
    tried: list[tuple[int, int, Floats]] = []
    for _, i, a, segment in found:
        if len(tried) < _TRIED and all(i != j or abs(a - b) > len(segment) // 2 for j, b, _ in tried):
            tried.append((i, a, segment))
    return [(segment, np.full_like(segment, _SEED_VARIANCE)) for _, _, segment in tried]


def _recurrence(some: _Padded, beneath: Floats, segments: Sequence[Floats], longest_n: int) -> Floats:
    """Mean of the best scores of some segments of one length. Shape: returns [number of segments]."""
    means = np.concatenate(segments)
    ratios = some.ratios(means, np.full_like(means, _SEED_VARIANCE), beneath)
    t_n, _, n = ratios.shape
    q = len(segments)
    side_by_side = np.ascontiguousarray(ratios.reshape(t_n, q, -1, n).swapaxes(1, 2)).reshape(t_n, -1, q * n)
    scores, _ = _viterbi(side_by_side, longest_n)
    mean: Floats = np.maximum(scores.max(0), _LOWEST).reshape(q, n).mean(1)
    return mean
