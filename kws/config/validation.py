"""Checks of settings: the range of every number, and rules between settings."""

import re
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from kws.common.errors import KwsError
from kws.common.settings import SettingError, Text, number
from kws.config.declared import bounds, marks
from kws.config.schema import Task, TrainConfig
from kws.data.names import same_word
from kws.replay.schedule import Schedule
from kws.training.optim import Average


def check(config: Any, prefix: str = "") -> None:
    """Check a dataclass of settings and those nested in it: types and ranges, then each `check` method.

    Raises:
        KwsError: the message names the full key, the value and the rule; or a key that +key=value added.
    """
    known = [item.name for item in fields(config)]
    if extra := [name for name in vars(config) if name not in known]:
        raise KwsError(f"{prefix}{extra[0]}: no such setting; settings {', '.join(sorted(known))}")
    kind: type = type(config)
    hints = get_type_hints(kind, include_extras=True)
    for item in fields(config):
        value, key = getattr(config, item.name), prefix + item.name
        if is_dataclass(value):
            check(value, f"{key}.")
        elif value == "" and {Text.path, Text.input, Text.output} & set(marks(hints[item.name])):
            raise SettingError(key, value, "must be a path")
    try:
        adapter(kind).validate_python({item.name: getattr(config, item.name) for item in fields(config)})
        for base in reversed(kind.__mro__):  # flat groups are composed of several dataclasses
            if "check" in vars(base):
                base.check(config)  # type: ignore[attr-defined]
    except SettingError as error:
        raise SettingError(prefix + error.key, error.value, error.rule) from None
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise SettingError(prefix + name, getattr(config, name), rule(kind, name, first)) from None
    if isinstance(config, TrainConfig):
        check_train(config)


@cache
def adapter(kind: type) -> TypeAdapter[Any]:
    """The pydantic validator of a dataclass; infinite numbers and NaN are refused."""
    kind.__pydantic_config__ = ConfigDict(allow_inf_nan=False)  # type: ignore[attr-defined]
    return TypeAdapter(kind)


