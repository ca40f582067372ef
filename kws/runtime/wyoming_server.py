"""Wake words for Home Assistant: a server of the Wyoming protocol (extra kws[wyoming])."""

import asyncio
import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kws import __version__
from kws.common.errors import KwsError, first_line, missing_extra
from kws.detector.streaming import StreamScorer
from kws.runtime.listener import Listener

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of audioop, for which wyoming has a replacement
    try:
        from wyoming.audio import AudioChunk, AudioChunkConverter, AudioStart, AudioStop
        from wyoming.event import Event
        from wyoming.info import Attribution, Describe, Info, WakeModel, WakeProgram
        from wyoming.server import AsyncEventHandler, AsyncServer
        from wyoming.wake import Detect, Detection, NotDetected
    except ImportError as error:
        raise missing_extra("kws serve", "wyoming") from error

MOST_BYTES = 2**20  # of an event: half a minute of audio; a client that announces more is dropped
RATES, WIDTHS, CHANNELS = range(8000, 192_001), (1, 2, 3, 4), (1, 2)  # of audio that is converted
MOST_CLIENTS = 256  # each has a copy of the detectors' states
WRITE_S = 10.0  # a client that takes no answer for so long is dropped
CHUNK_S = 0.08
Log = Callable[[str], None]


def models(detectors: Mapping[str, StreamScorer]) -> dict[str, tuple[str, str]]:
    """Wake words by their name for clients: detector and keyword. Equal keywords get the detector's name too."""
    pairs = [(name, label) for name, one in detectors.items() for label in one.labels]
    labels = [label for _, label in pairs]
    return {label if labels.count(label) == 1 else f"{label} ({name})": (name, label) for name, label in pairs}


def info(names: Mapping[str, tuple[str, str]]) -> Info:
    """What the server offers."""
    by = Attribution("kws", "")
    offered = [
        WakeModel(
            name=name, attribution=by, installed=True, description=label, version=None, languages=[], phrase=label
        )
        for name, (_, label) in names.items()
    ]
    program = WakeProgram(
        name="kws", attribution=by, installed=True, description="kws wake words", version=__version__, models=offered
    )
    return Info(wake=[program])


class _Limited:
    """A reader that refuses to wait for more bytes than an event may have."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader

    async def readexactly(self, n: int) -> bytes:
        if not 0 <= n <= MOST_BYTES:
            raise ValueError(f"{n} bytes are too many for an event")
        return await self.reader.readexactly(n)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)


class Client(AsyncEventHandler):
    """One connection with a stream of its own.

    Args:
        reader, writer: of the connection.
        detectors: by name; their states are not touched.
        log: called with a sentence on each detection and on clients that break the protocol.
        left: called when the connection ends.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        detectors: Mapping[str, StreamScorer],
        log: Log,
        left: Callable[["Client"], None] = lambda _: None,
    ) -> None:
        super().__init__(_Limited(reader), writer)  # type: ignore[arg-type]
        self.names, self.log, self.left = models(detectors), log, left
        self.detectors = {name: copy.deepcopy(one) for name, one in detectors.items()}
        self.wanted, self.detected = set(self.names), False
        self.begin()

    def begin(self) -> None:
        """Begin a stream."""
        for one in self.detectors.values():
            one.reset()
        self.listener, self.detected = Listener(self.detectors), False
        self.converter = AudioChunkConverter(rate=self.listener.sample_rate, width=2, channels=1)

    async def run(self) -> None:
        """Serve the client until it leaves or breaks the protocol."""
        try:
            await super().run()
        except TimeoutError:
            self.log(f"a client was dropped: it took no answer for {WRITE_S:g} s")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.log(f"a client left: {first_line(error)}")
        except Exception as error:  # an event of any content; the other clients go on
            self.log(f"a client was dropped: {type(error).__name__}: {first_line(error)}")
        finally:
            self.left(self)

    async def write_event(self, event: Event) -> None:
        """Send an event; a client that does not read is dropped."""
        await asyncio.wait_for(super().write_event(event), WRITE_S)

    async def handle_event(self, event: Event) -> bool:
        """Answer an event. Unknown ones are ignored, as the protocol wants."""
        if Describe.is_type(event.type):
            await self.write_event(info(self.names).event())
        elif Detect.is_type(event.type):
            given = Detect.from_event(event).names
            self.wanted = {name for name in self.names if not given or name in given or self.names[name][1] in given}
            self.begin()
        elif AudioStart.is_type(event.type):
            self.begin()
        elif AudioChunk.is_type(event.type):
            await self.hear(AudioChunk.from_event(event))
        elif AudioStop.is_type(event.type) and not self.detected:
            await self.write_event(NotDetected().event())
        return True

    async def hear(self, chunk: AudioChunk) -> None:
        """Score audio, a little at a time, so that no client waits for another's long chunk."""
        if chunk.rate not in RATES or chunk.width not in WIDTHS or chunk.channels not in CHANNELS:
            raise ValueError(f"audio of {chunk.rate} Hz, {chunk.width} bytes a sample and {chunk.channels} channels")
        pcm = np.frombuffer(self.converter.convert(chunk).audio, np.int16)
        step = round(CHUNK_S * self.listener.sample_rate)
        for i in range(0, len(pcm), step):
            for trigger in self.listener.feed(pcm[i : i + step]):
                name = next(n for n, pair in self.names.items() if pair == (trigger.detector, trigger.keyword))
                if name in self.wanted:
                    self.detected = True
                    self.log(f"{name}  {trigger.score:.4f}")
                    await self.write_event(Detection(name=name, timestamp=chunk.timestamp).event())
            await asyncio.sleep(0)


async def serve(uri: str, detectors: Mapping[str, StreamScorer], log: Log) -> None:
    """Serve until SIGTERM.

    Args:
        uri: tcp://HOST:PORT or unix://PATH.
        detectors: by name, all of one sample rate.
        log: see `Client`.

    Raises:
        KwsError: no such address, it is taken, or a file that is no socket lies there.
    """
    Listener(detectors)  # refuses several sample rates
    scheme, _, place = uri.partition("://")
    if scheme not in ("tcp", "unix"):
        raise KwsError(f"uri={uri}: must be tcp://HOST:PORT or unix://PATH")
    if scheme == "unix" and Path(place).exists() and not Path(place).is_socket():
        raise KwsError(f"uri={uri}: must be a new path or a socket; this file would be removed")
    clients: set[Client] = set()

    def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Client:
        if len(clients) >= MOST_CLIENTS:
            writer.close()
            raise ConnectionError(f"more than {MOST_CLIENTS} clients")
        made = Client(reader, writer, detectors, log, clients.discard)
        clients.add(made)
        return made

    try:
        server = AsyncServer.from_uri(uri)
    except ValueError as error:
        raise KwsError(f"uri={uri}: {first_line(error)}") from None
    try:
        await server.run(client)
    except OSError as error:
        raise KwsError(f"uri={uri}: cannot serve there ({first_line(error)})") from None
