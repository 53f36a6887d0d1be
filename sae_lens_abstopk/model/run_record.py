"""The files of a training run that describe it."""

CONFIG_FILENAME = "config.yaml"
