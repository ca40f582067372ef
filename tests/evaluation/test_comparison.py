"""Two detectors on the same streams: known counts, known tests."""

import json
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.detector.streaming import ScoreTrack
from kws.evaluation.comparison import Comparison, compare, misses_too_many, rows, sign_test, verdict
from kws.evaluation.scoring import KeywordScores, Segment

SPANS = [(10.0 * i, 10.0 * i + 2) for i in range(1, 21)]
EVENTS = [Segment(a, b) for a, b in SPANS]


def example_scores(hit: set[int], alarms: int, hours: float = 1.0) -> KeywordScores:
    """A detector that hits these events at 0.9, the others at 0.1, with a number of false alarms."""
    times = np.arange(1, 3001, dtype=float) / 10
    scores = np.zeros(3000, np.float32)
    for i in range(20):
        scores[round(SPANS[i][0] * 10) + 5] = 0.9 if i in hit else 0.1
    quiet = np.zeros(3000, np.float32)
    quiet[np.arange(alarms) * 50] = 0.8
    return KeywordScores(ScoreTrack(times, scores, 300.0), EVENTS, ScoreTrack(times, quiet, hours * 3600))


def test_known_counts_at_the_own_thresholds() -> None:
    a, b = example_scores(set(range(10)), 12), example_scores(set(range(9, 20)), 2)
    (own,) = compare(a, b, (0.5, 0.5), (), 1.0)
    assert (own.events, own.misses_a, own.misses_b) == (20, 10, 9)
    assert (own.only_a, own.only_b) == (10, 9), "event 9 is hit by both"
    assert (own.alarms_a, own.alarms_b, own.hours) == (12, 2, 1.0)
    assert own.p_misses == 1.0
    assert own.p_alarms == pytest.approx(2 * sum(comb(14, k) for k in range(3)) / 2**14)
    assert own.wanted_fa_per_hour is None


def test_equal_false_alarms_take_different_thresholds() -> None:
    a, b = example_scores(set(range(20)), 0), example_scores(set(range(20)), 5)
    _, none, many = compare(a, b, (0.95, 0.05), (0.0, 100.0), 1.0)
    assert (none.misses_a, none.misses_b, none.alarms_a, none.alarms_b) == (0, 0, 0, 0), "0.9 is above 0.8"
    assert (many.alarms_a, many.alarms_b) == (0, 5)
    assert many.wanted_fa_per_hour == 100


def test_rates_with_equal_figures_share_a_row() -> None:
    a, b = example_scores(set(range(20)), 3), example_scores(set(range(15)), 9)
    shown = rows(compare(a, b, (0.85, 0.75), (0.0, 0.1, 0.5, 4.0), 1.0))
    assert shown == [
        ("calibrated", "0 / 5", "0 / 5", "0.062", "0 / 9", "0.004"),
        ("for 0 to 0.5 FA/h", "0 / 5", "0 / 5", "0.062", "0 / 0", "1.000"),
        ("for 4 FA/h", "0 / 5", "0 / 5", "0.062", "3 / 0", "0.250"),
    ]


def test_a_perfect_detector_beats_a_blind_one() -> None:
    (own,) = compare(example_scores(set(range(20)), 0), example_scores(set(), 0), (0.5, 0.5), (), 1.0)
    assert (own.only_a, own.only_b) == (0, 20)
    assert own.p_misses == pytest.approx(2 / 2**20)
    assert own.p_alarms == 1.0


def test_sign_test_known_answers() -> None:
    assert sign_test(0, 0) == sign_test(5, 5) == 1.0
    assert sign_test(1, 9) == pytest.approx(22 / 1024)
    assert sign_test(0, 5) == pytest.approx(2 / 32)


@given(a=st.integers(0, 60), b=st.integers(0, 60))
def test_the_p_value_is_a_probability_and_symmetric(a: int, b: int) -> None:
    p = sign_test(a, b)
    assert p == sign_test(b, a)
    assert p == pytest.approx(min(1.0, 2 * sum(comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b)))


