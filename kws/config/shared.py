"""Settings that several commands have."""

from typing import Annotated

from pydantic import Field

Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="seed of all random numbers")]
Threads = Annotated[int, Field(ge=0, le=1024, description="CPU threads; 0: OMP_NUM_THREADS, else the number of cores")]
Plugins = Annotated[
    list[str], Field(description="modules with models and so on of your own, see docs/extending.md; command line only")
]
SmoothS = Annotated[
    float | None, Field(ge=0, le=1, description="seconds over which scores are smoothed; null: as trained")
]
SmoothK = Annotated[
    int | None, Field(ge=0, le=100, description="rows in smooth_s that must reach the threshold; null: as trained")
]
