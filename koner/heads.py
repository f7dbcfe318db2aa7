"""The linear head over labels, its weights shared between labels of one tag and between labels of one shape."""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers import PreTrainedModel

from koner.boundaries import SHAPES, tag_of
from koner.labels import TAG_TO_ID, TAGS

# A shape stands on one token of an entity in a hundred; an optimizer would take thousands of steps to find that out.
_SHAPE_BIAS = math.log(0.01)


class SharedHead(nn.Module):
    """A linear head whose row for a label is the sum of its tag's row and its shape's.

    `B-PS/cut1` stands on few tokens of a training part; so it learns from all that are B-PS and all that are cut1.
    """

    made_of: torch.Tensor

    def __init__(self, hidden_size: int, labels: list[str], std: float) -> None:
        super().__init__()
        made_of = torch.zeros(len(labels), len(TAGS) + len(SHAPES))
        for i, label in enumerate(labels):
            made_of[i, TAG_TO_ID[tag_of(label)]] = 1
            if "/" in label:
                made_of[i, len(TAGS) + SHAPES.index(label.partition("/")[2])] = 1
        self.register_buffer("made_of", made_of, persistent=False)
        self.weight = nn.Parameter(torch.empty(made_of.shape[1], hidden_size).normal_(std=std))
        self.bias = nn.Parameter(torch.zeros(made_of.shape[1]))
        with torch.no_grad():
            self.bias[len(TAGS) :] = _SHAPE_BIAS

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores (..., labels) of hidden units (..., units)."""
        return nn.functional.linear(hidden, self.weight, self.bias) @ self.made_of.T

    def as_linear(self) -> nn.Linear:
        """The plain linear layer that gives the same scores."""
        labels, units = len(self.made_of), self.weight.shape[1]
        linear = nn.Linear(units, labels)
        with torch.no_grad():
            linear.weight.copy_(self.made_of @ self.weight)
            linear.bias.copy_(self.made_of @ self.bias)
        return linear


def share_head(model: PreTrainedModel, labels: list[str]) -> None:
    """Puts a shared head in the place of a token classifier's linear one, where it has such a one."""
    head = getattr(model, "classifier", None)
    if isinstance(head, nn.Linear):
        std = getattr(model.config, "initializer_range", 0.02)
        model.classifier = SharedHead(head.in_features, labels, std)


def plain_head(model: PreTrainedModel) -> None:
    """Puts the plain linear head back that gives the same scores, as transformers reads it."""
    if isinstance(getattr(model, "classifier", None), SharedHead):
        model.classifier = model.classifier.as_linear()
