import copy
import math
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
from omegaconf import DictConfig, Node, OmegaConf

from kws.common.errors import KwsError
from kws.config import compose, schema, validation
from kws.config.declared import options, settings_of
from kws.models.bc_resnet import CausalBCResNetConfig
from kws.replay.eviction import QuotaConfig
from kws.replay.records import Kind
from kws.replay.sampler import MixConfig
from kws.replay.schedule import Schedule
from kws.training.optim import Average
from tests.typed import typed


def limits(schema: type) -> dict[str, tuple[float, float] | None]:
    """The range of every number of a schema, single or in a list, by its dotted key; None where it has none."""
    return {one.key: one.limits for one in settings_of(schema) if {"int", "float"} & set(one.kinds)}


TRAIN = limits(schema.TrainConfig)
SETTINGS = list(settings_of(schema.TrainConfig))
IS_LIST = {one.key: "list" in one.kinds for one in SETTINGS}
IS_PAIR = [one.key for one in SETTINGS if one.pair]


@pytest.fixture(scope="module")
def composed(cli) -> schema.TrainConfig:
    """The defaults, and values for settings without default."""
    return compose.settings(
        typed(schema.TrainConfig, cli("train", "keyword=beep", "data.root=DIR", "--cfg", "job").out), schema.TrainConfig
    )


def test_the_fast_copy_of_metadata_is_that_of_copy_deepcopy() -> None:
    """tests/conftest.py replaces it."""
    config = OmegaConf.merge(OmegaConf.structured(schema.TrainConfig), {"keyword": ["beep"], "seed": 3})
    assert isinstance(config, DictConfig)
    config.data._set_flag("readonly", True)
    nodes = [config]
    for node in nodes:
        if isinstance(node, DictConfig) and not node._is_missing():
            nodes += [one for key in node if isinstance(one := node._get_node(key), Node)]
        kind, arguments, state, *_ = node._metadata.__reduce_ex__(4)
        want = kind(*arguments)
        want.__dict__ |= copy.deepcopy(state)
        assert vars(copy.deepcopy(node._metadata)) == vars(want)
    assert len(nodes) > 100


@pytest.fixture
def train(composed) -> schema.TrainConfig:
    """A copy that a test may change."""
    return copy.deepcopy(composed)


CAUSAL = CausalBCResNetConfig(stride=6, smooth_s=0.1, smooth_k=0, tau=1.0, groups=5, dropout=0.1)


def put(settings: Any, key: str, value: Any) -> None:
    *groups, name = key.split(".")
    whole = part = settings
    for group in groups:
        whole, part = part, getattr(part, group)
    if name not in vars(part):  # a setting of another family: replace the family
        kinds = next(found for kind in type(part).__mro__ if (found := options(kind)))
        family = next(kind for kind in kinds.values() if name in get_type_hints(kind))
        lowest = {f.name: (TRAIN.get(f"{groups[-1]}.{f.name}") or (False,))[0] for f in fields(family)}
        known = {key: value for key, value in vars(part).items() if key in lowest}
        part = family(**known) if groups == ["model"] else family(**(lowest | known))
        setattr(whole, groups[-1], part)
    setattr(part, name, value)


def test_the_defaults_pass(train):
    validation.check(train)
    assert train.keyword == "beep"
    assert train.replay.schedule is Schedule.linear


@pytest.mark.parametrize("verb", schema.SCHEMAS)
def test_every_number_has_a_range(verb):
    assert all(found is not None and found[0] < found[1] for found in limits(schema.SCHEMAS[verb]).values())


@pytest.mark.parametrize("key", TRAIN)
def test_a_number_out_of_range_is_refused_by_name(train, key):
    low, high = TRAIN[key]
    for value in (low - 1, high + 1, math.nan, math.inf):
        put(train, key, [value, value] if IS_LIST[key] else value)
        with pytest.raises(KwsError, match=rf"^{key}=.*: must be (between {low:g} and |\[low, high\])"):
            validation.check(train)


