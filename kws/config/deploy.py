"""Settings of the commands for a finished detector: kws export, kws listen, kws review and kws serve."""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Annotated, Any

from omegaconf import MISSING
from pydantic import Field

from kws.common.settings import INPUT, OUTPUT, PATH
from kws.config.shared import Plugins, SmoothK, SmoothS, Threads


class Quantize(StrEnum):
    """Quantisation of an exported file."""

    int8 = auto()


@dataclass
class ExportConfig:
    """kws export: write a checkpoint as TorchScript, ONNX or PT2: one file with front end, model and thresholds."""

    checkpoint: Annotated[str, INPUT, Field(description="model.pt of a run")] = MISSING
    out: Annotated[str, OUTPUT, Field(description="file to write; with several formats each gets its suffix")] = MISSING
    format: Annotated[
        Any, Field(description="torchscript, onnx (extra kws[onnx]) or pt2, or a list; null: by the suffix of out")
    ] = None
    quantize: Annotated[
        Quantize | None, Field(description="int8: smaller ONNX file, measured on the validation streams of the run")
    ] = None
    quantize_max_loss: Annotated[
        float,
        Field(ge=0, le=1, description="share of the keywords that int8 may miss more; beyond, no file is written"),
    ] = 0.03
    data_root: Annotated[
        str | None,
        INPUT,
        Field(description="recordings of the run for quantize, where they moved; null: as in the run"),
    ] = None
    thresholds: Annotated[Any, Field(description="one a keyword; null: the calibrated ones")] = None
    smooth_s: SmoothS = None
    smooth_k: SmoothK = None
    force: Annotated[bool, Field(description="overwrite")] = False
    plugins: Plugins = field(default_factory=list)


@dataclass
class ListenConfig:
    """kws listen: detect keywords live, from a microphone, a pipe or a file."""

    detector: Annotated[
        Any, INPUT, Field(description="exported detector or model.pt, one or a list; all score the same stream")
    ] = MISSING
    input: Annotated[
        str | None, PATH, Field(description="recording, or - for standard input (WAV or raw 16 bit); null: microphone")
    ] = None
    device: Annotated[
        Any, Field(description="microphone: number or part of its name; list: show them; null: the default one")
    ] = None
    chunk_s: Annotated[float, Field(ge=0.01, le=1, description="chunk, s; a trigger comes at its end")] = 0.08
    refractory_s: Annotated[float, Field(ge=0, le=60, description="time without triggers after a trigger, s")] = 1.0
    json: Annotated[bool, Field(description="print a JSON object a line")] = False
    bar: Annotated[bool, Field(description="show the highest score live, where standard error is a terminal")] = True
    save: Annotated[
        str | None, OUTPUT, Field(description="folder for the audio of each trigger: FLAC, and a JSON file beside it")
    ] = None
    near: Annotated[
        float | None, Field(ge=0, le=1, description="score from which a near miss is printed and saved too; null: none")
    ] = None
    threads: Threads = 1


@dataclass
class ReviewConfig:
    """kws review: mark what kws listen kept as keyword or false alarm, and sort it for training."""

    dir: Annotated[str, INPUT, Field(description="folder of kws listen save=; or in short kws review DIR")] = MISSING
    decisions: Annotated[
        str | None, INPUT, Field(description="the file saved by the page; the clips are sorted by it")
    ] = None
    out: Annotated[
        str | None,
        OUTPUT,
        Field(
            description="folder for the sorted clips, with decisions: keywords for data.extra, buffer for replay.buffer"
        ),
    ] = None
    limit: Annotated[
        int | None, Field(ge=1, le=10**5, description="clips on the page, the highest scores; null: all")
    ] = 200


@dataclass
class ServeConfig:
    """kws serve: wake words for Home Assistant, over the Wyoming protocol."""

    detectors: Annotated[Any, INPUT, Field(description="exported detectors or model.pt, one or a list")] = MISSING
    uri: Annotated[str, Field(description="address: tcp://HOST:PORT or unix://PATH")] = "tcp://0.0.0.0:10400"
    threads: Threads = 1
