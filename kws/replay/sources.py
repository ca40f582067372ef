"""The recordings that are audible in a clip, as the replay buffer identifies them: by content hash."""

from collections.abc import Sequence

from kws.data.audio_cache import Entry
from kws.data.manifest import Source


def source_of(entry: Entry) -> Source:
    """The recording of a cache entry, as the replay buffer identifies it."""
    return Source(entry.hash, entry.recording.name, entry.recording.split)


def sources_of(entry: Entry) -> list[Source]:
    """The recording of a cache entry, and those that it comes from: what it is spliced from, or its whole file.

    The whole file is one of them where the entry is a stretch that a manifest names. All stretches of a file are in one
    split, so the file is held out, or not, whatever stretches another run names.
    """
    own = source_of(entry)
    if entry.recording.offset_s is None:
        return [own, *entry.recording.made_of]
    return [own, Source(entry.whole, entry.recording.path.name, own.split)]


def others_of(audible: Sequence[Entry], own: Entry) -> tuple[Source, ...]:
    """The sources of the entries that are audible in a clip, each once, without the recording of the clip itself."""
    sources = dict.fromkeys(source for entry in audible for source in sources_of(entry))
    return tuple(source for source in sources if source.hash != own.hash)
