"""Recordings as real users bring them (KWS_DATA/../cases, made by make_cases.py): each case with its right outcome."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from kws.commands import builders
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.config.declared import settings_of
from kws.config.schema import TrainConfig
from kws.config.words import literal
from kws.data import manifest
from kws.data.audio import BadAudio, keyword_bounds, load, to_int16
from kws.data.audio_cache import Entry
from kws.data.augment import AugmentConfig
from kws.data.batch import BatchConfig, BatchSampler, Keywords
from kws.data.clip_bank import ClipBank
from kws.data.dataset import DataConfig, assign_roles, present, recordings, select, with_noise_label
from kws.data.keyword_location import locate, outline, train
from kws.data.manifest import Split
from kws.data.mending import Fault
from kws.data.noise import repeated
from kws.detector.checkpoint import ModelSpec, write_model
from kws.replay.buffer import Buffer
from tests.nets import LABELS, random_net

RATE, LONGEST_S = 16000, 1.2


@pytest.fixture
def cases(data: Path, tmp_path: Path) -> ModuleType:
    """make_cases.py, which writes below `OUT`."""
    file = data.parent / "cases" / "make_cases.py"
    if not file.is_file():
        pytest.skip("no cases: KWS_DATA does not lie beside them")
    spec = importlib.util.spec_from_file_location("make_cases", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "argv", [str(file), str(data), str(tmp_path)]), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the manifest open
        spec.loader.exec_module(module)
    return module


# ---- where the keyword is

LOCATION = ("plain", "click_at_start", "cough_before", "command_after", "talk_before", "room_30_s", "dc_offset")


def test_the_keyword_is_found_in_57_of_60_recordings_of_each_case(cases: ModuleType) -> None:
    cases.location()
    folder, found = cases.OUT / "location", dict[str, int]()
    assert {case.name for case in folder.iterdir()} == set(LOCATION)
    for case in LOCATION:
        truth = json.loads((folder / case / "truth.json").read_text())["keyword"]
        outlines = [outline(load(folder / case / name), RATE, LONGEST_S) for name in truth]
        model = None if all(one.clear for one in outlines) else train(outlines, LONGEST_S)
        places = locate(outlines, model, RATE, LONGEST_S)
        shares = [
            (min(place.end / RATE, b) - max(place.start / RATE, a)) / (b - a)
            for place, (a, b) in zip(places, truth.values(), strict=True)
        ]
        found[case] = sum(share >= 0.8 for share in shares)
        # What the speaker says beside the keyword is not the keyword again; the keyword at another level is.
        assert not any(place.again for place in places), case
        if case == "command_after":
            words = [load(folder / case / name)[: round(b * RATE)] for name, (_, b) in list(truth.items())[:10]]
            twice = [np.concatenate([x, np.zeros(RATE // 2, np.float32), x / 2]) for x in words]
            found_again = locate([outline(x, RATE, LONGEST_S) for x in twice], model, RATE, LONGEST_S)
            assert sum(place.again for place in found_again) >= 8
        longer = [
            (place.end - place.start) / RATE > 1.25 * (b - a)
            for place, (a, b) in zip(places, truth.values(), strict=True)
        ]
        assert sum(longer) <= 4, f"{case}: {sum(longer)} bounds are much longer than the keyword"
        wrong = sum(share < 0.8 and not place.doubt for share, place in zip(shares, places, strict=True))
        assert wrong <= 3, f"{case}: {wrong} wrong places without a doubt"
    assert min(found.values()) >= 57, found


# ---- manifests

# Lines that are printed, beyond that of files that a Mac leaves, and what the recordings hold beyond name and label.
MANIFESTS: dict[str, tuple[list[str], dict[str, list[object]]]] = {
    "semicolon": ([], {}),
    "excel_sep_line": ([], {}),
    "tab": ([], {}),
    "excel_utf16": ([], {}),
    "cp1252": (["read as cp1252, because line 3 is not UTF-8"], {"text": ["", "über"]}),
    "header_capitals": ([], {}),
    "unquoted_comma_in_text": (["1 texts hold ',' without quotes"], {"text": ["", "well, yes"]}),
    "backslashes": (["2 names differ from those on disk"], {}),
    "part_train_capital": (
        ["part: 'Train' is read as train, 'dev' is read as validation"],
        {"split": [Split.TRAIN, Split.VALIDATION], "given": [True, True]},
    ),
    "common_voice_columns": (
        [
            "column 'client_id' is read as 'speaker'",
            "column 'sentence' is read as 'text'",
            "column 'split' is read as the split",
        ],
        {"speaker": ["s1", "s2"], "text": ["", "well"], "split": [Split.TEST, Split.TRAIN], "given": [True, True]},
    ),
    "suffix_case": (["1 names differ from those on disk: 'a/1.WAV' is 'a/1.wav'"], {}),
    "missing_file": ([], {"name": ["a/1.wav", "a/none.wav"]}),
    "label_noise_capital": (["label 'Noise' is read as data.noise_label=noise"], {"label": ["computer", "noise"]}),
    "start_end": ([], {"start_s": [0.3, None], "end_s": [0.95, None]}),
}


def test_each_manifest_is_read_and_what_is_not_plain_is_printed(cases: ModuleType) -> None:
    cases.manifests()
    assert json.loads((cases.OUT / "manifest/expected.json").read_text()).keys() == MANIFESTS.keys()
    for case, (printed, values) in MANIFESTS.items():
        folder, lines = cases.OUT / "manifest" / case, list[str]()
        found = with_noise_label(manifest.read(folder, say=lines.append), "noise", lines.append)
        for key, wanted in ({"name": ["a/1.wav", "a/2.wav"], "label": ["computer", "speech"]} | values).items():
            assert [getattr(one, key) for one in found] == wanted, case
        for line, text in zip(lines, printed, strict=True):
            assert text in line, case
        if case == "missing_file":
            with pytest.raises(KwsError, match=r"1 of 2 recordings are missing, .*: a/none\.wav"):
                present(found, 0.1)
        else:
            assert present(found, 0.0) == found, case


# ---- sound

SOUND: dict[str, set[Fault] | str] = {
    "antiphase": {Fault.antiphase},
    "one_channel_silent": set(),
    "float_times_32768": {Fault.scaled},
    "dc_5_percent": {Fault.offset},
    "minus_60_db": {Fault.quiet},
    "digital_silence": "silent",
    "nan": "NaN",
    "header_zero": {Fault.unfinished},
    "header_all_ones": {Fault.unfinished},
}
LEVEL = {"one_channel_silent": 0.5, "dc_5_percent": 0.9, "minus_60_db": 0.001}  # of what is read; else 1


def test_sound_of_each_kind_is_the_word_or_named(cases: ModuleType) -> None:
    cases.sound()
    assert json.loads((cases.OUT / "sound/expected.json").read_text()).keys() == SOUND.keys()
    words = [cases.read(row) for row in cases.rows("computer", "wake_words", 12, 3)]
    for case, outcome in SOUND.items():
        files = sorted((cases.OUT / "sound" / case).iterdir())
        assert len(files) == 12
        for file, word in zip(files, words, strict=True):
            if isinstance(outcome, str):
                with pytest.raises(BadAudio, match=outcome):
                    load(file)
                continue
            faults = set[Fault]()
            x = load(file, RATE, faults)
            assert faults - {Fault.clipped, Fault.quiet} == outcome - {Fault.quiet}, (case, file.name)
            assert outcome - faults <= set(), (case, file.name)
            scale = float(x @ word / (word @ word))
            assert scale == pytest.approx(LEVEL.get(case, 1.0), rel=0.03), (case, file.name)
            assert np.corrcoef(x, word)[0, 1] > 0.97, (case, file.name)


# ---- long recordings


def test_talk_is_mined_the_same_however_it_is_cut(cases: ModuleType, cli) -> None:
    """As `long`, with 60 recordings in place of 400."""
    talk = [np.append(cases.read(row), np.zeros(RATE // 3)) for row in cases.rows("speech", "speech/ocean762", 60, 5)]
    shape = {"channels": 8, "kernel": 5, "dilations": [1, 2], "stride": 2}
    spec = ModelSpec(LABELS, RATE, 40, 0.025, 0.01, 60.0, "ds_tcn", shape, 5, 2 * RATE)
    write_model(cases.OUT / "model.pt", spec, random_net().state_dict(), [0.5, 0.5], {})
    found = {}
    for n in (1, 4, 60):
        folder = cases.OUT / "long" / str(n)
        for i in range(n):
            cases.write(folder / f"{i:03d}.wav", np.concatenate(talk[i * 60 // n : (i + 1) * 60 // n]))
        words = (f"checkpoint={cases.OUT}/model.pt", f"buffer={cases.OUT}/{n}", f"streams={folder}", "min_score=0")
        said = cli("mine", *words, "duplicate_overlap=2", "duplicate_cosine=2", "threads=1")
        assert said.code == 0, said.err
        with Buffer(cases.OUT / str(n)) as buffer:
            found[n] = len(buffer.rows(None))
    assert found[1] == pytest.approx(found[60], rel=0.1), found
    assert found[4] == pytest.approx(found[60], rel=0.1), found


# ---- noise


@pytest.mark.parametrize("seconds", ["5.0", "1.0", "0.3"])
def test_noise_of_any_length_lies_beneath_the_whole_keyword(cases: ModuleType, seconds: str) -> None:
    cases.noise()
    clip_n = 2 * RATE
    word = cases.read(cases.rows("computer", "wake_words", 1)[0])
    hiss = [to_int16(load(file)) for file in sorted((cases.OUT / "noise" / seconds).iterdir())]
    start, end = keyword_bounds(word, RATE, LONGEST_S)
    bank = ClipBank.of([to_int16(word), *(repeated(x, clip_n, RATE) for x in hiss)], 2 * clip_n)
    keywords = Keywords(*(torch.tensor([x]) for x in (0, 0, start, end, True)))
    sounds = []
    for noise_p in (0.0, 1.0):
        augment = AugmentConfig(noise_p=noise_p, speed_p=0.0, level_db=[-20.0, -20.0], colour_db=0.0)
        noises = list(range(1, len(hiss) + 1))
        made = BatchSampler(bank, keywords, [0], noises, torch.eye(1), clip_n, BatchConfig(), augment, RATE, 0.01)
        plan = made.sample(40, 0, None, torch.zeros(0), torch.Generator().manual_seed(0))
        sounds.append(made.render(plan, None))
    clean, noisy = sounds
    assert int((noisy.noise >= 0).sum()) == 40
    beneath = 0
    for i in range(40):
        span = slice(int(noisy.start[i]), int(noisy.end[i]))
        a, b = clean.pcm[i, span], noisy.pcm[i, span]
        noise = b - (a @ b) / (a @ a) * a  # a mix may have another level
        beneath += all(part.std() > 0.01 * b.std() for part in noise.tensor_split(4))
    assert beneath >= 24, "of 40; some noise has silent parts itself"


# ---- one person's recordings


def test_forty_recordings_of_one_person_are_divided_so_that_they_train(cases: ModuleType) -> None:
    cases.people()
    config = DataConfig(root=str(cases.OUT / "people"), cache=str(cases.OUT / "cache"))
    store, division = builders.read_store(config, Console(quiet=True), recordings(config), ["computer"])
    chosen = select(store.entries, ["computer"], "noise", 0.2)
    assert division.by["computer"] == "file"
    counts = [len(chosen.positives[split][0]) for split in Split]
    assert sum(counts) == 40
    assert min(counts) >= 3
    assert all(chosen.speech[split] and chosen.noise[split] for split in Split)
    speakers = {split: {store.entries[i].recording.speaker for i in chosen.speech[split]} for split in Split}
    assert not speakers[Split.TRAIN] & speakers[Split.TEST]


# ---- names


def test_labels_and_folders_of_any_name_are_taken_literally(cases: ModuleType) -> None:
    cases.names()
    folder, lines = cases.OUT / "names", list[str]()
    entries = [Entry(one, one.name, 0, RATE) for one in manifest.read(folder, say=lines.append)]
    labels = {path.name for path in folder.iterdir()}
    assert {one.recording.label for one in entries} == labels
    assert len(labels) == 15
    assert not lines
    for keyword in labels - {"(1)"}:  # which is not spoken otherwise than the end of hash#1
        chosen = assign_roles(entries, [keyword], "noise", 0.0)
        assert sum(len(chosen.positives[split][0]) for split in Split) == 6, keyword
        assert sum(len(chosen.speech[split]) for split in Split) == 84, "no label is a transcript"
    wanted = {f"data.root={folder / label}": str(folder / label) for label in labels}
    wanted |= {f"keyword={label}": label for label in labels - {"[x]"}}  # a list of one word
    read = OverridesParser.create().parse_overrides(literal(wanted, list(settings_of(TrainConfig))))
    assert [one.value() for one in read] == list(wanted.values())
