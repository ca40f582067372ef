"""Where each phone is in transcribed speech.

Hidden Markov models of the phones, which learn from recordings and their transcripts alone: each phone has three states
that follow each other, each state is a Gaussian mixture of cepstra, and a pause may stand between two words. All phones
are taken as equally long first. Then the states are placed by the Viterbi algorithm and estimated anew, in turns
(segmental k-means: Juang & Rabiner, 1990).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from kws.data.alignment import cepstra

HOP_S = 0.01
PAUSE = 0  # number of the pause among the phones
ROUNDS = (1,) * 7 + (2,) * 2 + (4,) * 3  # Gaussians of a state in each round
CEPSTRA = 13  # the first columns of a frame; their differences follow
STATES = 3  # of a phone
_EDGE = 0.05  # share of a recording that is a pause at first, at either end
_LEAST_VARIANCE = 0.05  # that of all frames is 1
_FEWEST = 20  # frames that a Gaussian is estimated from
_AT_ONCE = 60_000  # frames of the recordings that are aligned together
_NEVER = -1e9


@dataclass(frozen=True, eq=False)
class Utterance:
    """A recording and what is said in it.

    Args:
        frames: of `frames_of`. Shape: float32 [N, D].
        words: the numbers of the phones of each word, from 1 up.
    """

    frames: Tensor
    words: Sequence[Sequence[int]]


class Phone(NamedTuple):
    """A phone and its place: the first frame, and the frame after the last."""

    number: int
    start: int
    end: int


def frames_of(x: NDArray[np.float32], sample_rate: int) -> Tensor:
    """Cepstra every 10 ms with their first and second differences, normalised over the recording.

    Shape: x [T] in [-1, 1]; returns float32 [ceil(T / hop), 39].
    """
    # Without the first frame, each frame is around its own 10 ms: half of a window of 32 ms is before them.
    n = -(-len(x) // round(HOP_S * sample_rate))
    c = torch.from_numpy(cepstra(x, sample_rate, HOP_S)[0][1 : n + 1]).float()
    c = (c - c.mean(0)) / c.std(0, correction=0).clamp_min(1e-3)
    first = _slope(c)
    return torch.cat([c, first, _slope(first)], 1)


def _slope(x: Tensor) -> Tensor:
    """Slope over five frames, as large as the frames themselves. Shape: [N, D], as is the result."""
    wide = pad(x.t()[None], (2, 2), mode="replicate")[0].t()
    return 0.3 * (2 * (wide[4:] - wide[:-4]) + wide[3:-1] - wide[1:-3])


class _Chain(NamedTuple):
    """States of a recording in order. Shape: [S] each.

    `may_skip`: the state may follow the one before the last, so that the pause between them is left out.
    """

    states: Tensor
    may_skip: Tensor
    phones: Tensor  # which phone of the recording a state belongs to; -1 for a pause


class _Models(NamedTuple):
    """Mixtures of all states. Shape: means and variances [S, G, D], weights [S, G]."""

    means: Tensor
    variances: Tensor
    weights: Tensor


def align(
    utterances: Sequence[Utterance], phones_n: int, progress: Callable[[int], None] = lambda rounds: None
) -> list[list[Phone]]:
    """Train the models on recordings, one or more, and place the phones in them.

    Args:
        utterances: each with `STATES` frames a phone and two more; an hour or more of several speakers.
        phones_n: how many phones there are, the pause included.
        progress: called with the rounds done, of `len(ROUNDS)`.

    Returns:
        the phones of each recording, in order.
    """
    order = sorted(range(len(utterances)), key=lambda i: len(utterances[i].frames))
    chosen = [utterances[i] for i in order]
    chains = [_chain(one.words) for one in chosen]
    frames = torch.cat([one.frames for one in chosen])
    paths = [_equal_parts(one, chain) for one, chain in zip(chosen, chains, strict=True)]
    models: _Models | None = None
    for done, gaussians in enumerate(ROUNDS, 1):
        states = torch.cat([chain.states[path] for chain, path in zip(chains, paths, strict=True)])
        models = _estimated(frames, states, STATES * phones_n, gaussians, models)
        paths = _placed(chosen, chains, models)
        progress(done)
    found: list[list[Phone]] = [[]] * len(order)
    for i, one, chain, path in zip(order, chosen, chains, paths, strict=True):
        numbers = [number for word in one.words for number in word]
        ends = torch.bincount(chain.phones[path] + 1, minlength=len(numbers) + 1)[1:]  # frames of each phone
        starts = torch.searchsorted(chain.phones.cummax(0).values[path].contiguous(), torch.arange(len(numbers)))
        found[i] = [Phone(n, int(a), int(a) + int(k)) for n, a, k in zip(numbers, starts, ends, strict=True)]
    return found


def _chain(words: Sequence[Sequence[int]]) -> _Chain:
    """Pause, word, pause, word and so on; a pause is one state."""
    states, may_skip, phones, n = [STATES * PAUSE], [False], [-1], 0
    for word in words:
        for i, number in enumerate(word):
            states += [STATES * number + part for part in range(STATES)]
            may_skip += [i == 0, *[False] * (STATES - 1)]
            phones += [n] * STATES
            n += 1
        states.append(STATES * PAUSE)
        may_skip.append(False)
        phones.append(-1)
    return _Chain(torch.tensor(states), torch.tensor(may_skip), torch.tensor(phones))


def _equal_parts(one: Utterance, chain: _Chain) -> Tensor:
    """States of equal length without pauses but at both ends. Shape: returns int64 [N], places in the chain."""
    n, spoken = len(one.frames), (chain.phones >= 0).nonzero().flatten()
    edge = max(1, int(_EDGE * n))
    inside = spoken[torch.arange(n - 2 * edge) * len(spoken) // (n - 2 * edge)]
    return torch.cat([torch.zeros(edge).long(), inside, torch.full((edge,), len(chain.states) - 1)])


def _scores(frames: Tensor, models: _Models) -> Tensor:
    """Log-likelihood of each Gaussian with its weight. Shape: frames [N, D], returns [N, S, G]."""
    means, variances, weights = (part.flatten(0, 1) for part in models)
    constant = weights.log() - 0.5 * (variances.log() + means.square() / variances).sum(1)
    scores = frames @ (means / variances).t() - 0.5 * frames.square() @ (1 / variances).t() + constant
    by_state: Tensor = scores.unflatten(1, models.weights.shape)
    return by_state


def _estimated(frames: Tensor, states: Tensor, states_n: int, gaussians: int, old: _Models | None) -> _Models:
    """Mixtures of the frames of each state, each frame belonging to its likeliest Gaussian.

    Where there are to be more Gaussians than in `old`, each of those is split in two.
    """
    member = torch.zeros(len(frames), dtype=torch.long)
    if old is not None and gaussians > 1:
        if old.weights.shape[1] < gaussians:
            apart = 0.2 * old.variances.sqrt()
            means = torch.cat([old.means - apart, old.means + apart], 1)
            old = _Models(means, old.variances.repeat(1, 2, 1), old.weights.repeat(1, 2) / 2)
        parts = zip(frames.split(_AT_ONCE), states.split(_AT_ONCE), strict=True)
        member = torch.cat([_scores(x, old)[torch.arange(len(x)), its].argmax(1) for x, its in parts])
    of = states * gaussians + member
    n = torch.bincount(of, minlength=states_n * gaussians).float()
    means, squares = (
        torch.zeros(len(n), frames.shape[1]).index_add_(0, of, x) / n.clamp_min(1)[:, None]
        for x in (frames, frames.square())
    )
    variances = (squares - means.square()).clamp_min(_LEAST_VARIANCE)
    few = n < _FEWEST
    means[few] = frames.mean(0) if old is None else old.means.flatten(0, 1)[few]
    variances[few] = frames.var(0)
    weights = (n + 1).view(states_n, gaussians)
    shape = (states_n, gaussians, -1)
    return _Models(means.view(shape), variances.view(shape), weights / weights.sum(1, keepdim=True))


def _placed(chosen: Sequence[Utterance], chains: Sequence[_Chain], models: _Models) -> list[Tensor]:
    """Likeliest states of all frames, recordings of similar length together. Shape: returns int64 [N] each."""
    found, some = list[Tensor](), list[int]()
    for i, one in enumerate(chosen):  # in order of length
        if some and (len(some) + 1) * len(one.frames) > _AT_ONCE:
            found += _viterbi([chosen[k] for k in some], [chains[k] for k in some], models)
            some = []
        some.append(i)
    return found + _viterbi([chosen[k] for k in some], [chains[k] for k in some], models)


def _viterbi(some: Sequence[Utterance], chains: Sequence[_Chain], models: _Models) -> list[Tensor]:
    """The Viterbi algorithm on several recordings at once: a state stays, follows, or skips a pause."""
    padded = torch.nn.utils.rnn.pad_sequence
    states = padded([chain.states for chain in chains], batch_first=True)
    skips = torch.where(padded([chain.may_skip for chain in chains], batch_first=True), 0.0, _NEVER)
    likely = padded([torch.logsumexp(_scores(one.frames, models), 2) for one in some], batch_first=True)
    lengths = [len(one.frames) for one in some]
    best = torch.full(states.shape, _NEVER)
    best[:, :2] = 0.0
    best = best + likely[:, 0].gather(1, states)
    last, steps = best, torch.zeros(likely.shape[1], *states.shape, dtype=torch.int8)
    ended = torch.tensor(lengths)[:, None]
    for t in range(1, likely.shape[1]):
        after, skipped = pad(best[:, :-1], (1, 0), value=_NEVER), pad(best[:, :-2], (2, 0), value=_NEVER) + skips
        best, steps[t] = torch.stack([best, after, skipped]).max(0)
        best = best + likely[:, t].gather(1, states)
        last = torch.where(ended == t + 1, best, last)
    paths = []
    for i, (n, chain) in enumerate(zip(lengths, chains, strict=True)):
        at = len(chain.states) - 1 - int(last[i, len(chain.states) - 2] >= last[i, len(chain.states) - 1])
        back, path = steps[:n, i].numpy(), np.empty(n, np.int64)
        for t in range(n - 1, -1, -1):
            path[t] = at
            at -= int(back[t, at])
        paths.append(torch.from_numpy(path))
    return paths
