"""Training with each front end: learning, streaming, export, resume, and scores of mined clips."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kws.commands.builders import model_spec
from kws.common.errors import KwsError
from kws.config.app import composed
from kws.config.compose import settings
from kws.config.schema import TrainConfig
from kws.data.features import LogMel
from kws.detector import checkpoint, streaming
from kws.detector.torchscript import load_exported
from kws.models.registry import make
from kws.replay.buffer import Buffer
from kws.runtime import OnnxDetector
from kws.training.classification import ClassificationTask
from kws.training.optim import OptimConfig
from kws.training.wake_word import WakeWordTask
from tests.kill import death
from tests.nets import sound

FRONT_ENDS = {
    "pcen": ["features=pcen", "features.trainable=true"],
    "log_mel_pcen": ["features=log_mel_pcen", "model.stem_2d=[2,4]"],  # an ensemble, with fixed PCEN
    "mfcc": ["features=mfcc"],
}


@pytest.fixture(scope="module", params=FRONT_ENDS)
def trained(cli, tiny, request, tmp_path_factory) -> tuple[list[str], Path]:
    """Settings and folder of a tiny run with a front end."""
    words, out = [*tiny, *FRONT_ENDS[request.param]], tmp_path_factory.mktemp("runs") / request.param
    said = cli("train", *words, f"out={out}")
    assert said.code == 0, said.err
    return words, out


def weights(out: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = checkpoint.read(out / "model.pt")["model"]
    return found


def test_the_checkpoint_holds_trained_front_end_weights_alone(trained):
    words, out = trained
    layer = {name: value for name, value in weights(out).items() if "layer." in name}
    if words[-1] != "features.trainable=true":
        assert not layer
        return
    assert set(layer) == {"layer.log_alpha", "layer.log_delta", "layer.log_r"}
    for value, start in zip(layer.values(), (0.98, 2.0, 0.5), strict=True):
        moved = (value - torch.tensor(start).log()).abs()
        assert (moved > 1e-4).sum() > 35, "nearly every band has moved"


def test_checkpoint_and_exported_file_score_the_same(trained):
    _, out = trained
    model, pcm = checkpoint.read_model(out / "model.pt"), sound(32000)
    exported = load_exported(out / "detector.pt")
    rows = model.detector(pcm)
    assert rows.std() > 1e-4
    torch.testing.assert_close(torch.cat([exported(p) for p in torch.split(pcm, 1280)]), rows, rtol=0, atol=1e-5)


def test_mined_clips_score_from_silence_as_in_their_stream(trained):
    _, out = trained
    with Buffer(out / "buffer") as buffer:
        found = buffer.rows()
        assert found
        for row in found:
            model = checkpoint.read_model(out / f"checkpoints/round-{row.round}.pt")
            detector, pcm = model.detector, buffer.audio(row.hash)
            post_n = min(round(0.2 * 16000), len(pcm) - detector.reach_n) // detector.block_n
            at = len(pcm) // detector.block_n - post_n - 1
            score = streaming.score_pcm(detector, pcm, 16000)[at, 0]
            assert score == pytest.approx(row.score, abs=1e-5)


@pytest.mark.parametrize("trained", ["pcen"], indirect=True)  # the front end with trained weights
def test_a_killed_run_resumes_to_the_same_weights(cli, trained, tmp_path):
    words, out = trained
    with death(WakeWordTask, "validate", 13, False):  # after a checkpoint and a round
        cli("train", *words, f"out={tmp_path}/killed")
    said = cli("train", *words, f"out={tmp_path}/killed")
    assert said.code == 0, said.err
    want, got = weights(out), weights(tmp_path / "killed")
    assert want.keys() == got.keys()
    assert all(torch.equal(want[name], got[name]) for name in want)


@pytest.mark.parametrize("trained", ["log_mel_pcen"], indirect=True)  # two nets, as recipe=wake_word trains them
def test_an_ensemble_is_hardened_and_exported_at_int8(cli, trained, tmp_path, monkeypatch):
    words, out = trained
    monkeypatch.setenv("KWS_CACHE", str(tmp_path / "cache"))
    kept = [word for word in words if not word.startswith(("model.", "features", "batch.clip_s"))]
    few = "optim.steps=3", "mining.rounds=0", "mining.pool_share=0", "replay.schedule=constant"
    said = cli("train", *kept, *few, f"init={out}/model.pt", f"replay.buffer={out}/buffer", f"out={tmp_path}/hard")
    assert said.code == 0, said.err
    assert "Before (a) and after (b)" in said.out
    old, new = weights(out), weights(tmp_path / "hard")
    assert old.keys() == new.keys()
    for member in ("nets.0.", "nets.1.body."):
        name = f"{member}blocks.0.pointwise.weight"
        assert 0 < (new[name] - old[name]).abs().max() < 0.1, "each member goes on from its weights"
    given = "export", f"checkpoint={tmp_path}/hard/model.pt", f"out={tmp_path}/d", "format=onnx", "quantize=int8"
    said = cli(*given, "quantize_max_loss=1")
    assert said.code == 0, said.err
    runner, pcm = OnnxDetector(tmp_path / "d.onnx"), sound(100 * 320)
    exact = checkpoint.read_model(tmp_path / "hard" / "model.pt").detector(pcm).numpy()
    assert 0 < np.abs(runner(pcm.numpy()) - exact).max() < 0.2


def test_a_receptive_field_longer_than_a_clip_is_refused(cli, tiny, tmp_path):
    said = cli("train", *tiny, "features=pcen", "features.memory_s=1", f"out={tmp_path}/x")
    assert said.code == 2
    assert said.err.startswith("kws: batch.clip_s=1.4: must be at least ")
    assert not (tmp_path / "x").exists()


def test_classes_are_learned_by_each_member_of_an_ensemble():
    shape = {"memory_n": 30, "keep": 0.97, "alpha": 0.98, "delta": 2.0, "r": 0.5, "trainable": False}
    net = make("ds_tcn", 40, 3, {"channels": 8, "dilations": (1, 2)}, "log_mel_pcen", shape).train()
    x, target = torch.randn(4, 40, 100), torch.tensor([0, 1, 2, 1])
    task = ClassificationTask(LogMel(), None, 0.0, None, 1, None)
    with torch.no_grad():
        loss, losses = task.loss(net.last_logits, (x, target))
        logits = net.last_logits(x)
    want = [torch.nn.functional.cross_entropy(one, target) for one in (logits[:4], logits[4:])]
    assert float(loss) == pytest.approx(float(sum(want)) / 2, abs=1e-5)
    right = ((logits[:4] + logits[4:]).argmax(1) == target).float()
    assert losses.shape == (4, 2)
    assert torch.equal(losses[:, 1], right)


def test_a_wake_word_has_the_mean_loss_of_the_members_of_an_ensemble():
    logits = 3 * torch.randn(2, 4, 1, 50)  # members, clips, columns, rows
    audio = SimpleNamespace(
        target=torch.tensor([[1.0], [1], [0], [0]]),
        start=torch.tensor([20, 25, 0, 0]) * 320,
        end=torch.tensor([35, 40, 0, 0]) * 320,
    )
    batch = SimpleNamespace(x=torch.zeros(4, 40, 100), audio=audio, rows=torch.arange(4), weight=torch.ones(4))
    task = SimpleNamespace(
        config=SimpleNamespace(optim=OptimConfig()),
        spec=SimpleNamespace(hop_s=0.01, smooth_n=5, smooth_k=0),
        net=SimpleNamespace(stride=2, initial_cache=lambda n: []),
        front_end=SimpleNamespace(hop_n=160),
    )
    whole, rows = WakeWordTask.loss(task, lambda x, cache: (logits.flatten(0, 1), cache), batch)
    first, second = (WakeWordTask.loss(task, lambda x, cache, one=one: (one, cache), batch) for one in logits)
    assert float(whole) == pytest.approx((float(first[0]) + float(second[0])) / 2)
    torch.testing.assert_close(rows[:, :2], (first[1] + second[1])[:, :2] / 2)  # objective and gradient of each clip
    assert len(rows) == 4


def test_the_refusal_names_the_shortest_clip_that_works():
    def spec(clip_s):
        words = ["recipe=wake_word", "keyword=x", "data.root=.", "model=ds_tcn_100k", f"batch.clip_s={clip_s}"]
        return model_spec(settings(composed("train", words), TrainConfig), ["x"])

    with pytest.raises(KwsError, match=r"^batch.clip_s=2.11: must be at least 2.12, the receptive field of"):
        spec(2.11)  # as many rows as 2.1 s
    assert spec(2.12).clip_n == 106 * 320
