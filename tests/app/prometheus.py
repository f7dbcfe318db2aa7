"""A parser for the text format of Prometheus."""

from prometheus_client.parser import text_string_to_metric_families


def parse_samples(text):
    """Return the value of each sample, by its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
