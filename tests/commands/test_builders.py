from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from kws.commands import builders
from kws.config.compose import folder, register, settings
from kws.config.schema import TrainConfig
from kws.data.audio import save_flac
from kws.data.audio_cache import pack
from kws.data.batch import IGNORED
from kws.data.dataset import select
from kws.data.manifest import Split, read
from kws.data.positives import with_locations


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
    synthetic = tmp_path / ("link" if through == "link" else "synthetic")
    made, entries = builders.batch_sampler(s, packed, chosen, 32000, torch.device("cpu"), synthetic)
    real = dict(zip([entries[i] for i in made.keywords.index.tolist()], made.keywords.real.tolist(), strict=True))
    assert {packed.entries[i].recording.path.parent.name: flag for i, flag in real.items()} == {
        "real": True,
        "synthetic": False,
    }


def test_clips_of_a_longer_keyword_do_not_train_against_one_that_it_contains() -> None:
    made = builders.targets(["computer", "hey computer", "alexa"])
    assert made.tolist() == [[1, 0, 0], [IGNORED, 1, 0], [0, 0, 1]]
