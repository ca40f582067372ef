"""Keywords and phrases for a training run, spliced from its transcribed train recordings (extra kws[speech])."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from kws.commands.speech import SyntheticClips
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.text import plural
from kws.config.schema import TrainConfig
from kws.confusables.ipa import Phones
from kws.confusables.phone_alignment import ROUNDS
from kws.confusables.pronunciation import (
    dialects,
    is_english,
    parse_pronunciation,
    pronunciations,
    to_phones,
    words_said,
)
from kws.confusables.synthesis.spliced import (
    LONGEST_S,
    PHRASE_S,
    TRIES,
    Role,
    TranscribedRecording,
    aligned,
    choose_speech,
    clips,
    identity,
    phone_numbers,
    phrases,
    write_clips,
)
from kws.confusables.synthesis.splicing import FEWEST_PHONES, SHORTEST_S
from kws.data.audio_cache import AudioCache
from kws.data.manifest import Recording, Split
from kws.data.names import same_word
from kws.replay.sources import source_of

PHRASES = "spliced_phrases"  # label of the phrases


def keyword_phones(s: TrainConfig, words: Sequence[str]) -> dict[str, list[Phones]]:
    """The pronunciations of each keyword that can be spliced: those of two phones or more; empty unless English.

    Raises:
        KwsError: pronunciations are given for several keywords, or one cannot be read; espeak-ng lacks the language.
    """
    language, given = s.confuse.language, s.confuse.given()
    dialects(language)  # refuses an unknown one
    if not is_english(language):
        return {}
    if given and len(words) > 1:
        raise KwsError(
            f"confuse.pronunciations={given}: must be null with several keywords and data.synthetic.spliced, since a "
            "pronunciation belongs to one of them"
        )
    own = [to_phones(parse_pronunciation(one, language), language) for one in given]
    found = {word: own or pronunciations([word], language)[0] for word in words}
    return {word: [phones for phones in some if len(phones) > 1] for word, some in found.items()}


def splice(
    s: TrainConfig,
    keywords: Mapping[str, Sequence[Phones]],
    console: Console,
    made: SyntheticClips,
    store: AudioCache,
) -> tuple[Path | None, list[Recording]]:
    """Splice `data.synthetic.spliced` clips of each keyword, and as many phrases, unless they are in the cache.

    Args:
        s: settings of the run.
        keywords: of `keyword_phones`.
        console: says what is spliced, and why a keyword is not.
        made: the other synthetic clips, which are not spliced.
        store: audio of all recordings with their final splits. Those of training alone are used.

    Returns:
        the folder of the clips, and the clips; None and no clips where nothing can be spliced.
    """
    if not keywords:
        console.say(f"no keyword is spliced: confuse.language={s.confuse.language}: CMUdict has English words only")
        return None, []
    found = transcribed(store, list(keywords), s.data.noise_label, made.folders())
    speech = usable(found, store.sample_rate, s.seed, console)
    if not speech:
        return None, []
    roles = roles_of(s, keywords, speech)
    folder = Path(s.data.cache) / identity(speech, roles, store.sample_rate, s.seed)
    make_once(folder, speech, roles, store.sample_rate, s.seed, console)
    spliced = clips(folder)
    n = Counter(one.label for one in spliced)
    for role, (word, some) in zip(roles, keywords.items(), strict=False):  # the last role is that of the phrases
        if not n[role.label]:
            console.warn(f"keyword={word}: not spliced: {shortfall(role, some, speech)}")
    most = max(n[role.label] for role in roles[:-1])
    if not most:
        return None, []
    if 2 * n[PHRASES] < most:
        console.warn(
            f"no keyword is spliced: {plural(n[PHRASES], 'phrase')} without a keyword could be spliced beside "
            f"{plural(most, 'clip')} of a keyword, and a cut would identify the keyword"
        )
        return None, []
    phrases_used = [one for one in spliced if one.label == PHRASES][:most]
    spliced = [one for one in spliced if one.label != PHRASES] + phrases_used
    named = [f"{plural(n[label_of(word)], 'clip')} of {word}" for word in keywords if n[label_of(word)]]
    sources = {source.hash for one in spliced for source in one.made_of}
    console.say(
        f"spliced from {plural(len(sources), 'transcribed train recording')}: {', '.join(named)}, and "
        f"{plural(len(phrases_used), 'phrase')} without the keyword"
    )
    return folder, spliced


def usable(
    found: Sequence[TranscribedRecording], sample_rate: int, seed: int, console: Console
) -> list[TranscribedRecording]:
    """The recordings that are aligned, of those that are transcribed. Says why there are none."""
    if not found:
        console.say(
            "no keyword is spliced: no train recording of other words has an English transcript (column text of "
            "manifest.csv; stretches, and recordings cut in time, are not used)"
        )
        return []
    fitting = [one for one in found if one.fits(sample_rate)]
    if len(fitting) < len(found):
        short = plural(len(found) - len(fitting), "recording", len(found))
        console.warn(f"not used for splicing, too short for the transcript: {short}")
    speech = choose_speech(fitting, sample_rate, seed)
    if not speech:
        console.warn(
            f"no keyword is spliced: no speaker has {FEWEST_PHONES} phones or more, about thirty seconds, in train "
            f"recordings of {LONGEST_S:g} s or less (column speaker of manifest.csv); there are "
            f"{plural(len(fitting), 'recording')} with English transcripts"
        )
    return speech


def make_once(
    folder: Path,
    speech: Sequence[TranscribedRecording],
    roles: Sequence[Role],
    sample_rate: int,
    seed: int,
    console: Console,
) -> None:
    """Align the recordings and splice the clips, unless the folder is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # another run may splice the same clips; it is waited for
        if folder.exists():
            return
        numbers = phone_numbers(speech)
        with console.progress("Aligning transcripts", len(ROUNDS)) as tick:
            spoken = aligned(speech, numbers, sample_rate, tick)
        with console.progress("Splicing", sum(role.n for role in roles)) as tick:
            write_clips(folder, speech, spoken, numbers, roles, sample_rate, seed, tick)


