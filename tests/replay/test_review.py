"""The review page: self-contained, exact audio, no name becomes markup. Decisions are read strictly."""

import base64
import hashlib
import io
import json
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.data.audio import content_hash
from kws.data.manifest import Source, Split
from kws.replay.records import BufferClip, Kind, NewClip, as_columns, as_row
from kws.replay.review import Decisions, read_decisions, write_review

NASTY = ["<script>alert(1)</script>", "</script>", "a\" onload='x'", "&lt;", "]]>", "<!--", "\udcff", "猫", "\0"]
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


AUDIO: dict[str, np.ndarray] = {}


def card(seed: int = 0, score: float | None = 0.5, score_now: float | None = None) -> BufferClip:
    pcm = np.random.default_rng(seed).integers(-(2**15), 2**15, 400, dtype=np.int16)
    clip = NewClip(
        pcm, Kind.false_trigger, "alexa", Source("a1", f"talk-{seed}.wav", Split.TRAIN), 12.5, score, "", "run", 1,
        text="a lecture",
    )  # fmt: skip
    AUDIO[content_hash(pcm)] = pcm
    columns = as_columns(clip, 1.0, "") | {"hash": content_hash(pcm)}
    return as_row(columns | {"id": 1, "score_now": score_now, "last_loss": None, "times_drawn": 0, "reason": "",
                             "decision": ""}, Path("index.sqlite"))  # fmt: skip


def named(clip: BufferClip, name: str) -> BufferClip:
    return replace(clip, source=replace(clip.source, name=name))


def write(path: Path, clips: list[BufferClip], title: str = "Review", buffer: str = "b") -> None:
    write_review(path, clips, AUDIO.__getitem__, 16000, title, buffer)