@pytest.mark.parametrize("key", IS_PAIR)
@pytest.mark.parametrize(
    "upside", [lambda low, high: [high, low], lambda low, high: [low], lambda low, high: [low] * 3]
)
def test_a_pair_is_two_numbers_in_order(train, key, upside):
    put(train, key, upside(*TRAIN[key]))
    with pytest.raises(KwsError, match=rf"^{key}=.*\[low, high\] with low <= high$"):
        validation.check(train)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.dilations": []}, "model.dilations"),
        ({"model.kernel": 2, "model.stride": 4}, "model.kernel"),
        ({"model.kernels": []}, "model.kernels"),
        ({"model.window": 20, "model.stride": 30}, "model.window"),
        ({"model.train_every": 8, "model.stride": 8}, "model.train_every"),
        ({"model.tau": 2.0, "model.groups": 7}, "model.groups"),
        ({"model": CAUSAL}, "model.stride"),
        ({"features.hop_s": 0.03, "features.window_s": 0.02}, "features.hop_s"),
        ({"features.n_mfcc": 41}, "features.n_mfcc"),
        ({"augment.context_p": 0.7, "augment.own_context_p": 0.4}, "augment.own_context_p"),
        ({"batch.max_keyword_s": 1.8}, "batch.clip_s"),
        ({"batch.positive_share": 0.6, "replay.share": 0.5}, "replay.share"),
        ({"replay.mix.user": 0.0, "replay.mix.confusable": 0.0}, "replay.mix"),
        ({"replay.schedule": Schedule.adaptive, "replay.share": 0.4}, "replay.share"),
        ({"replay.retire_below": 0.5}, "replay.retire_below"),
        ({"optim.focal_gamma": 0.5, "optim.label_smoothing": 0.1}, "optim.focal_gamma"),
        ({"optim.average": Average.best, "validate_every": None}, "validate_every"),
        ({"optim.average": Average.best, "validate_every": 300}, "optim.best_n"),
        ({"mining.first_at": 0.8, "mining.last_at": 0.7}, "mining.first_at"),
        ({"mining.pool_share": 0.0}, "mining.rounds"),
        ({"data.root": None}, "data.root"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(train, changes, named):
    for key, value in changes.items():
        put(train, key, value)
    with pytest.raises(KwsError, match=f"^{named}[=:].*must "):
        validation.check(train)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "optim.warmup",
            1001,
            "optim.warmup=1001: must be at most optim.steps=1000, else the learning rate never reaches optim.lr",
        ),
        ("keyword", "Noise", "keyword=Noise: must not be the label of background noise, data.noise_label=noise"),
        ("out", "", "out=: must be a path"),
        ("data.cache", "", "data.cache=: must be a path"),
        (
            "threshold.at_fa_per_hour",
            0.0,
            "threshold.at_fa_per_hour=0.0: must be above 0: no stream is long enough to show 0/h, and results are "
            "given at 0/h anyway",
        ),
        ("precision", "16", "precision=16: must be 32-true or bf16-mixed"),
        ("optim.epochs", 3.0, "optim.epochs=3: must be left out unless task=classification"),
        (
            "augment.mel_mask_n",
            20,
            "augment.mel_mask_n=20: must hide, times mel_masks, fewer than features.n_mels=40 bands",
        ),
        (
            "threshold.at_fa_per_hour",
            None,
            "threshold.at_fa_per_hour=null: must be a rate; only kws evaluate can keep thresholds",
        ),
    ],
)
def test_a_message_names_key_value_and_rule(train, key, value, message):
    put(train, key, value)
    with pytest.raises(KwsError) as caught:
        validation.check(train)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "changes",
    [
        {"optim.focal_gamma": 0.5},
        {"optim.focal_gamma": 2.0, "optim.label_smoothing": 0.1},
        {"optim.negative_weight": 0.0},
        {"optim.negative_weight": 5.0},
        {"validate_every": None},
        {"optim.average": Average.best, "validate_every": 250},  # 1000 steps: 4 validations, 5 with every 249 steps
        {"optim.average": Average.best, "validate_every": 249},
    ],
)
def test_settings_that_fit_together_pass(train, changes):
    if changes.get("validate_every") == 250:
        train.optim.best_n = 4
    for key, value in changes.items():
        put(train, key, value)
    validation.check(train)


def test_every_kind_has_its_share_and_its_quota():
    assert {f.name for f in fields(MixConfig)} == {f.name for f in fields(QuotaConfig)} == set(Kind)


@pytest.mark.parametrize("value", [None, "", " ", [], [""], 5, ["a", 5], {"a": 1}, ["beep", "beep"]])
def test_keywords_are_words(value):
    with pytest.raises(KwsError, match=r"^keyword="):
        compose.keywords(value)


def test_one_keyword_or_a_list_of_them():
    assert compose.keywords("beep") == ["beep"]
    assert compose.keywords(["beep", "hey you"]) == ["beep", "hey you"]


@pytest.mark.parametrize("value", [None, "", [], [""], 5, {"a": 1}])
def test_paths_are_paths(value):
    with pytest.raises(KwsError, match=r"^streams="):
        compose.paths(value, "streams")
