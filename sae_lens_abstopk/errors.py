"""The exceptions that this package raises on purpose."""


class ConfigError(ValueError):
    """A setting, file or model that cannot be used: what was wrong, where, what is allowed, what to do."""


class HubError(RuntimeError):
    """The Hub, or the way to it, said no: what was being done, what came back, what to do."""


class TrainingStopped(RuntimeError):
    """A run that stopped itself: what had become unusable, where the last good state is, what to do."""
