"""Keywords and labels that contain one another."""

import pytest

from kws.data.overlap import ambiguous, contained, contained_lines, named

NOTHING, CLASS, PHRASE = (False, False), (True, False), (True, True)


@pytest.mark.parametrize(
    ("label", "keyword", "expected"),
    [
        ("hey computer", "computer", PHRASE),
        ("hey_Computer", "computer", PHRASE),
        ("ok-computers", "computer", PHRASE),
        ("computer lights on", "computer", PHRASE),
        ("打开电脑", "电脑", PHRASE),
        ("oh no", "no", PHRASE),
        ("clock_alarm", "clock", CLASS),
        ("computer_keyboard", "computer", CLASS),
        ("not_computer", "computer", NOTHING),
        ("not-wake-word", "wake-word", NOTHING),
        ("computer negatives", "computer", NOTHING),
        ("near_computer", "computer", NOTHING),
        ("supercomputer", "computer", NOTHING),
        ("speech", "computer", NOTHING),
        ("hey commuter", "computer", NOTHING),
    ],
)
def test_labels_that_contain_a_keyword(label: str, keyword: str, expected: tuple[bool, bool]) -> None:
    assert (named(label, keyword), ambiguous(label, keyword)) == expected


def test_keywords_that_contain_one_another() -> None:
    words = ["computer", "hey_computer", "jarvis", "hey computer, go"]
    assert contained(words) == [[], [0], [], [0, 1]]
    assert contained_lines(["computer", "jarvis"]) == []
    (line,) = contained_lines(["computer", "hey computer"])
    assert line.startswith("'hey computer' contains computer: its recordings do not train computer, and a trigger of")
