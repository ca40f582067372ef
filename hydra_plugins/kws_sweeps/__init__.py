"""How kws runs a sweep: Hydra takes launchers and sweepers from the namespace `hydra_plugins` alone."""
