"""hydra/launcher=ray: the runs of a sweep on a Ray cluster, or on this machine (extra `kws[ray]`)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

log = logging.getLogger(__name__)


@dataclass
class RayLauncherConf:
    _target_: str = "hydra_plugins.kws_sweeps.ray_launcher.RayLauncher"
    num_cpus: float = 1  # cores of a run, and its threads where threads=0
    num_gpus: float = 0  # GPUs of a run; 0.5: two runs share one


ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayLauncherConf, provider="kws")


class RayLauncher(Launcher):
    """Runs as many runs at a time as the cluster has resources for."""

    def __init__(self, num_cpus: float, num_gpus: float) -> None:
        self.num_cpus, self.num_gpus = num_cpus, num_gpus

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the arguments of Hydra for `launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run all; return their results in order."""
        from hydra_plugins.kws_sweeps._ray import launch

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        log.info(f"Launching {len(job_overrides)} jobs on Ray, {self.num_cpus:g} cores each")
        for i, overrides in enumerate(job_overrides, start=initial_job_idx):
            log.info(f"\t#{i} : {' '.join(filter_overrides(overrides))}")
        jobs: list[tuple[Any, ...]] = [
            (i, list(overrides), self.hydra_context, self.config, self.task_function)
            for i, overrides in enumerate(job_overrides, start=initial_job_idx)
        ]
        return launch(jobs, self.num_cpus, self.num_gpus)
