"""kws models: the models, with their weights, operations and context."""

from hydra import compose
from hydra.core.hydra_config import HydraConfig

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.config.app import verb
from kws.config.compose import of_plugins, settings
from kws.config.groups import option_names
from kws.config.schema import ModelsConfig
from kws.data.features import FeaturesConfig
from kws.models.base import ModelConfig, family_of, shape_of
from kws.models.registry import make
from kws.models.summary import measure, weights

CLASSES = 12  # of Speech Commands, for which most weights are published
HEADER = ("model", "weights", "of 12", "mult-adds/s", "rows/s", "context, s", "delay, ms", "streams from", "source")
LEGEND = f"""weights: with one keyword, and with {CLASSES} score columns
mult-adds/s: millions per second of audio
context: audio before a score that it depends on, without smoothing (model.smooth_s)
delay: longest time from audio to the score of its row
streams from: cache: each frame is computed once; windows: each row costs a whole window. Both give exact scores"""


def run(s: ModelsConfig) -> None:
    """Print a row for each model, or for the chosen one."""
    console = Console()
    given = list(HydraConfig.get().overrides.task)
    if s.model is not None:
        chosen = {str(HydraConfig.get().runtime.choices["model"]): s.model}
    else:
        chosen = {}
        for name in option_names("model", of_plugins()):
            try:
                chosen[name] = model_of(name, given)
            except KwsError as error:  # this model cannot use the front end
                console.warn(f"{name} is left out: {error}")
    rows = [row(name, model, s.features) for name, model in chosen.items()]
    rows.sort(key=lambda one: (*reversed(one[-2:]), float(one[3])))
    if not console.lines(HEADER, rows, cut=2, from_left=len(HEADER) - 1):  # in a narrow terminal
        for column in (-2, -1):
            for value in dict.fromkeys(one[column] for one in rows):
                console.say(f"{HEADER[column]} {value}: {', '.join(one[0] for one in rows if one[column] == value)}")
    for line in LEGEND.splitlines():
        console.say(line)


def model_of(name: str, given: list[str]) -> ModelConfig:
    """Settings of a model of conf/model, with the overrides of the command line."""
    model = settings(compose("models", [f"model={name}", *given]), ModelsConfig).model
    assert model is not None
    return model


def row(name: str, model: ModelConfig, f: FeaturesConfig) -> list[str]:
    """Cells of the row of a model."""
    family, shape = family_of(model), shape_of(model)
    one, several = (make(family, f.n_mels, n, shape, *f.layer()) for n in (1, CLASSES))
    found = measure(one, f.window_s, f.hop_s)
    return [
        name,
        f"{found.weights:,}",
        f"{weights(several):,}",
        f"{found.macs_per_s / 1e6:.2f}",
        f"{found.rows_per_s:g}",
        f"{found.context_s:.3f}",
        f"{1000 * found.row_s:g}",
        one.streams_from,
        one.source,
    ]


main = verb("models", run)
