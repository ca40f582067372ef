"""A buffer that a run takes over from others."""

import shutil
from pathlib import Path

from kws.replay.buffer import Buffer
from kws.training.trainer import Trainer
from tests.kill import all_steps, death


def test_a_buffer_beyond_the_limits_of_a_run_is_cut_before_its_first_step(cli, tiny, run, tmp_path):
    """Else a killed run would resume with fewer clips than it began with."""
    words, found = (*tiny, "replay.capacity=6", "optim.save_every=2"), []
    for name, kill in (("whole", False), ("killed", True)):
        buffer = Path(shutil.copytree(run / "buffer", tmp_path / f"{name}-buffer"))
        with Buffer(buffer) as before:
            assert len(before.rows()) == 10
        given = (*words, f"replay.buffer={buffer}", f"out={tmp_path / name}")
        if kill:
            with death(Trainer, "save", 1, False):
                cli("train", *given)
        with all_steps():
            cli("train", *given)
        with Buffer(buffer) as after:
            found.append([(row.hash, row.state, row.times_drawn) for row in after.rows(None)])
    assert (tmp_path / "whole/metrics.csv").read_text() == (tmp_path / "killed/metrics.csv").read_text()
    assert found[0] == found[1]
