"""Training: the loop, its three tasks, losses, optimizers, several processes, metrics."""