def test_other_streams_are_refused() -> None:
    with pytest.raises(KwsError, match="streams of the two detectors differ"):
        compare(example_scores(set(), 0), example_scores(set(), 0, hours=2.0), (0.5, 0.5), (), 1.0)


def test_a_checkpoint_and_its_export_do_not_differ(cli, run, tiny, tmp_path):
    words = [word for word in tiny if word.startswith(("data.", "threshold."))]
    both = f"compare=[{run}/model.pt,{run}/detector.pt]"
    done = cli("evaluate", both, *words, f"out={tmp_path}/c.json", f"report={tmp_path}/c.html")
    assert done.code == 0, done.err
    content = json.loads((tmp_path / "c.json").read_text())
    assert len(content["compared"]) == 6
    for pair in content["compared"]:
        assert pair["misses_a"] == pair["misses_b"]
        assert (pair["only_a"], pair["only_b"], pair["p_misses"]) == (0, 0, 1.0)
        assert pair["alarms_a"] == pair["alarms_b"]
    assert "beep, a" in done.out
    assert "beep, b" in done.out
    assert (tmp_path / "c.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "compare=[a,b] or detector=... must be given"),
        (("detector=a.pt", "compare=[a.pt,b.pt]"), "must not be given together with detector=..."),
        (("compare=[a.pt]",), "must be two detectors"),
        (("compare=5",), "compare=5"),
    ],
)
def test_a_wrong_comparison_is_refused_in_one_line(cli, tones, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "b.pt"):
        Path(name).touch()
    done = cli("evaluate", *words, f"data.root={tones}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err


@pytest.mark.parametrize(
    ("misses", "alarms", "triggers", "begins", "ends"),
    [
        ((5, 5), (9, 8), (100, 10), "Ship it", "chance explains."),  # the false alarms of the field are gone
        (
            (0, 8),
            (9, 8),
            (100, 10),
            "Do not ship it",
            "More misses than chance explains (p <0.001 in all splits).",
        ),
        (
            (5, 5),
            (1, 20),
            (100, 10),
            "Do not ship it",
            "false alarms than chance explains (p <0.001 in all splits).",
        ),
        ((5, 5), (40, 10), (0, 0), "Ship it", "chance explains."),
        (
            (28, 17),
            (0, 0),
            (13, 63),
            "Do not ship it",
            "those clips than chance explains (p <0.001 in all splits).",
        ),
        ((5, 6), (9, 10), (100, 95), "Keep the old one", "Any gain may be chance."),
        ((5, 5), (9, 9), (1, 0), "Keep the old one", "Any gain may be chance."),
    ],
)
def test_the_verdict_is_a_sentence(misses, alarms, triggers, begins, ends):
    pair = Comparison(None, 100, misses[0], misses[1], misses[0], misses[1], 1.0, 2.0, alarms[0], alarms[1], 1.0)
    sentence = verdict([pair, pair], 120, *triggers)
    assert sentence.startswith(begins), sentence
    assert sentence.endswith(ends), sentence
    assert f"it misses {2 * misses[1]} of 200 keywords (before {2 * misses[0]})" in sentence
    assert f"{2 * alarms[1]} false alarms in 4.00 h (before {2 * alarms[0]})" in sentence
    assert f"{triggers[1]} of the 120 clips" in sentence


@pytest.mark.parametrize(
    ("a", "b", "too_many"),
    [
        (5, 10, False),  # a tenth may be missed
        (5, 11, True),
        (16, 16, False),
        (16, 17, False),  # the old one misses more than a tenth itself, and one more is chance
        (16, 22, True),
    ],
)
def test_too_many_misses(a: int, b: int, too_many: bool) -> None:
    pair = Comparison(None, 100, a, b, 0, b - a, 1.0, 2.0, 0, 0, 1.0)
    assert misses_too_many([pair], 0.1) == too_many
