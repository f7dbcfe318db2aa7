"""The label set of KLUE-NER, which the benchmark, its weak labels and the recipes on its data have."""

from __future__ import annotations

from koner.labels.label_set import LabelSet

# In the order of the class ids on the hub.
KLUE = LabelSet(("DT", "LC", "OG", "PS", "QT", "TI"))
