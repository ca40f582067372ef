"""Find confusables, and hold their distances against sound: python -m tests.benchmarks confuse."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

import librosa
import numpy as np
from scipy.stats import spearmanr

from kws.confusables.candidates import Kind
from kws.confusables.distance import code, distances, weight
from kws.confusables.ipa import Phones
from kws.confusables.lexicon import lexicon
from kws.confusables.search import Candidate, Found, find
from kws.confusables.settings import CandidatesConfig
from kws.confusables.synthesis.espeak import Voice, speak

KEYWORDS = ("computer", "cat", "bed", "hey marvin", "okay garden")
SAID = ("lighthouse", "window", "lamp", "hello robot")  # no weight of a feature was set by these
VOICES = ("en-us+f2", "en-us+m3")
SPOKEN, COMPARED = 200, 300  # candidates of each keyword
RATE = 16000


def found(keyword: str, n: int | None = None) -> Found:
    """With the default settings, but for how many."""
    c = asdict(CandidatesConfig())
    kinds = {Kind(kind): share for kind, share in c["kinds"].items()}
    return find(keyword, n or c["n"], c["bands"], c["quotas"], kinds, c["language"])


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


def panphon_distances() -> Callable[[Phones, Sequence[Phones]], list[float]] | None:
    """Those of panphon, where it is installed: it is no dependency."""
    try:
        from panphon.distance import Distance
    except ImportError:
        return None
    measure = Distance().weighted_feature_edit_distance
    spell = {"ɚ": "ə˞", "tʃ": "t͡ʃ", "dʒ": "d͡ʒ"}

    def of(phones: Phones) -> str:
        return "".join(spell.get(phone, phone) for phone in phones)

    return lambda one, others: [float(measure(of(one), of(other))) for other in others]


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
    words = {word for one in candidates if not one.as_phones for word in one.text.split()}
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
    other = panphon_distances()
    for keyword in SAID:
        result = found(keyword)
        texts = [one for one in result.chosen if not one.as_phones]
        texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:SPOKEN]]
        heard = np.zeros(len(texts))
        for voice in VOICES:
            as_keyword = cepstrum(keyword, voice)
            heard += [apart(as_keyword, cepstrum(one.text, voice)) for one in texts]
        way, others = result.keyword.ways[0], [one.phones for one in texts]
        agreed = {"distance": distances(way, code(others)), "edits": edit_distances(way, others)}
        if other:
            agreed["panphon"] = np.array(other(way, others))
        agreement = ", ".join(f"{name} {spearmanr(x, heard)[0]:.2f}" for name, x in agreed.items())
        print(f"{keyword}, agreement with sound (Spearman): {agreement}", flush=True)


if __name__ == "__main__":
    main()
