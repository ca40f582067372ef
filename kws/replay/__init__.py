"""The replay buffer of hard negatives: storage, mining, sampling, eviction, review."""
