"""Given recordings that are each one keyword: those without sound, without a length in the header, or given twice."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.commands.evaluate import given_files
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.config.schema import EvaluateConfig
from kws.data.audio import length_s, to_int16
from kws.data.mending import Fault
from kws.evaluation.annotations import Annotation
from kws.evaluation.events import misses
from kws.evaluation.recordings import WHOLE_FILE, evaluate_files, with_silence
from kws.evaluation.scoring import ScoredStream
from tests.nets import LABELS, random_detector, sound
from tests.tracks import track

RATE = 16000


def keyword_files(folder: Path, n: int) -> list[Path]:
    """Recordings of 2 s; the header of the first gives no length, and the last is silent."""
    files = [folder / f"{i}.flac" for i in range(n)]
    for i, file in enumerate(files):
        pcm = to_int16(sound(2 * RATE, i).numpy())
        soundfile.write(file, 0 * pcm if i == n - 1 else pcm, RATE)
    content = bytearray(files[0].read_bytes())
    content[21:26] = b"\xf0" + bytes(4)
    files[0].write_bytes(content)
    return files


def test_a_silent_keyword_is_left_out_and_faults_are_counted(tmp_path: Path) -> None:
    files = keyword_files(tmp_path, 4)
    sources = [with_silence(file, RATE) for file in files]
    assert length_s(files[0]) == 0
    positives = [(file, {LABELS[0]: [WHOLE_FILE]}) for file in files]
    scores, bad, faults = evaluate_files(random_detector(), LABELS[:1], positives, [], sources, 0.08, 0.25)
    assert [(one.name, one.reason) for one in bad] == [(files[3].as_posix(), "silent")]
    assert faults == {Fault.unfinished: 1}
    events = scores[LABELS[0]].events
    assert [event.stream for event in events] == [0, 1, 2]
    np.testing.assert_allclose([event.end_s - event.start_s for event in events], 2.5)
    for limit, n in ((0.2, 4), (1.0, 1)):
        with pytest.raises(KwsError, match=rf"1 of {n} positive recordings have no usable sound, first .*3\.flac: sil"):
            evaluate_files(random_detector(), LABELS[:1], positives[-n:], [], sources[-n:], 0.08, limit)


def test_a_trigger_on_the_edge_of_an_annotation_is_a_hit_in_each_file() -> None:
    files = [Path(f"{i}.flac") for i in range(3)]
    streams = [track(np.zeros(n)) for n in (700, 3000, 3000)]
    results = [ScoredStream({"word": one}, []) for one in streams]
    edges = [one.times[::10].tolist() for one in streams]
    positives = [(file, {"word": [Annotation((t, t), t) for t in own]}) for file, own in zip(files, edges, strict=True)]
    scores, _, _ = evaluate_files(
        random_detector(), ["word"], positives, [], [], 0.08, 0.0, score=lambda *_: list(results)
    )
    events = scores["word"].events
    assert misses(scores["word"].positive.times, [event.span for event in events]) == 0
    assert [event.spoken_s for event in events] == [event.start_s for event in events]


def test_a_keyword_recording_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    files = keyword_files(tmp_path, 2)
    (tmp_path / "link.flac").symlink_to(files[0])
    s = EvaluateConfig(positive=[str(tmp_path)])
    with pytest.raises(KwsError, match=r"^positive=.*link\.flac is there twice, and its keywords would count twice"):
        given_files(s, ["alexa"], Console())