class Page(HTMLParser):
    """Tags, their attributes, and the text within each tag, as a browser reads them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.within = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.within = tag

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        self.text.append((self.within, data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def said(self, tag: str) -> list[str]:
        return [data for name, data in self.text if name == tag]


def sound(attributes: dict[str, str | None]) -> tuple[np.ndarray, int]:
    kind, data = (attributes["src"] or "").split(",")
    assert kind == "data:audio/flac;base64"
    pcm, rate = soundfile.read(io.BytesIO(base64.b64decode(data, validate=True)), dtype="int16")
    return pcm, rate


def test_the_page_plays_each_clip_exactly_the_highest_score_first(tmp_path: Path) -> None:
    clips = [card(0, 0.2), card(1, None), card(2, 0.9, 0.3), card(3, 0.1, 0.8), card(4, 0.5)]
    write(tmp_path / "review.html", clips, "Review", "runs/a/buffer")
    page = Page(tmp_path / "review.html")
    wanted = [clips[i] for i in (3, 4, 2, 0, 1)]
    assert [box["data-hash"] for box in page.of("fieldset")] == [clip.hash for clip in wanted]
    assert page.said("code") == [clip.hash[:12] for clip in wanted]
    for clip, player in zip(wanted, page.of("audio"), strict=True):
        pcm, rate = sound(player)
        assert rate == 16000
        np.testing.assert_array_equal(pcm, AUDIO[clip.hash])
        assert content_hash(pcm) == clip.hash
    assert [p.name for p in tmp_path.iterdir()] == ["review.html"]


def test_the_page_shows_the_fields_of_a_clip(tmp_path: Path) -> None:
    clip = replace(card(0, 0.98765, 0.4), offset_s=-0.25, reason="its text says alexa")
    write(tmp_path / "review.html", [clip, replace(card(1, None), text="")], "Review", "runs/a/buffer")
    page = Page(tmp_path / "review.html")
    first, second = page.said("dd")[:9], page.said("dd")[9:]
    assert page.said("dt")[:9] == page.said("dt")[9:]
    assert dict(zip(page.said("dt"), first, strict=False)) == {
        "keyword": "alexa",
        "kind": "false_trigger",
        "recording": "talk-0.wav",
        "offset": "-0.25 s",
        "length": "0.03 s",
        "text": "a lecture",
        "score found": "0.9877",
        "score now": "0.4000",
        "reason": "its text says alexa",
    }
    assert second[5:] == ["-", "-", "-", "-"]
    assert page.said("p")[0] == "Buffer: runs/a/buffer"


def test_each_clip_has_two_choices_and_none_is_preselected(tmp_path: Path) -> None:
    clips = [card(0), card(1)]
    write(tmp_path / "review.html", clips, "Review", "b")
    inputs = Page(tmp_path / "review.html").of("input")
    assert Counter((i["name"], i["value"]) for i in inputs) == Counter(
        (clip.hash, value) for clip in clips for value in ("release", "reject")
    )
    assert {i["type"] for i in inputs} == {"radio"}
    assert not any("checked" in i for i in inputs)


def test_the_content_policy_allows_only_the_script_style_and_audio_of_the_page(tmp_path: Path) -> None:
    write(tmp_path / "review.html", [card()], "Review", "b")
    page = Page(tmp_path / "review.html")
    [content] = [m["content"] or "" for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    policy = dict(rule.strip().split(" ", 1) for rule in content.split(";"))
    for tag in ("script", "style"):
        [text] = page.said(tag)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy.pop(f"{tag}-src") == f"'sha256-{digest}'"
    assert (policy.pop("media-src"), policy.pop("img-src")) == ("data:", "data:")
    assert policy == dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    # The policy would forbid these, and what it forbids would not work.
    assert not [k for _, attributes in page.tags for k in attributes if k.startswith("on") or k in ("style", "href")]
    assert [tag for tag, attributes in page.tags if "src" in attributes] == ["audio"]
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "img", "object", "base", "form"}


def test_the_script_holds_no_data(tmp_path: Path) -> None:
    scripts = set()
    for i, clips in enumerate(([card(0)], [replace(named(card(1), "</script>"), text="secret"), card(2)])):
        write(tmp_path / f"{i}.html", clips, f"title {i}", f"buffer {i}")
        scripts.update(Page(tmp_path / f"{i}.html").said("script"))
    assert len(scripts) == 1
    # An attribute that the script asks for is there.
    assert 'querySelectorAll("[data-hash]")' in scripts.pop()


@settings(deadline=None, max_examples=15)
@given(st.text() | st.sampled_from(NASTY))
def test_no_name_becomes_markup(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder, pages = tmp_path_factory.getbasetemp(), []
    for word in (name, "word"):
        clip = replace(named(card(), word), keyword=word, text=word, reason=word)
        write(folder / "review.html", [clip], word, word)
        pages.append(Page(folder / "review.html"))
    assert pages[0].tags == pages[1].tags
    assert pages[0].said("script") == pages[1].said("script")


@pytest.mark.parametrize("name", [name for name in NASTY if name not in ("\udcff", "\0")])
def test_odd_names_are_shown_as_they_are(tmp_path: Path, name: str) -> None:
    write(tmp_path / "review.html", [named(card(), name)], name, name)
    page = Page(tmp_path / "review.html")
    assert name in page.said("dd")
    assert page.said("h1") == page.said("title") == [name]


def test_an_empty_review_has_a_note(tmp_path: Path) -> None:
    write(tmp_path / "review.html", [], "Review", "b")
    page = Page(tmp_path / "review.html")
    assert "There is nothing to review." in page.said("p")
    assert not page.of("script")
    assert not page.of("input")
    assert not page.of("button")


def test_a_failed_page_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "review.html").write_text("older")
    broken = card(1, 0.1)
    AUDIO[broken.hash] = np.zeros((2, 2, 2), np.int16)
    with pytest.raises(ValueError, match="shape"):
        write(tmp_path / "review.html", [card(0, 0.9), broken], "Review", "b")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("review.html", "older")]


@given(st.dictionaries(st.binary(min_size=32, max_size=32).map(bytes.hex), st.booleans(), min_size=1))
def test_saved_decisions_are_read(tmp_path_factory: pytest.TempPathFactory, decided: dict[str, bool]) -> None:
    release, reject = [h for h, yes in decided.items() if yes], [h for h, yes in decided.items() if not yes]
    path = tmp_path_factory.getbasetemp() / "decisions.json"
    path.write_text(json.dumps({"reject": reject, "release": release}))
    assert read_decisions(path, Decisions) == Decisions(release=release, reject=reject)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[" * 10**6, "not JSON"),
        ('{"release": [], "release": [], "reject": []}', "'release' twice"),
        ("[]", "must be a valid dictionary"),
        ("null", "must be a valid dictionary"),
        ('{"release": [], "reject": []}', "holds no decision"),
        ('{"release": []}', "reject: Field required"),
        ('{"release": [], "reject": [], "keep": []}', "keep: .*not permitted"),
        ('{"release": null, "reject": []}', "release=.*valid list"),
        (json.dumps({"release": [], "reject": A}), "reject=.*valid list"),
        (json.dumps({"release": [], "reject": {A: 1}}), "reject=.*valid list"),
        (json.dumps({"release": [A[1:]], "reject": []}), 'release.0="a{63}": must be 64 hex'),
        (json.dumps({"release": [A.upper()], "reject": []}), 'release.0="A{64}": must be 64 hex'),
        (json.dumps({"release": [A + "\n"], "reject": []}), "64 hex"),
        (json.dumps({"release": [A], "reject": [B, "../../etc"]}), 'reject.1="../../etc": must be 64 hex'),
        (json.dumps({"release": [7], "reject": []}), "release.0=7: must be a valid string"),
        (json.dumps({"release": [A, C], "reject": [B, C]}), "c{64} must not be in both release and reject"),
    ],
)
def test_malformed_decisions_are_refused(tmp_path: Path, content: str, wrong: str) -> None:
    path = tmp_path / "decisions.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(KwsError, match=f"decisions.json: .*{wrong}"):
        read_decisions(path, Decisions)


def test_a_missing_file_a_folder_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"none.json: cannot be read \(No such file"):
        read_decisions(tmp_path / "none.json", Decisions)
    with pytest.raises(KwsError, match="cannot be read"):
        read_decisions(tmp_path, Decisions)
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(KwsError, match=r"huge\.json: must be .* at most 50 MB"):
        read_decisions(tmp_path / "huge.json", Decisions)