def rule(kind: type, name: str, error: ErrorDetails) -> str:
    """The rule that a value violates, for an error of pydantic."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    low, high = bounds(get_type_hints(kind, include_extras=True)[name]) or (None, None)
    if low is not None and high is not None and error["type"] not in ("too_short", "too_long"):
        return f"must be between {number(low)} and {number(high)}"
    return re.sub(r"^\w+ should", "must", error["msg"]).partition(" after validation")[0]


def check_train(c: TrainConfig) -> None:
    """Rules between groups of settings of a training run."""
    if c.threshold.at_fa_per_hour is None:
        raise KwsError("threshold.at_fa_per_hour=null: must be a rate; only kws evaluate can keep thresholds")
    if not c.threshold.at_fa_per_hour:
        rule = "must be above 0: no stream is long enough to show 0/h, and results are given at 0/h anyway"
        raise SettingError("threshold.at_fa_per_hour", c.threshold.at_fa_per_hour, rule)
    if c.optim.epochs is None and c.optim.warmup > c.optim.steps:
        rule = f"must be at most optim.steps={c.optim.steps}, else the learning rate never reaches optim.lr"
        raise SettingError("optim.warmup", c.optim.warmup, rule)
    words = c.keyword if isinstance(c.keyword, list) else [c.keyword]
    if any(isinstance(word, str) and same_word(word, c.data.noise_label) for word in words):
        rule = f"must not be the label of background noise, data.noise_label={c.data.noise_label}"
        raise SettingError("keyword", c.keyword, rule)
    if c.precision not in ("32-true", "bf16-mixed"):
        raise SettingError("precision", c.precision, "must be 32-true or bf16-mixed")
    c.model.check_rows(c.features.n_rows())
    if c.task is Task.classification:
        check_classification(c)
        return
    if c.optim.epochs is not None:
        raise KwsError(f"optim.epochs={c.optim.epochs:g}: must be left out unless task=classification")
    keyword_s = c.batch.max_keyword_s + c.batch.keyword_end_s[1]
    if keyword_s > c.batch.clip_s:
        rule = f"must be at least batch.max_keyword_s + batch.keyword_end_s[1] = {keyword_s:g}"
        raise SettingError("batch.clip_s", c.batch.clip_s, rule)
    row_s, every = c.features.hop_s * c.model.stride, getattr(c.model, "train_every", 1)
    rows_n = round(c.optim.peak_early_s / row_s) + round(c.optim.peak_late_s / row_s) + 1
    if every > rows_n:  # training then scores none of the rows in which a keyword must be scored
        rule = f"must be at most {rows_n}, the rows of optim.peak_early_s and optim.peak_late_s"
        raise SettingError("model.train_every", every, rule)
    if c.augment.mel_masks * c.augment.mel_mask_n >= c.features.n_mels:
        rule = f"must hide, times mel_masks, fewer than features.n_mels={c.features.n_mels} bands"
        raise SettingError("augment.mel_mask_n", c.augment.mel_mask_n, rule)
    if c.batch.real_share and not c.data.root:
        raise KwsError(
            f"batch.real_share={c.batch.real_share:g}: there are no real recordings: data.root=DIR must be given, or "
            "recipe=from_text, which needs none"
        )
    check_phones(c)
    check_average(c)
    check_replay(c)
    if c.mining.post_s >= c.batch.clip_s:
        raise SettingError("mining.post_s", c.mining.post_s, f"must be less than batch.clip_s={c.batch.clip_s}")


def check_average(c: TrainConfig) -> None:
    """Rules between validation and the average of the best weights."""
    if c.optim.average is not Average.best:
        return
    if c.validate_every is None:
        raise KwsError("validate_every=null: must be a number with optim.average=best, which compares validations")
    n_validations = -(-c.optim.steps // c.validate_every)
    if c.optim.best_n > n_validations:
        rule = f"must be at most {n_validations}, the validations in optim.steps with validate_every={c.validate_every}"
        raise SettingError("optim.best_n", c.optim.best_n, rule)


def check_classification(c: TrainConfig) -> None:
    """Rules between groups of settings of a classification run."""
    if c.classification.mel_masks * (c.classification.mel_mask_n or 0) >= c.features.n_mels:
        rule = f"must hide, times mel_masks, fewer than features.n_mels={c.features.n_mels} bands"
        raise SettingError("classification.mel_mask_n", c.classification.mel_mask_n, rule)
    if c.optim.epochs is not None and c.optim.warmup_epochs >= c.optim.epochs:
        rule = f"must be less than optim.epochs={c.optim.epochs}"
        raise SettingError("optim.warmup_epochs", c.optim.warmup_epochs, rule)
    if not c.data.root:
        raise KwsError("data.root=DIR must be given: a folder of recordings with a manifest, or one folder a label")


def check_phones(c: TrainConfig) -> None:
    """Rules between groups of settings of a base net."""
    if c.task is not Task.phones:
        return
    if not c.data.root:
        raise KwsError("data.root=DIR must be given: recordings with transcripts (column text of manifest.csv)")
    if (every := getattr(c.model, "train_every", 1)) > 1:
        raise SettingError("model.train_every", every, "must be 1 with task=phones: each row names a phone")


def check_replay(c: TrainConfig) -> None:
    """Rules between the settings of replay and other groups."""
    room = 0.95 - c.batch.positive_share
    rule = f"must be at most 0.95 - batch.positive_share = {room:g}, so that fresh negatives remain"
    if c.replay.share > room:
        raise SettingError("replay.share", c.replay.share, rule)
    if c.replay.schedule is Schedule.adaptive and c.replay.max_share > room:
        raise SettingError("replay.max_share", c.replay.max_share, rule)
    if c.replay.retire_below > c.mining.min_score:
        rule = f"must be at most mining.min_score={c.mining.min_score}, else mined clips retire at once"
        raise SettingError("replay.retire_below", c.replay.retire_below, rule)
