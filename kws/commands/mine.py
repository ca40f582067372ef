"""kws mine: mine recordings without the keyword for false triggers and put them into a replay buffer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kws.commands import builders
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.text import plural
from kws.config.app import verb
from kws.config.compose import paths
from kws.config.schema import MineConfig
from kws.data.audio_cache import Entry
from kws.data.dataset import recordings
from kws.data.manifest import Split
from kws.data.names import same_word
from kws.data.sound_files import sound_files
from kws.data.transcripts import Match, forms_listed
from kws.detector import checkpoint
from kws.replay.buffer import Buffer
from kws.replay.eviction import EvictionConfig
from kws.replay.mining import Nearness, nearness
from kws.replay.mining_streams import (
    FileStreams,
    KnownRecording,
    keyword_in,
    mine_files,
    no_nearness,
)
from kws.replay.quarantine import limits
from kws.replay.sources import source_of

NO_LIMIT = 10**7  # clips, or clips per hour
PORTION = 1000  # clips added at once


def run(s: MineConfig) -> int:
    """Mine `streams` with `checkpoint`, add the clips to `buffer`, and return the number of new clips."""
    console = Console()
    builders.threads(s.threads)
    model = checkpoint.read_model(Path(s.checkpoint))
    detector, keywords = model.detector, model.spec.labels
    files = [file for place in paths(s.streams, "streams") for file in sound_files(place, "streams")]
    known: dict[str, KnownRecording] = {}
    near: Nearness = no_nearness
    if s.data.root:
        s.data.sample_rate = model.spec.sample_rate  # a recording is identified by its samples at one rate
        cache = builders.store(s.data, console, recordings(s.data, console.warn, keywords), keywords)
        known = known_recordings(cache.entries, keywords, s.data.transcript_match)
        if s.neighbours_per_hour:
            train = [i for i, e in enumerate(cache.entries) if e.recording.split is Split.TRAIN]
            spoken = [i for i in train if any(same_word(cache.entries[i].recording.label, k) for k in keywords)]
            if not spoken:
                raise KwsError(
                    f"data.root={s.data.root}: must hold train recordings of {', '.join(keywords)}, whose neighbours "
                    "are mined"
                )
            near = nearness(detector, [cache.audio(i) for i in spoken])
    elif s.neighbours_per_hour:
        raise KwsError(
            f"neighbours_per_hour={s.neighbours_per_hour:g}: must be 0 without data.root=DIR, which holds the keywords"
        )
    known |= {source.hash: KnownRecording(source) for source in model.held_out}
    if s.keep_above is not None:
        s = replace(s, min_score=s.keep_above, clips_per_hour=NO_LIMIT, random_share=0.0)
    with console.progress("Mining", len(files)) as tick:
        match = s.data.transcript_match
        streams = FileStreams(detector, files, known, model.spec.clip_n, s.max_per_recording, near, tick, match)
        clips = mine_files(streams, s, model.hash, s.data.max_undecodable)
    if streams.with_keyword:
        forms = forms_listed(streams.with_keyword.values())
        n = len(streams.with_keyword)
        console.warn(f"left out, their transcript or label contains a keyword: {plural(n, 'recording')} ({forms})")
    builders.say_faults(console, streams.faults)
    builders.warn_undecodable(console, {bad.name: bad.reason for bad in streams.bad}, len(files))
    suspect_from = limits(model.facts.get("positive_score"), s.quarantine_above)
    evicting = None if s.capacity is None else EvictionConfig(s.capacity, max_per_recording=None)
    with Buffer(Path(s.buffer), evicting, model.spec.sample_rate, s, s.data.transcript_match) as buffer:
        buffer.hold_out(one.source for one in known.values() if one.source.split is not Split.TRAIN)
        buffer.admit(one.source for one in streams.admitted.values())
        # Other processes may write between portions.
        portions = [clips[i : i + PORTION] for i in range(0, len(clips), PORTION)]
        added = [buffer.add(portion, suspect_from, keywords) for portion in portions]
        n_clips = len(buffer)
    new, near_n = sum(len(one.new) for one in added), sum(one.near for one in added)
    suspect = sum(len(one.quarantined) for one in added)
    console.say(
        f"{plural(len(clips), 'clip')} found in {streams.hours:.2f} h, {new} of them new, "
        f"{plural(near_n, 'near-duplicate')}; {plural(n_clips, 'clip')} in {s.buffer}"
    )
    if suspect:
        console.say(
            f"{plural(suspect, 'more clip')} in quarantine for scores like those of the keyword, not trained on until "
            f"you have listened to them: kws buffer review buffer={s.buffer}"
        )
    return new


def known_recordings(entries: Sequence[Entry], keywords: Sequence[str], match: Match) -> dict[str, KnownRecording]:
    """Recordings by content hash: those of the manifest, and the files that they are parts of.

    A file is held out as a whole if a part of it is, and contains a keyword if a part of it does.
    """
    known = {e.hash: KnownRecording(source_of(e), e.recording.label, e.recording.text) for e in entries}
    for e in sorted(entries, key=lambda e: list(Split).index(e.recording.split)):
        whole = KnownRecording(replace(source_of(e), hash=e.whole or e.hash), e.recording.label, e.recording.text)
        if e.whole and (e.recording.split is not Split.TRAIN or keyword_in(whole, keywords, match)):
            known[e.whole] = whole
    return known


main = verb("mine", run)
