"""Names of the probes and their controls in results, tables and plots."""

SINGLE, PAIR, BEST_COVERAGE = "single latent", "pair", "latent of best coverage"
DIFFERENCE_IN_MEANS, LOGISTIC_REGRESSION = "difference in means", "logistic regression"
ON_ACTIVATIONS = (DIFFERENCE_IN_MEANS, LOGISTIC_REGRESSION)
"""Probes of activations, without any SAE."""
PERMUTED, UNTRAINED = ", permuted", ", untrained SAE"
"""Endings of the names of controls."""


def is_control(method: str) -> bool:
    return method.endswith((PERMUTED, UNTRAINED))
