"""Renamed and removed settings. An old name is refused, and the message names the new one."""

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "replay.guard": "replay.max_miss_rate",
    "replay.most": "replay.max_share",
    "replay.rise": "replay.share_step",
    "replay.at_score": "replay.steer_at_score",
    "replay.check_every": "replay.steer_every",
    "replay.draw": "replay.sampling",
    "replay.alpha": "replay.priority_exponent",
    "replay.beta": "replay.importance_exponent",
    "replay.online": "replay.batch_mining",
    "replay.online_every": "replay.batch_mining_every",
    "replay.online_n": "replay.batch_mining_clips",
    "replay.per_source": "replay.max_per_recording",
    "replay.overlap": "replay.duplicate_overlap",
    "replay.cosine": "replay.duplicate_cosine",
    "replay.quarantine": "replay.quarantine_above",
    "replay.solved": "replay.retire_below",
    "replay.probe": "replay.recheck_retired",
    "mining.per_hour": "mining.clips_per_hour",
    "mining.bands": "mining.score_bands",
    "mining.reserve": "mining.random_share",
    "mining.neighbours": "mining.neighbours_per_hour",
    "per_hour": "clips_per_hour",
    "bands": "score_bands",
    "reserve": "random_share",
    "neighbours": "neighbours_per_hour",
    "overlap": "duplicate_overlap",
    "cosine": "duplicate_cosine",
    "quarantine": "quarantine_above",
    "at_score": "keep_above",
    "task=classes": "task=classification",
    "classes": "classification",
    "data.said": "data.synthetic",
    "data.speak": "data.synthetic",
    "data.split": "data.split_by",
    "data.max_bad_share": "data.max_undecodable",
    "max_bad_share": "max_undecodable",
    "batch.end_s": "batch.keyword_end_s",
    "optim.early_s": "optim.peak_early_s",
    "optim.late_s": "optim.peak_late_s",
    "said": "confusables",
    "most": "limit",
}

REMOVED: Mapping[str, str] = {
    "data.speak.enabled": "without data.root, give data.synthetic.positives and .sentences, as recipe=quickstart does",
    "optim.tied": "optim.negative_weight sets a fixed weight, and replay.schedule=adaptive steers the replayed share",
    "compare_without_replay": "train both with -m replay.share=0,0.1 and compare them with kws evaluate compare=[A,B]",
}


def refusal(key: str) -> str | None:
    """The message for an old `setting`, `setting=value` or group; None for others."""
    name, tail = key, ""
    while name:
        if name in RENAMED:
            return f"{key}: renamed to {RENAMED[name]}{tail}"
        if name in REMOVED:
            return f"{key}: removed; {REMOVED[name]}"
        name, dot, last = name.rpartition(".")
        tail = f"{dot}{last}{tail}"
    return None
