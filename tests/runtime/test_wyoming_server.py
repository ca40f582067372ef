"""The package's own client gets detections over TCP; rude clients harm no other."""

import asyncio
import json
import os
import signal
import socket
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from kws.common.errors import KwsError
from kws.data.audio import to_int16
from kws.detector.detector import Detector
from kws.runtime.listener import Listener
from tests.nets import LABELS, random_detector, sound

pytest.importorskip("wyoming", reason="the extra kws[wyoming] is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.info import Describe, Info
    from wyoming.wake import Detect, Detection, NotDetected

    from kws.runtime import wyoming_server
    from kws.runtime.wyoming_server import models, serve

RATE, CHUNK_N = 16000, 1280
PCM = to_int16(sound(4 * RATE).numpy())


def detector(threshold: float) -> Detector:
    made = random_detector()
    made.thresholds = [threshold, 2.0]  # the second keyword never triggers
    return made


@pytest.fixture(scope="module")
def threshold() -> float:
    """A score that the first keyword reaches now and then."""
    found = random_detector()
    scores = np.concatenate([found(chunk).numpy() for chunk in sound(4 * RATE).split(CHUNK_N)])[:, 0]
    return float(np.quantile(scores, 0.9))


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def served(talk: Callable[[int], Awaitable[None]], *detectors: Detector, said: list[str] | None = None) -> list[str]:
    """Serve detectors while `talk` runs with the port; returns what the server logged. SIGTERM ends it."""
    at, said = port(), [] if said is None else said

    async def main() -> None:
        named = {f"d{i}": one for i, one in enumerate(detectors)}
        server = asyncio.create_task(serve(f"tcp://127.0.0.1:{at}", named, said.append))
        for _ in range(200):
            await asyncio.sleep(0.01)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", at)) == 0:
                    break
        try:
            await asyncio.wait_for(talk(at), 60)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(server, 10)

    asyncio.run(main())
    return said


async def detections(at: int, pcm: np.ndarray = PCM, chunk_n: int = CHUNK_N, rate: int = RATE) -> list[str]:
    """Names of the answers to a stream."""
    async with AsyncTcpClient("127.0.0.1", at) as client:
        await client.write_event(Detect(names=[LABELS[0]]).event())
        await client.write_event(AudioStart(rate, 2, 1).event())
        for i in range(0, len(pcm), chunk_n):
            await client.write_event(AudioChunk(rate, 2, 1, pcm[i : i + chunk_n].tobytes(), i).event())
        await client.write_event(AudioStop().event())
        await client.write_event(Describe().event())  # its answer is the last
        answers = []
        while (event := await client.read_event()) is not None and not Info.is_type(event.type):
            if Detection.is_type(event.type):
                answers.append(f"{Detection.from_event(event).name} {event.data['timestamp']}")
            elif NotDetected.is_type(event.type):
                answers.append("not detected")
        return answers


def wanted(threshold: float) -> list[str]:
    listener = Listener({"d": detector(threshold)})
    return [f"{one.keyword} {i}" for i in range(0, len(PCM), CHUNK_N) for one in listener.feed(PCM[i : i + CHUNK_N])]


def test_a_client_gets_the_detections_of_the_stream(threshold: float) -> None:
    async def talk(at: int) -> None:
        async with AsyncTcpClient("127.0.0.1", at) as client:
            await client.write_event(Describe().event())
            offered = Info.from_event(await client.read_event()).wake[0].models
        assert [one.name for one in offered] == LABELS
        assert await detections(at) == wanted(threshold)
        assert await detections(at, np.zeros(RATE, np.int16)) == ["not detected"]
        fast = await detections(at, chunk_n=len(PCM))  # all at once
        assert [one.split()[0] for one in fast] == [one.split()[0] for one in wanted(threshold)]
        assert await detections(at, np.repeat(PCM, 2), 2 * CHUNK_N, 2 * RATE), "another sample rate is converted"

    assert len(wanted(threshold)) > 1
    said = served(talk, detector(threshold))
    assert sum(line.startswith(LABELS[0]) for line in said) >= 2 * len(wanted(threshold))


def test_fifty_clients_have_streams_of_their_own(threshold: float) -> None:
    async def talk(at: int) -> None:
        answers = await asyncio.gather(*(detections(at) for _ in range(50)))
        assert answers == [wanted(threshold)] * 50

    served(talk, detector(threshold))


def test_rude_clients_harm_no_other(threshold: float) -> None:
    head = {"type": "audio-chunk", "data": {"rate": RATE, "width": 2, "channels": 1}}
    rude = [
        b"this is no JSON\n",
        b"[1, 2]\n",
        json.dumps(head | {"payload_length": 2**40}).encode() + b"\n",
        json.dumps(head | {"payload_length": 2560}).encode() + b"\n" + bytes(100),  # gone in mid-chunk
        json.dumps(head | {"data": {"rate": 0, "width": 7, "channels": 0}, "payload_length": 4}).encode() + b"\n1234",
        json.dumps(head | {"data": {"rate": 8, "width": 2, "channels": 1}, "payload_length": 4}).encode() + b"\n1234",
        json.dumps({"type": "audio-chunk"}).encode() + b"\n",
        json.dumps({"type": "detect", "data": {"names": 5}}).encode() + b"\n",
        b"x" * 2**17,
        json.dumps({"type": "no-such-event"}).encode() + b"\n",
    ]

    async def talk(at: int) -> None:
        held = await asyncio.open_connection("127.0.0.1", at)  # says nothing
        for content in rude:
            _, writer = await asyncio.open_connection("127.0.0.1", at)
            writer.write(content)
            await writer.drain()
            writer.close()
        assert await detections(at) == wanted(threshold)
        held[1].close()

    said = served(talk, detector(threshold))
    assert any("was dropped" in line for line in said)


def test_equal_keywords_are_told_apart_and_bad_addresses_refused(threshold: float, tmp_path: Path) -> None:
    assert list(models({"a": random_detector(), "b": random_detector()})) == [
        f"{label} ({name})" for name in "ab" for label in LABELS
    ]
    for uri, reason in (("http://x:1", "must be tcp"), ("stdio://", "must be tcp"), ("tcp://127.0.0.1", "port")):
        with pytest.raises(KwsError, match=reason):
            asyncio.run(serve(uri, {"d": detector(threshold)}, print))
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(KwsError, match="this file would be removed"):
        asyncio.run(serve(f"unix://{tmp_path}/precious.txt", {"d": detector(threshold)}, print))
    assert (tmp_path / "precious.txt").read_text() == "mine"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(KwsError, match="cannot serve there"):
            asyncio.run(serve(f"tcp://127.0.0.1:{taken.getsockname()[1]}", {"d": detector(threshold)}, print))


def test_a_client_that_does_not_read_is_dropped(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming_server, "WRITE_S", 0.2)
    said, dropped = list[str](), "a client was dropped: it took no answer for 0.2 s"

    async def talk(at: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", at, limit=2**10)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b'{"type": "describe"}\n' * 20_000)  # the answers fill all buffers on the way
        assert await detections(at) == wanted(threshold)
        while dropped not in said:  # `served` waits a minute at most
            await asyncio.sleep(0.05)
        writer.close()

    served(talk, detector(threshold), said=said)
    assert dropped in said
