"""The record of a run that lies beside its SAEs."""

CONFIG_FILENAME = "config.yaml"
"""Name of the file with the whole config of a run, in its folder."""
