from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from kws.commands import builders
from kws.commands.speech import SyntheticClips
from kws.commands.training_run import holding_out
from kws.common.errors import KwsError, LeakError
from kws.config.app import composed
from kws.config.compose import folder, register, settings
from kws.config.schema import TrainConfig
from kws.data.audio import content_hash, save_flac
from kws.data.audio_cache import AudioCache, Entry, pack
from kws.data.batch import IGNORED
from kws.data.dataset import DataConfig, extra_recordings, select
from kws.data.manifest import Recording, Split, read
from kws.data.positives import with_locations
from kws.replay.buffer import Buffer
from kws.replay.importing import SYNTHETIC, read_recordings
from kws.replay.records import Kind


def test_noise_shorter_than_a_clip_lies_beneath_all_of_it(tmp_path: Path) -> None:
    register("train")
    with initialize_config_dir(version_base="1.3", config_dir=str(folder("conf"))):
        s = settings(compose("train", ["keyword=yes", f"data.root={tmp_path}", "out=x"]), TrainConfig)
    rng, rows = np.random.default_rng(0), ["path,label,part"]
    for label, n in (("yes", 16000), ("no", 16000), ("noise", 4800)):
        save_flac(tmp_path / f"{label}.flac", rng.integers(-9000, 9000, n).astype(np.int16), 16000)
        rows.append(f"{label}.flac,{label},train")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    packed = pack(read(tmp_path), tmp_path / "cache")
    chosen = with_locations(packed, select(packed.entries, ["yes"], "noise", 0.0, needed=()), dict.fromkeys(Split, 1.2))
    made, _ = builders.batch_sampler(s, packed, chosen, 32000, torch.device("cpu"))
    plan = made.sample(20, 40, None, torch.zeros(0, dtype=torch.long), torch.Generator().manual_seed(0))
    assert plan.noise is not None
    assert plan.noise.offset.amax() > 2000, "it begins anywhere"
    beneath = made.bank.window(plan.noise.index, plan.noise.offset, 32000)
    assert beneath.reshape(60, -1, 400).std(2).amin() > 0.1


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100])
@pytest.mark.parametrize("model", ["ds_tcn_2d", "bc_resnet_causal_1"])
def test_a_clip_is_a_whole_number_of_rows_at_any_sample_rate(rate: int, model: str) -> None:
    """Else a mined clip begins between two rows, and does not give the score for which it was mined."""
    words = ["keyword=yes", "data.root=x", f"data.sample_rate={rate}", f"model={model}", "batch.clip_s=4"]
    spec = builders.model_spec(settings(composed("train", words), TrainConfig), ["yes"])
    block_n = spec.detector(spec.net().state_dict()).block_n
    assert spec.clip_n % block_n == 0
    assert spec.clip_n / rate == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("through", ["folder", "link"])
def test_synthetic_clips_are_not_real_speech_even_through_a_link(tmp_path: Path, through: str) -> None:
    register("train")
    with initialize_config_dir(version_base="1.3", config_dir=str(folder("conf"))):
        s = settings(compose("train", ["keyword=yes", f"data.root={tmp_path}", "out=x"]), TrainConfig)
    rng, found = np.random.default_rng(0), []
    for place, labels in (("real", ("yes", "no")), ("synthetic", ("yes",))):
        root, rows = tmp_path / place, ["path,label,part"]
        root.mkdir()
        for label in labels:
            save_flac(root / f"{label}.flac", rng.integers(-9000, 9000, 16000).astype(np.int16), 16000)
            rows.append(f"{label}.flac,{label},train")
        (root / "manifest.csv").write_text("\n".join(rows))
        found += read(root)
    (tmp_path / "link").symlink_to(tmp_path / "synthetic", target_is_directory=True)
    packed = pack(found, tmp_path / "cache")
    chosen = with_locations(packed, select(packed.entries, ["yes"], "noise", 0.0, needed=()), dict.fromkeys(Split, 1.2))
    synthetic = SyntheticClips(speech=tmp_path / ("link" if through == "link" else "synthetic")).folders()
    made, entries = builders.batch_sampler(s, packed, chosen, 32000, torch.device("cpu"), synthetic)
    real = dict(zip([entries[i] for i in made.keywords.index.tolist()], made.keywords.real.tolist(), strict=True))
    assert {packed.entries[i].recording.path.parent.name: flag for i, flag in real.items()} == {
        "real": True,
        "synthetic": False,
    }


def test_clips_of_a_longer_keyword_do_not_train_against_one_that_it_contains() -> None:
    made = builders.targets(["computer", "hey computer", "alexa"])
    assert made.tolist() == [[1, 0, 0], [IGNORED, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("kind", [Kind.user, Kind.confusable])
def test_an_imported_recording_that_holds_a_test_recording_is_refused(tmp_path: Path, kind: Kind) -> None:
    pcm = np.random.default_rng(0).integers(-9000, 9000, 16000).astype(np.int16)
    store = AudioCache(16000, [entry("t.flac", Split.TEST, pcm)], {}, [], pcm)
    (tmp_path / "clips").mkdir()
    save_flac(tmp_path / "clips/a.flac", np.concatenate([np.zeros(500, np.int16), pcm]), 16000)
    clips, _, _ = read_recordings(tmp_path / "clips", kind, "yes", "", 16000)
    with Buffer(tmp_path / "own", None, 16000) as buffer:
        buffer.add(clips)
        with pytest.raises(LeakError, match=r"the test recording t\.flac is audible in clip"):
            holding_out(buffer, store)
    with Buffer(tmp_path / "made", None, 16000) as buffer:
        buffer.add([replace(one, kind=Kind.confusable, run=SYNTHETIC) for one in clips])
        assert holding_out(buffer, store) is buffer, "synthetic speech holds no recording"


def entry(name: str, split: Split, pcm: np.ndarray, speaker: str = "") -> Entry:
    return Entry(Recording(Path(name), name, "yes", split, speaker), content_hash(pcm), 0, len(pcm))


def test_speakers_of_more_recordings_that_are_held_out_are_named() -> None:
    pcm = np.zeros(9, np.int16)
    own = [entry("a", Split.TEST, pcm, "ann"), entry("b", Split.TRAIN, pcm, "bob"), entry("c", Split.VALIDATION, pcm)]
    more = [entry(f"{who}x", Split.TRAIN, pcm, who) for who in ("bob", "", "eve")]
    assert builders.known_voices(own, more) == []
    (line,) = builders.known_voices(own, [*more, entry("y", Split.TRAIN, pcm, "ann")])
    assert line.startswith("1 of 3 speakers of data.extra are in validation or test too")
    assert line.endswith(": ann")


def test_errors_of_more_recordings_name_their_setting_and_outside_paths_are_allowed_alike(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"^data\.extra=.*no such folder"):
        extra_recordings(str(tmp_path / "none"), DataConfig())
    extra = tmp_path / "extra"
    extra.mkdir()
    save_flac(tmp_path / "out.flac", np.ones(9, np.int16), 16000)
    (extra / "manifest.csv").write_text(f"path,label\n{tmp_path}/out.flac,yes\n")
    with pytest.raises(KwsError, match=r"must be .*data\.extra"):
        extra_recordings(str(extra), DataConfig())
    (one,) = extra_recordings(str(extra), DataConfig(allow_outside=True))
    assert one.split is Split.TRAIN
