"""A small spoken corpus out of nothing but keywords: what the quickstart trains and measures on.

Positives and negatives are said by the same voices, or a detector learns the voice instead of the word.
Voices are divided over the parts by timbre: nobody in the test part was heard in training, in any accent.
"""

import importlib.resources
import itertools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.common.errors import KwsError
from kws.common.seeding import numpy_generator
from kws.confusables.synthesis.espeak import Voice, accents, phonemes, speak, timbres
from kws.confusables.synthesis.render import MANIFEST, begin, finish, is_complete, plain_name
from kws.confusables.synthesis.voices import PARTS, by_lot, cast, spread
from kws.data.audio import save_flac, to_int16
from kws.data.manifest import Split

SAMPLE_RATE = 16000
COLUMNS = ("path", "duration_s", "label", "speaker", "text", "source", "part")
# A rate of false alarms needs hours more than training needs sentences: the test part gets most of them.
SENTENCE_SHARES = (0.35, 0.15)
COLOURS = {"white": 0, "pink": 0.5, "brown": 1}  # amplitude falls with this power of the frequency
NOISES = (*COLOURS, "hum", "ticks", "chirps")
NOISE_S = 5.0
MIN_CLIPS = 7  # the fewest of which every part gets one
MIN_VOCABULARY = 50
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class _Clip:
    """One file to be made: spoken text, or noise where there is no voice."""

    path: str
    label: str
    split: Split
    source: str
    text: str = ""
    voice: Voice | None = None


