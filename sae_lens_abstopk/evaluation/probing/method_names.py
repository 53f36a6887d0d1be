"""What the probes and their controls are called in results, tables and pictures."""

SINGLE, PAIR, BEST_COVERAGE = "single latent", "pair", "latent of best coverage"
DIFFERENCE_IN_MEANS, LOGISTIC_REGRESSION = "difference in means", "logistic regression"
ON_ACTIVATIONS = (DIFFERENCE_IN_MEANS, LOGISTIC_REGRESSION)
"""Probes that no SAE takes part in."""
PERMUTED, UNTRAINED = ", permuted", ", untrained SAE"
"""What follows the name of a probe where it is a control."""


def is_control(method: str) -> bool:
    """Whether a probe is one of the controls."""
    return method.endswith((PERMUTED, UNTRAINED))