def transcribed(
    store: AudioCache, keywords: Sequence[str], noise_label: str, synthetic: Sequence[Path]
) -> list[TranscribedRecording]:
    """The whole train recordings with English transcripts, without those of keywords, which train as they are."""
    found = []
    for i, entry in enumerate(store.entries):
        one = entry.recording
        if one.split is not Split.TRAIN or entry.whole or one.label == noise_label:
            continue
        if any(same_word(one.label, word) for word in keywords) or any(map(one.path.is_relative_to, synthetic)):
            continue
        if words := words_said(one.text):
            found.append(TranscribedRecording(source_of(entry), one.speaker or one.name, words, store.audio(i)))
    return found


def label_of(word: str) -> str:
    """The label of the clips of a keyword."""
    return "_".join(word.split())


def roles_of(
    s: TrainConfig, keywords: Mapping[str, Sequence[Phones]], speech: Sequence[TranscribedRecording]
) -> list[Role]:
    """Clips of each keyword, given with its pronunciations, and of phrases."""
    n, longest_s = s.data.synthetic.spliced, s.batch.max_keyword_s
    roles = [
        Role(label_of(word), n, [(word, phones) for phones in some], longest_s, located=True)
        for word, some in keywords.items()
    ]
    known = pronunciations(list(keywords), s.confuse.language)  # beside those that are given
    avoided = [phones for some in (*keywords.values(), *known) for phones in some if len(phones) > 1]
    return [*roles, Role(PHRASES, n, phrases(speech, avoided, n, s.seed), PHRASE_S)]


def shortfall(role: Role, ways: Sequence[Phones], speech: Sequence[TranscribedRecording]) -> str:
    """Why there is no clip of a keyword with these pronunciations."""
    if not ways:
        return "it has one phone; two or more are needed"
    known = {phone for one in speech for phone in one.phones}
    lacking = sorted({phone for phones in ways for phone in phones} - known)
    if all({*phones} & {*lacking} for phones in ways):
        return f"the transcripts of the train split lack its phones: {', '.join(lacking)}"
    return f"{TRIES * role.n} attempts gave no clip of {SHORTEST_S:g} s to batch.max_keyword_s={role.longest_s:g} s"
