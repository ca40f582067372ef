"""Validation streams in a training run: known counts, and no stream scored twice at a step."""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kws.data.audio_cache import pack
from kws.data.dataset import select
from kws.data.manifest import Split, read
from kws.data.positives import with_locations
from kws.data.streams import Stream, StreamConfig, spans
from kws.detector import checkpoint
from kws.evaluation.validation import ValidationCounts, ValidationStreams

ROW_N = 320


class Scripted:
    """A detector that returns given rows, stream by stream, for any audio."""

    sample_rate = 16000
    frame_s = ROW_N / sample_rate

    def __init__(self, labels: list[str], streams: list[np.ndarray]) -> None:
        self.labels, self.streams = labels, streams
        self.played = -1
        self.at = 0

    def reset(self) -> None:
        self.played, self.at = self.played + 1, 0

    def __call__(self, pcm: torch.Tensor) -> torch.Tensor:
        rows, begun = self.streams[self.played], self.at // ROW_N
        self.at += len(pcm)
        return torch.from_numpy(rows[begun : self.at // ROW_N])


def scores(made: Stream, keywords: int, peaks: dict[float, tuple[int, float]]) -> np.ndarray:
    """Rows of a stream: 0 but for a score in a column at some times in seconds."""
    rows = np.zeros((len(made.pcm) // ROW_N, keywords), np.float32)
    for at_s, (column, score) in peaks.items():
        rows[round(at_s / Scripted.frame_s), column] = score
    return rows


def held_out(tones: Path, cache: Path, keywords: list[str], noise: str = "noise") -> ValidationStreams:
    """The validation streams, with the label `noise` under another name."""
    found = [replace(one, label=noise) if one.label == "noise" else one for one in read(tones)]
    store = pack(found, cache)
    return ValidationStreams(
        store,
        with_locations(store, select(store.entries, keywords, "noise", 0.3), dict.fromkeys(Split, 1.2)),
        StreamConfig([10, 10], [-40, -26], 1, 0.3),
        0.08,
        1.0,
    )


def occurrences(made: Stream, found: list[float], column: int = 0) -> dict[float, tuple[int, float]]:
    """These scores, one in the middle of each event."""
    return {(a + b) / 2: (column, score) for (a, b), score in zip(spans(made), found, strict=True)}


FOUND = [0.95, 0.85, 0.85, 0.75, 0.6, 0.0]
ALARMS = {1.5: (0, 0.9), 3.0: (0, 0.8), 4.5: (0, 0.7), 4.7: (0, 0.65)}  # the last within the silence after the third


@pytest.mark.parametrize(
    ("alarms", "above", "missed", "miss_rate"),
    [
        (0, 0.9, 5, (5 / 6, 0.4365, 0.9700)),
        (1, 0.8, 3, (3 / 6, 0.1876, 0.8124)),
        (2, 0.7, 2, (2 / 6, 0.0968, 0.7000)),
        (3, 0.0, 1, (1 / 6, 0.0301, 0.5635)),
    ],
)
def test_misses_at_a_false_alarm_rate(tones, tmp_path, alarms, above, missed, miss_rate):
    held = held_out(tones, tmp_path, ["beep"])
    detector = Scripted(
        ["beep"],
        [scores(held.negative, 1, ALARMS), scores(held.positive["beep"], 1, occurrences(held.positive["beep"], FOUND))],
    )
    scores_ = held.score(detector)
    hours = len(held.negative.pcm) / 16000 / 3600
    rate = (alarms + 0.5) / hours if alarms else 0.5
    (point,) = held.operating_points(scores_, rate).values()
    assert point.threshold == np.nextafter(np.float64(np.float32(above)), 1)
    assert (point.false_alarms, point.hours, point.wanted_fa_per_hour) == (alarms, hours, rate)
    assert point.fa_per_hour == alarms / hours
    assert (point.misses, point.events) == (missed, 6)
    assert (point.miss_rate, point.miss_low, point.miss_high) == pytest.approx(miss_rate, abs=1e-4)
    assert held.count(scores_, 0.77) == ValidationCounts(2, hours, 3, 6), "the same tracks at a score"


def test_each_keyword_has_its_own_threshold(tones, tmp_path):
    held = held_out(tones, tmp_path, ["beep", "speech"], noise="music")
    negative = {1.5: (0, 0.9), 3.0: (1, 0.3)}
    beep, speech = held.positive["beep"], held.positive["speech"]
    detector = Scripted(
        ["beep", "speech"],
        [
            scores(held.negative, 2, negative),
            scores(beep, 2, occurrences(beep, FOUND)),
            scores(speech, 2, occurrences(speech, FOUND, column=1)),
        ],
    )
    points = held.operating_points(held.score(detector), 0.5)
    assert {k: (p.misses, p.events, p.false_alarms) for k, p in points.items()} == {
        "beep": (5, 6, 0),
        "speech": (1, 6, 0),
    }
    assert [points[k].threshold for k in ("beep", "speech")] == pytest.approx([0.9, 0.3], abs=1e-6)


def rows(out: Path, name: str = "validation.csv") -> list[dict[str, str]]:
    return list(csv.DictReader((out / name).read_text().splitlines()))


def test_the_last_row_has_the_counts_of_the_calibration(run):
    """Both score the same streams once (threshold.passes=1) with the final weights."""
    validations = rows(run)
    assert [(int(row["step"]), row["keyword"]) for row in validations] == [(7, "beep"), (15, "beep"), (23, "beep")]
    (outcome,) = json.loads((run / "results.json").read_text())["outcomes"]
    calibration, last = outcome["calibration"], {k: float(v) for k, v in validations[-1].items() if k != "keyword"}
    assert last["threshold"] == pytest.approx(calibration["threshold"], rel=1e-5)
    assert (last["false_alarms"], last["wanted_fa_per_hour"]) == (calibration["false_alarms"], calibration["wanted"])
    assert last["hours"] == pytest.approx(calibration["hours"], rel=1e-5)
    missed, events = re.search(r"(\d+) of (\d+) events missed", calibration["note"]).groups()
    assert (last["misses"], last["events"]) == (int(missed), int(events))
    assert last["miss_rate"] == pytest.approx(int(missed) / int(events), rel=1e-5)
    assert last["miss_low"] <= last["miss_rate"] <= last["miss_high"]
    assert last["fa_per_hour"] == pytest.approx(last["false_alarms"] / last["hours"], rel=1e-4)
    assert last["fa_low"] <= last["fa_per_hour"] < last["fa_high"]


def test_validation_scores_streams_once_a_step_and_changes_no_training(cli, tiny, tmp_path, monkeypatch):
    calls, real = [], ValidationStreams.score
    monkeypatch.setattr(ValidationStreams, "score", lambda *args: calls.append(1) or real(*args))
    words = [word for word in tiny if not word.startswith("validate_every")]
    words += ["replay.schedule=adaptive", "replay.steer_every=3", "replay.steer_at_score=0"]
    words += ["replay.target_fa_per_hour=0"]
    counts, printed, every4, never = {}, {}, tmp_path / "4", tmp_path / "null"
    for every, tensorboard in ((4, True), ("null", False)):
        place = f"out={tmp_path}/{every}"
        done = cli("train", *words, f"validate_every={every}", f"tensorboard={tensorboard}", place)
        assert done.code == 0, done.err
        counts[every], printed[every] = len(calls), done.out
        calls.clear()
    # The share is steered after 13, 16, 19 and 22 steps, rows of validation after 4, 8, 12, 16, 20 and 24.
    assert counts == {4: 9, "null": 4}
    assert [row["step"] for row in rows(every4)] == ["3", "7", "11", "15", "19", "23"]
    assert rows(never) == []
    assert [row["step"] for row in rows(every4, "share.csv")] == ["12", "15", "18", "21"]
    for name in ("share.csv", "metrics.csv"):
        assert (every4 / name).read_text() == (never / name).read_text()
    a, b = (checkpoint.read(out / "model.pt") for out in (every4, never))
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    assert a["thresholds"] == b["thresholds"]
    assert (every4 / "tensorboard").exists()
    assert not (never / "tensorboard").exists()
    last = rows(every4)[-1]
    assert f"misses {last['misses']}/{last['events']} with no alarm in {float(last['hours']):.2f} h" in printed[4]
    assert "misses" not in printed["null"].split("Calibrating")[0]


def test_a_model_that_never_triggers_misses_every_event(tones, tmp_path):
    held = held_out(tones, tmp_path, ["beep"])
    blind = Scripted(["beep"], [scores(held.negative, 1, {}), scores(held.positive["beep"], 1, {})])
    (point,) = held.operating_points(held.score(blind), 0.5).values()
    assert (point.misses, point.events, point.false_alarms) == (6, 6, 0)
    assert point.threshold == math.ulp(0)