def speak_corpus(
    folder: Path,
    keywords: Sequence[str],
    seed: int,
    n_positives: int = 240,
    n_confusables: int = 240,
    n_sentences: int = 400,
    n_noise: int = 40,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Speaks positives and negatives for `keywords` into `folder` and returns its `manifest.csv`.

    The same arguments make the same bytes. The manifest is written last: a folder that has it is complete and
    left as it is, one without is made anew.

    Args:
        folder: FLAC files go into one subfolder a label: each keyword, `speech` and `noise`.
        keywords: what the detector is to hear; spaces become underscores in the label.
        seed: of every choice of voice, text and noise.
        n_positives: clips of each keyword, at least 7.
        n_confusables: clips of texts near a keyword, over all keywords; 0 or at least 7.
        n_sentences: of 4 to 12 random words, at least 7; half of them are in the test part.
        n_noise: clips of 5 s, 0 or at least 7.
        progress: called with (clips done, clips in all).

    Raises KwsError for keywords or counts out of range, and for a folder that holds something else.
    """
    keywords = [" ".join(keyword.split()) for keyword in keywords]
    n_of = {"positives": n_positives, "sentences": n_sentences, "confusables": n_confusables}
    n_of["noise"] = n_noise
    _check(keywords, n_of)
    arguments = {"keywords": keywords, "seed": seed, **n_of}
    if is_complete(folder, arguments):
        return folder / MANIFEST
    clips = list(_spoken(keywords, seed, n_of))
    for i, split in enumerate(spread(n_noise)):
        kind = NOISES[i % len(NOISES)]
        clips.append(_Clip(f"noise/{kind}-{i:05d}.flac", "noise", split, f"generated {kind}"))
    begin(folder, arguments, (clip.path for clip in clips))
    rows: list[tuple[str, ...]] = []
    for n_done, clip in enumerate(clips, start=1):
        pcm = to_int16(speak(clip.text, clip.voice, SAMPLE_RATE) if clip.voice else _noise(clip, seed))
        save_flac(folder / clip.path, pcm, SAMPLE_RATE)
        speaker, duration_s = clip.voice.name if clip.voice else "", f"{len(pcm) / SAMPLE_RATE:.4f}"
        rows.append((clip.path, duration_s, clip.label, speaker, clip.text, clip.source, clip.split))
        if progress:
            progress(n_done, len(clips))
    return finish(folder, COLUMNS, rows)


def _check(keywords: Sequence[str], n_of: dict[str, int]) -> None:
    labels = [keyword.replace(" ", "_") for keyword in keywords]
    if not keywords or len({label.casefold() for label in labels}) < len(labels):
        raise KwsError(f"keywords: {list(keywords)!r}: at least one, and each only once")
    for keyword, label in zip(keywords, labels, strict=True):
        if not _letters(keyword) or not keyword.isprintable() or label.casefold() in ("speech", "noise"):
            raise KwsError(f"keywords: {keyword!r}: words are needed, other than speech and noise")
    for name, n_clips in n_of.items():
        if n_clips < MIN_CLIPS and (n_clips != 0 or name in ("positives", "sentences")):
            raise KwsError(f"n_{name}: {n_clips} is less than {MIN_CLIPS}, too few for every part to get one")


def _letters(text: str) -> str:
    """What texts or their sounds in IPA are compared by: no spaces, case, stress or length (category Lm)."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in plain if char.isalnum() and unicodedata.category(char) != "Lm")


def _cast(seed: int, n_voices: dict[Split, int]) -> dict[Split, list[str]]:
    """So many voices for each part: no timbre is in two parts, and all are in use before one comes twice."""
    rng = numpy_generator(seed, "corpus", "cast")
    voices = by_lot(timbres(), rng)
    return {split: cast(voices[split], n_voices[split], rng) for split in PARTS}


def _spoken(keywords: Sequence[str], seed: int, n_of: dict[str, int]) -> Iterator[_Clip]:
    words = (
        importlib.resources.files("kws.confusables.synthesis").joinpath("words.txt").read_text(encoding="utf-8").split()
    )
    vocabulary = _not_saying(keywords, words)
    if len(vocabulary) < MIN_VOCABULARY:
        raise KwsError(f"keywords: {list(keywords)!r}: too short, most other words contain one")
    said = [(keyword.replace(" ", "_"), "keyword", [keyword] * n_of["positives"]) for keyword in keywords]
    said.append(("speech", "sentence", _sentences(keywords, vocabulary, seed, n_of["sentences"])))
    said.append(("speech", "confusable", _confusables(keywords, vocabulary, seed, n_of["confusables"])))
    positive_parts, sentence_parts = spread(n_of["positives"]), spread(n_of["sentences"], SENTENCE_SHARES)
    # As many voices as the rarer of positives and sentences: then each voice says both.
    voices = _cast(seed, {split: min(positive_parts.count(split), sentence_parts.count(split)) for split in PARTS})
    for label, kind, texts in said:
        splits = sentence_parts if kind == "sentence" else spread(len(texts))
        for i, (text, split) in enumerate(zip(texts, splits, strict=True)):
            rng = numpy_generator(seed, "corpus", "voice", label, kind, i)
            name = voices[split][(i - splits.index(split)) % len(voices[split])]
            voice = Voice(name, int(rng.integers(130, 211)), int(rng.integers(20, 81)))
            path = f"{plain_name(label)}/{kind}-{i:05d}.flac"
            yield _Clip(path, label, split, f"espeak-ng {kind}", text, voice)


def _not_saying(keywords: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Those of `texts` that hold no keyword by spelling, nor by sound: homophones are not negatives."""
    ways = [[_letters(text) for text in (*keywords, *texts)]]
    for accent in accents():
        ways.append([_letters(sound) for sound in phonemes([*keywords, *texts], accent)])
    n = len(keywords)
    says = [any(keyword in way[n + i] for way in ways for keyword in way[:n]) for i in range(len(texts))]
    return [text for text, it_does in zip(texts, says, strict=True) if not it_does]


def _sentences(keywords: Sequence[str], vocabulary: Sequence[str], seed: int, n: int) -> list[str]:
    """Random words, 4 to 12 of them, that do not spell a keyword even across a space."""
    sentences = []
    for i in range(n):
        rng = numpy_generator(seed, "corpus", "sentence", i)
        sentence = ""
        while not sentence or any(_letters(keyword) in _letters(sentence) for keyword in keywords):
            sentence = " ".join(rng.choice(vocabulary, size=rng.integers(4, 13)))
        sentences.append(sentence)
    return sentences


def _confusables(keywords: Sequence[str], vocabulary: Sequence[str], seed: int, n: int) -> list[str]:
    """Texts that sound somewhat like the keywords: pieces, the nearest words, edits of one letter.

    At least a third of the keyword's phones differ: what nobody can tell from it by ear teaches and tells nothing.
    """
    pools = []
    for keyword in keywords:
        rng = numpy_generator(seed, "corpus", "confusables", keyword)
        nearest = sorted(vocabulary, key=lambda word: (_distance(keyword, word), word))[:40]
        near = [*_pieces(keyword), *nearest, *map(str, rng.permutation(_edits(keyword)))]
        sayable = [text for text in dict.fromkeys(near) if _letters(text)]
        sound, *sounds = (_letters(phones) for phones in phonemes([keyword, *sayable]))
        apart = [t for t, phones in zip(sayable, sounds, strict=True) if 3 * _distance(sound, phones) >= len(sound)]
        pools.append(itertools.cycle(_not_saying(keywords, apart or sayable)))
    drawn = [next(pools[i % len(pools)]) for i in range(n)]
    # Shuffled, or pieces would be for training and edits for the test.
    return [str(text) for text in numpy_generator(seed, "corpus", "confusables").permutation(drawn)]


def _pieces(word: str) -> list[str]:
    first, second = word[: len(word) // 2], word[len(word) // 2 :]
    prefixes, suffixes = [word[:n] for n in range(2, len(word))], [word[n:] for n in range(1, len(word) - 1)]
    return [text.strip() for text in (*prefixes, *suffixes, first * 2, second * 2)]


def _edits(word: str) -> list[str]:
    """Every text that differs from `word` in one letter: left out, replaced or put in."""
    cuts = [(word[:n], word[n:]) for n in range(len(word) + 1)]
    left_out = {head + tail[1:] for head, tail in cuts}
    replaced = {head + letter + tail[1:] for head, tail in cuts if tail for letter in LETTERS}
    put_in = {head + letter + tail for head, tail in cuts for letter in LETTERS}
    return sorted((left_out | replaced | put_in) - {word})


def _distance(a: str, b: str) -> int:
    """How many edits of one letter lead from `a` to `b` (Levenshtein, 1966)."""
    above = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        row = [i]
        for j, other in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
        above = row
    return above[-1]


def _noise(clip: _Clip, seed: int) -> npt.NDArray[np.float32]:
    """5 s of the clip's kind of noise, at an RMS level drawn from -50 to -20 dBFS."""
    rng, kind = numpy_generator(seed, "corpus", clip.path), clip.source.split()[-1]
    time_s = np.arange(int(NOISE_S * SAMPLE_RATE)) / SAMPLE_RATE
    if kind in COLOURS:
        spectrum = np.fft.rfft(rng.standard_normal(time_s.size))
        frequency_hz = np.maximum(np.fft.rfftfreq(time_s.size, 1 / SAMPLE_RATE), 20)
        sound = np.fft.irfft(spectrum / frequency_hz ** COLOURS[kind], time_s.size)
    elif kind == "hum":
        order, phase = np.arange(1, 9)[:, None], rng.uniform(0, 2 * np.pi, (8, 1))
        sound = (np.sin(2 * np.pi * order * rng.choice([50, 60]) * time_s + phase) / order).sum(axis=0)
    else:
        since_s = time_s % rng.uniform(0.2, 1.0)
        if kind == "ticks":  # a burst of 2 ms
            sound = rng.standard_normal(time_s.size) * np.exp(-since_s / 0.002)
        else:  # a tone that climbs for as long as the next one lets it
            start_hz, climb_hz_s = rng.uniform(300, 1500), rng.uniform(1000, 5000)
            sound = np.sin(2 * np.pi * (start_hz + climb_hz_s / 2 * since_s) * since_s)
    rms = 10 ** (rng.uniform(-50, -20) / 20)
    return np.asarray(np.clip(sound * rms / np.sqrt(np.mean(sound**2)), -1, 1), dtype=np.float32)
