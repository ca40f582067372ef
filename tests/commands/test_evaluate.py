"""A checkpoint, its exported file and the independent referee count the same on the same streams."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from kws.data.manifest import Split, read
from kws.detector import checkpoint
from tests.commands.conftest import figures


def nearly(value: Any) -> Any:
    """Plain values of which floats may differ by 1e-6: TorchScript rounds scores in another order."""
    if isinstance(value, dict):
        return {name: nearly(one) for name, one in value.items() if name != "curve"}
    if isinstance(value, list):
        return [nearly(one) for one in value]
    return pytest.approx(value, abs=1e-6) if isinstance(value, float) else value


def test_checkpoint_and_exported_file_give_the_same_figures(cli, run, streams, tmp_path):
    model = figures(cli, run / "model.pt", tmp_path / "a.json", *streams)
    exported = figures(cli, run / "detector.pt", tmp_path / "b.json", *streams)
    assert {k: {name: v for name, v in one.items() if name != "curve"} for k, one in model.items()} == nearly(exported)
    assert model["beep"]["as_calibrated"]["events"] == 16


def test_evaluating_the_recordings_gives_the_figures_of_the_run(cli, run, tiny, tmp_path):
    words = [word for word in tiny if word.startswith(("data.", "threshold."))]
    (outcome,) = json.loads((run / "results.json").read_text())["outcomes"]
    words.append(f"report={tmp_path}/r.html")
    again = figures(cli, run / "model.pt", tmp_path / "a.json", *words, "threshold.at_fa_per_hour=0.5")["beep"]
    assert again == outcome
    for page in (run / "report.html", tmp_path / "r.html"):
        assert page.read_text().partition("negatives with the highest scores")[2].count("<audio") == 3
    words.pop()
    as_it_is = figures(cli, run / "model.pt", tmp_path / "b.json", *words)["beep"]
    assert as_it_is == outcome | {"calibration": None}, "the thresholds are the detector's own"


def test_one_keyword_of_a_detector_of_two(cli, tones, run, tiny, tmp_path):
    recipe = checkpoint.read_model(run / "model.pt").spec
    two = type(recipe)(**{**vars(recipe), "labels": ["other", "beep"]})
    checkpoint.write_model(tmp_path / "two.pt", two, two.net().state_dict(), [0.5, 0.5], {})
    words = [word for word in tiny if word.startswith("data.")]
    assert list(figures(cli, tmp_path / "two.pt", tmp_path / "a.json", *words, "keyword=beep")) == ["beep"]


def test_the_referee_counts_the_same(cli, data, run, streams, tmp_path):
    referee = data.resolve().parent / "referee/referee.py"
    if not referee.is_file():
        pytest.skip("there is no referee/referee.py beside KWS_DATA")
    positive, events, negative = (word.split("=")[1] for word in streams)
    found = subprocess.run(
        [sys.executable, referee, run / "detector.pt", "beep", positive, events, *negative.strip("[]").split(",")],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs, ours = json.loads(found.stdout), figures(cli, run / "detector.pt", tmp_path / "a.json", *streams)["beep"]
    assert theirs["at_fa_per_hour"].keys() == ours["at_fa_per_hour"].keys()
    pairs = [(theirs["as_exported"], ours["as_calibrated"])]
    pairs += [(theirs["at_fa_per_hour"][rate], ours["at_fa_per_hour"][rate]) for rate in theirs["at_fa_per_hour"]]
    for their, our in pairs:
        assert their["threshold"] == pytest.approx(our["threshold"], abs=1e-5)
        assert their["false_alarms"] == our["false_alarms"]
        assert their["fa_per_hour"] == pytest.approx(our["fa_per_hour"], abs=1e-3)
        assert their["miss_rate"] == pytest.approx(our["miss_rate"], abs=1e-4)
        assert their["miss_95"] == pytest.approx([our["miss_low"], our["miss_high"]], abs=2e-4)
    assert theirs["negative_hours"] == pytest.approx(ours["as_calibrated"]["hours"], abs=1e-3)


def test_an_unknown_keyword_and_incomplete_streams_are_refused(cli, run, streams):
    for words in (["keyword=boop", *streams], streams[1:2], [*streams, "data.root=DIR"], []):
        done = cli("evaluate", f"detector={run}/model.pt", *words)
        assert done.code == 2
        assert done.err.startswith("kws: ")
        assert done.err.count("\n") == 1


def test_either_side_may_be_left_out(cli, run, streams, tmp_path):
    both = figures(cli, run / "model.pt", tmp_path / "a.json", *streams)["beep"]["as_calibrated"]
    page = f"report={tmp_path}/r.html"
    radio = figures(cli, run / "model.pt", tmp_path / "b.json", streams[2], page)["beep"]
    assert (radio["as_calibrated"]["false_alarms"], radio["as_calibrated"]["hours"]) == (
        both["false_alarms"],
        both["hours"],
    )
    assert (radio["as_calibrated"]["events"], radio["as_calibrated"]["miss_rate"]) == (0, None)
    assert radio["at_fa_per_hour"]["0.0"]["false_alarms"] == 0
    html = (tmp_path / "r.html").read_text()
    assert "<strong>beep</strong> " in html
    assert "keywords:" not in html, "no words on misses that nobody counted"
    spoken = figures(cli, run / "model.pt", tmp_path / "c.json", *streams[:2])["beep"]
    assert (spoken["as_calibrated"]["misses"], spoken["as_calibrated"]["events"]) == (both["misses"], both["events"])
    assert spoken["at_fa_per_hour"] == {}, "without hours no threshold is for a rate"
    done = cli("evaluate", f"compare=[{run}/model.pt,{run}/detector.pt]", streams[2])
    assert done.code == 0, done.err


def test_without_events_each_recording_is_one_keyword(cli, run, tones, tmp_path):
    (tmp_path / "mine").mkdir()
    for file in [one.path for one in read(tones) if (one.label, one.split) == ("beep", Split.TEST)]:
        (tmp_path / "mine" / file.name).symlink_to(file)
    words = [f"detector={run}/model.pt", f"positive={tmp_path}/mine"]
    assert figures(cli, run / "model.pt", tmp_path / "a.json", words[1])["beep"]["as_calibrated"]["events"] == 8
    assert "keyword, " not in cli("evaluate", *words).out
    two = type(recipe := checkpoint.read_model(run / "model.pt").spec)(**{**vars(recipe), "labels": ["beep", "boop"]})
    checkpoint.write_model(tmp_path / "two.pt", two, two.net().state_dict(), [0.5, 0.5], {})
    refused = cli("evaluate", f"detector={tmp_path}/two.pt", words[1])
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "must be one, since without events every file" in refused.err


def test_recordings_that_the_training_used_are_named(cli, run, tones, tmp_path):
    beeps = [one for one in read(tones) if one.label == "beep"]
    known = {split: [one.path for one in beeps if one.split is split] for split in Split}
    mine = [*known[Split.TRAIN][:2], *known[Split.VALIDATION][:1], *known[Split.TEST][:1]]
    listed = ",".join(map(str, mine))
    for detector in ("detector.pt", "model.pt"):
        said = cli("evaluate", f"detector={run / detector}", f"positive=[{listed}]").err
        assert f"2 of the 4 recordings trained it, such as {mine[0]}" in said
        assert f"1 of the 4 recordings placed its threshold, such as {mine[2]}" in said
    new = ",".join(map(str, known[Split.TEST]))
    assert "of the" not in cli("evaluate", f"detector={run}/detector.pt", f"positive=[{new}]").err


@pytest.fixture(scope="module")
def labelled(cli, run, streams, tmp_path_factory) -> tuple[Path, list[str]]:
    """A detector of two keywords, and streams with both, with labels."""
    folder = tmp_path_factory.mktemp("labelled")
    recipe = checkpoint.read_model(run / "model.pt").spec
    two = type(recipe)(**{**vars(recipe), "labels": ["boop", "beep"]})
    checkpoint.write_model(folder / "two.pt", two, two.net().state_dict(), [0.4, 0.4], {})
    positive, events, negative = (word.split("=")[1] for word in streams)
    spans = json.loads(Path(events).read_text())
    lines = [f"{a},{b - 0.5},{'boop' if i % 4 == 0 else 'beep'}\n" for i, (a, b) in enumerate(spans)]
    (folder / "e.csv").write_text("start,end,label\n" + "".join(lines))
    return folder, [f"positive={positive}", f"events={folder}/e.csv", f"negative={negative}"]


def test_several_keywords_in_one_stream_and_their_confusion(cli, labelled, tmp_path):
    folder, words = labelled
    found = figures(cli, folder / "two.pt", tmp_path / "a.json", *words)
    assert [(k, o["as_calibrated"]["events"]) for k, o in found.items()] == [("boop", 4), ("beep", 12)]
    confused = json.loads((tmp_path / "a.json").read_text())["confused"]
    assert [(row["said"], row["fired"], row["events"]) for row in confused] == [
        ("boop", "beep", 4),
        ("beep", "boop", 12),
    ]


def test_several_recordings_are_joined(cli, run, streams, tmp_path):
    positive, events, _ = (word.split("=")[1] for word in streams)
    once = figures(cli, run / "model.pt", tmp_path / "a.json", *streams)["beep"]["as_calibrated"]
    for file in (positive, events):
        shutil.copy(file, tmp_path)
    again = [tmp_path / Path(file).name for file in (positive, events)]
    twice = [f"positive=[{positive},{again[0]}]", f"events=[{events},{again[1]}]", streams[2]]
    both = figures(cli, run / "model.pt", tmp_path / "b.json", *twice)["beep"]["as_calibrated"]
    assert (both["misses"], both["events"]) == (2 * once["misses"], 2 * once["events"])


def test_broken_recordings_are_reported_and_the_rest_counts(cli, run, streams, tmp_path):
    folder = tmp_path / "negatives"
    folder.mkdir()
    for i in range(12):
        soundfile.write(folder / f"{i}.flac", np.arange(16000).astype(np.int16), 16000)
    (folder / "broken.flac").write_bytes(b"fLaC")
    words = [*streams[:2], f"negative={folder}"]
    done = cli("evaluate", f"detector={run}/model.pt", f"out={tmp_path}/a.json", *words)
    assert done.code == 0
    assert "left out, no usable sound: 1 of 14 recordings" in done.err
    (outcome,) = json.loads((tmp_path / "a.json").read_text())["outcomes"]
    assert outcome["as_calibrated"]["hours"] == pytest.approx(12 / 3600)
    done = cli("evaluate", f"detector={run}/model.pt", "data.max_undecodable=0.01", *words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "the share must be at most data.max_undecodable=0.01" in done.err


def test_hours_of_digital_silence_do_not_count_and_are_named(cli, run, streams, tmp_path):
    negative = Path(streams[2].partition("=")[2].strip("[]").split(",")[0])
    pcm, rate = soundfile.read(negative, dtype="int16")
    soundfile.write(tmp_path / "gaps.flac", np.concatenate([pcm, np.zeros(60 * rate, np.int16), pcm]), rate)
    words = [f"negative={tmp_path}/gaps.flac", f"detector={run}/model.pt", f"out={tmp_path}/a.json", "threads=1"]
    done = cli("evaluate", *words)
    assert done.code == 0, done.err
    (outcome,) = json.loads((tmp_path / "a.json").read_text())["outcomes"]
    assert outcome["as_calibrated"]["hours"] == pytest.approx((2 * len(pcm) / rate + 10) / 3600, abs=10 / 3600)
    assert re.search(r"0\.01 of 0\.0\d h without the keyword are digital silence and do not count", done.err)


def test_latency_needs_annotations_of_the_keywords_end(cli, labelled, run, streams, tmp_path):
    _, words = labelled
    found = figures(cli, run / "model.pt", tmp_path / "a.json", *words)["beep"]
    assert found["as_calibrated"]["events"] == 12
    assert found["as_calibrated"]["misses"] < 12
    assert -1.2 < found["latency"]["median_s"] <= found["latency"]["p95_s"] <= 0.5
    assert figures(cli, run / "model.pt", tmp_path / "b.json", *streams)["beep"]["latency"] is None


def test_another_smoothing_is_the_smoothing_of_an_export(cli, run, streams, tmp_path):
    done = cli(
        "export", f"checkpoint={run}/model.pt", f"out={tmp_path}/d.pt", "smooth_k=3", "smooth_s=0.16", "thresholds=0.3"
    )
    assert done.code == 0, done.err
    other = ["smooth_k=3", "smooth_s=0.16"]
    exported = figures(cli, tmp_path / "d.pt", tmp_path / "a.json", *streams)["beep"]["at_fa_per_hour"]
    ours = figures(cli, run / "model.pt", tmp_path / "b.json", *other, *streams)
    assert ours["beep"]["at_fa_per_hour"] == nearly(exported)
    assert figures(cli, run / "model.pt", tmp_path / "c.json", *streams)["beep"]["at_fa_per_hour"] != nearly(exported)


def test_settings_that_cannot_be_evaluated_are_refused_in_one_line(cli, run, tiny, streams, tmp_path):
    data = [word for word in tiny if word.startswith("data.")]
    refused = {
        ("threshold.at_fa_per_hour=0.5", *data): " of validation negatives are too few",
        ("threshold.at_fa_per_hour=0.5", *streams): "needs data.root",
        (streams[0], f"events=[{run},{run}]", streams[2]): "must be as many files as in positive, 1",
    }
    for words, reason in refused.items():
        done = cli("evaluate", f"detector={run}/model.pt", *words)
        assert (done.code, done.err.count("kws: ")) == (2, 1), done.err
        assert reason in done.err.splitlines()[-1]
    done = cli("train", *tiny, "threshold.unsupported=refuse", f"out={tmp_path}/run")
    assert done.code == 2
    assert "are too few to place a threshold" in done.err
    assert not (tmp_path / "run").exists(), "before anything is begun"


def test_an_event_of_one_recording_is_no_hit_in_the_next(cli, run, streams, tmp_path):
    """No refractory time and no collar reaches from one recording into another, in any order."""
    positive = streams[0].split("=")[1]
    pcm, rate = soundfile.read(positive, dtype="int16")
    soundfile.write(tmp_path / "a.flac", pcm[: 8 * rate], rate)
    soundfile.write(tmp_path / "b.flac", pcm[8 * rate : 20 * rate], rate)
    (tmp_path / "a.json").write_text("[[1, 2.5], [7.2, 7.9]]")
    (tmp_path / "b.json").write_text("[[0.1, 1.5], [4, 6]]")
    counts = []
    for names in ("a", "b", "ab", "ba"):
        words = [
            f"{key}=[{','.join(f'{tmp_path}/{n}.{kind}' for n in names)}]"
            for key, kind in (("positive", "flac"), ("events", "json"))
        ]
        found = figures(cli, run / "model.pt", tmp_path / "o.json", *words, streams[2], "collar_s=[0,1]")["beep"]
        counts.append(
            [found["at_fa_per_hour"][rate_]["misses"] for rate_ in ("0.0", "2.0")] + [found["as_calibrated"]["misses"]]
        )
    a, b, ab, ba = counts
    assert ab == ba == [x + y for x, y in zip(a, b, strict=True)]


def test_recordings_that_count_twice_or_not_at_all_are_refused(cli, run, streams, tmp_path):
    negative = streams[2].split("=")[1].strip("[]").split(",")
    (tmp_path / "late.json").write_text("[[1, 2], [99999, 99999.5]]")
    (tmp_path / "e.csv").write_text("start,end,label\n1,2,beep\n3,4,\n")
    two = ["keyword=[beep,boop]", streams[0], f"events={tmp_path}/e.csv", streams[2]]
    refused = {
        (*streams[:2], f"negative=[{negative[0]},{negative[0]}]"): "is there twice, and its hours would count twice",
        (*streams[:2], f"negative={streams[0].split('=')[1]}"): "is there twice",
        (streams[0], f"events={tmp_path}/late.json", streams[2]): "is annotated at 99999.0 s",
        (*streams, f"out={tmp_path}"): "must be a file",
        (*streams, f"plots={run}/model.pt"): "must be a folder",
    }
    for words, reason in refused.items():
        done = cli("evaluate", f"detector={run}/model.pt", *words)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert reason in done.err
    recipe = checkpoint.read_model(run / "model.pt").spec
    both = type(recipe)(**{**vars(recipe), "labels": ["beep", "boop"]})
    checkpoint.write_model(tmp_path / "two.pt", both, both.net().state_dict(), [0.5, 0.5], {})
    done = cli("evaluate", f"detector={tmp_path}/two.pt", *two)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "line 3 has no label" in done.err
