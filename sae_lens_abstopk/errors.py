"""The one exception that this package raises on purpose."""


class ConfigError(ValueError):
    """A setting, file or model that cannot be used: what was wrong, where, what is allowed, what to do."""
