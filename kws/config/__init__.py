"""Settings: composed by Hydra, checked, and shown by --help."""
