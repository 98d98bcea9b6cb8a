"""Reads what /metrics answers."""

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families


def families(text: str) -> dict[str, Metric]:
    """Return the families of an answer in OpenMetrics by name. Raises ValueError."""
    found = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return {each.name: each for each in found}


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return the figures by name and label values, labels in the order of their names."""
    return {
        (each.name, *(value for _, value in sorted(each.labels.items()))): each.value
        for family in families(text).values()
        for each in family.samples
    }
