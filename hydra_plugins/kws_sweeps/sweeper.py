"""The sweeper of kws: Hydra's basic sweeper, but failed runs do not end the sweep. It exits with an error then."""

from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore


@dataclass
class KwsSweeperConf(BasicSweeperConf):
    _target_: str = "hydra_plugins.kws_sweeps.sweeper.KwsSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="kws", node=KwsSweeperConf, provider="kws")


class KwsSweeper(BasicSweeper):
    """All combinations of the lists, as Hydra's basic sweeper."""

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """The runs to launch. joblib divides the cores by its jobs, so there are no more jobs than runs."""
        batch = super().get_job_batch()
        if (parallel := getattr(self.launcher, "joblib", None)) is not None:
            from joblib import effective_n_jobs

            from kws.common.errors import KwsError

            if not (n_jobs := parallel["n_jobs"]):
                raise KwsError("hydra.launcher.n_jobs=0: must be 1 or more, or -1 for the number of cores")
            parallel["n_jobs"] = max(1, min(effective_n_jobs(n_jobs), len(batch)))
        return batch

    def sweep(self, arguments: list[str]) -> Any:
        """Run all; raises KwsError at the end if some failed."""
        from kws.common.errors import KwsError
        from kws.config.sweep import RunEnd

        try:
            returns = super().sweep(arguments)
        except BrokenProcessPool:
            raise KwsError(
                "a process of the sweep was killed, possibly out of memory, and the others with it; the same command "
                "resumes the unfinished runs, and a smaller hydra.launcher.n_jobs needs less memory"
            ) from None
        ends = [job.return_value for batch in returns for job in batch if isinstance(job.return_value, RunEnd)]
        if failed := [end.name for end in ends if end.failed]:
            raise KwsError(f"{len(failed)} of {len(ends)} runs failed, see above: {', '.join(failed)}")
        return returns
