"""Find confusables, and compare distances with sound: python -m tests.benchmarks confuse, and distance."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from unittest import mock

import librosa
import numpy as np
from scipy.stats import spearmanr

from kws.confusables import distance
from kws.confusables.candidates import Kind
from kws.confusables.distance import code, distances, weight
from kws.confusables.ipa import Phones
from kws.confusables.lexicon import lexicon
from kws.confusables.scoring import Candidate
from kws.confusables.search import Found, find
from kws.confusables.settings import CandidatesConfig
from kws.confusables.synthesis.espeak import Voice, speak

KEYWORDS = ("computer", "cat", "bed", "hey marvin", "okay garden")
SAID = ("lighthouse", "window", "lamp", "hello robot")  # no weight of a feature was set by these
VOICES = ("en-us+f2", "en-us+m3")
SPOKEN, COMPARED = 200, 300  # candidates of each keyword
RATE = 16000


def found(keyword: str, n: int | None = None) -> Found:
    """With the default settings, but for how many."""
    return find(keyword, CandidatesConfig() if n is None else CandidatesConfig(n=n))


def edit_distances(one: Phones, others: Sequence[Phones]) -> list[float]:
    """Plain ones, each edit 1 (Levenshtein, 1966), as a share of the keyword's phones."""
    table = []
    for other in others:
        above = list(range(len(other) + 1))
        for i, phone in enumerate(one, start=1):
            row = [i]
            for j, its in enumerate(other, start=1):
                row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (phone != its)))
            above = row
        table.append(above[-1] / len(one))
    return table


Distances = Callable[[Phones, Sequence[Phones]], Sequence[float]]


def panphon_distances() -> dict[str, Distances]:
    """Distances of panphon, where it is installed: it is no dependency."""
    try:
        from panphon.distance import Distance
    except ImportError:
        return {}
    measure = Distance()
    spell = {"ɚ": "ə˞", "ɝ": "ɜ˞", "tʃ": "t͡ʃ", "dʒ": "d͡ʒ"}
    kinds = ("weighted_feature_edit_distance", "feature_edit_distance", "hamming_feature_edit_distance")

    def spelt(phones: Phones) -> str:
        return "".join(spell.get(phone, phone) for phone in phones)

    def by(kind: str) -> Distances:
        return lambda one, others: [float(getattr(measure, kind)(spelt(one), spelt(other))) for other in others]

    def in_our_edit_distance(one: Phones, others: Sequence[Phones]) -> Sequence[float]:
        """Panphon's features, unweighted, in place of the points of `ipa`; silence is a phone without a feature."""

        def point(phone: str) -> np.ndarray:
            vectors = measure.fm.word_to_vector_list(spelt((phone,)), numeric=True) if phone else []
            return np.mean(vectors, axis=0, dtype=np.float32) if vectors else np.zeros(24, np.float32)

        with mock.patch.object(distance, "point", point):
            distance.between.cache_clear()
            found = distances(one, code(others)).tolist()
        distance.between.cache_clear()
        return found

    found = {f"panphon {kind}": by(kind) for kind in kinds}
    return found | {"panphon features in our edit distance": in_our_edit_distance}


def cepstrum(text: str, voice: str) -> np.ndarray:
    """What is said, without its loudness. Shape: [19, frames]."""
    sound, _ = librosa.effects.trim(speak(text, Voice(voice), RATE), top_db=45)
    return librosa.feature.mfcc(y=sound, sr=RATE, n_mfcc=20, n_fft=512, hop_length=160, n_mels=40)[1:]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """How far two sounds are apart by dynamic time warping, for each frame."""
    return float(librosa.sequence.dtw(one, other)[0][-1, -1] / (one.shape[1] + other.shape[1]))


def variety(candidates: Sequence[Candidate]) -> str:
    """How unlike one another they are."""
    rng = np.random.default_rng(0)
    some = [candidates[i].phones for i in rng.permutation(len(candidates))[:COMPARED]]
    mean = np.mean([distances(one, code(some)).sum() / (len(some) - 1) / weight(one) for one in some])
    words = {word for one in candidates if not one.is_phonemes for word in one.text.split()}
    return f"{len(words)} words, mean distance of two {mean:.2f}"


def main() -> None:
    """Time, counts, variety and agreement with sound, keyword by keyword."""
    begun = time.process_time()
    lexicon("en-us")
    print(f"lexicon: {time.process_time() - begun:.1f} s of one core, once a process")
    for keyword in KEYWORDS:
        begun = time.process_time()
        result = found(keyword)
        kinds, bands = (Counter(getattr(one, name) for one in result.chosen) for name in ("kind", "band"))
        print(f"\n{keyword}: {time.process_time() - begun:.1f} s of one core, {len(result.chosen)} candidates")
        there: Counter[Kind] = Counter()
        for (_, kind), n in result.available.items():
            there[kind] += n
        print("  " + ", ".join(f"{kind} {kinds[kind]} of {there[kind]}" for kind in Kind if there[kind]))
        print(f"  of each band {[bands[band] for band in range(1, 6)]}")
        print(f"  left out: {len(result.homophones)} homophones, {len(result.too_near)} too near, ", end="")
        print(f"{len(result.holding)} that hold it")
        nearest = found(keyword, n=4 * len(result.chosen)).chosen[: len(result.chosen)]
        print(f"  chosen: {variety(result.chosen)}; the nearest as many: {variety(nearest)}", flush=True)


def agreement() -> None:
    """Rank correlation of each distance with sound: over all candidates of a keyword, and within the bands."""
    for keyword in SAID:
        result = found(keyword)
        texts = [one for one in result.chosen if not one.is_phonemes]
        texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:SPOKEN]]
        sound = np.zeros(len(texts))
        for voice in VOICES:
            as_keyword = cepstrum(keyword, voice)
            sound += [apart(as_keyword, cepstrum(one.text, voice)) for one in texts]
        way, others = result.keyword.pronunciations[0], [one.phones for one in texts]
        bands = np.array([one.band for one in texts])
        ours: dict[str, Distances] = {"distance": lambda a, b: distances(a, code(b)), "edits": edit_distances}
        print(f"\n{keyword}: {len(texts)} candidates; of each band {[int(sum(bands == b)) for b in range(1, 6)]}")
        for name, measure in (ours | panphon_distances()).items():
            x = np.array(measure(way, others))
            within = [spearmanr(x[bands == b], sound[bands == b])[0] for b in range(1, 6) if sum(bands == b) > 9]
            each = ", ".join(f"{one:.2f}" for one in within)
            print(f"  {name}: {spearmanr(x, sound)[0]:.2f}; within bands {each}", flush=True)


if __name__ == "__main__":
    main()
