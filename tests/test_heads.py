import torch
from torch import nn

from koner.boundaries import LABELS
from koner.heads import SharedHead


def test_the_plain_head_gives_the_same_scores():
    torch.manual_seed(0)
    head = SharedHead(8, list(LABELS), 0.5)
    nn.init.normal_(head.bias)
    hidden = torch.randn(3, 5, 8)
    assert head(hidden).shape == (3, 5, len(LABELS))
    torch.testing.assert_close(head.as_linear()(hidden), head(hidden))


def test_a_label_learns_from_those_of_its_tag_and_of_its_shape():
    head = SharedHead(8, list(LABELS), 0.02)
    rows = {label: head.as_linear().weight[i] for i, label in enumerate(LABELS)}
    shape = rows["B-PS/cut1"] - rows["B-PS"]
    torch.testing.assert_close(rows["I-LC/cut1"] - rows["I-LC"], shape)
    assert not torch.allclose(rows["B-PS/cut2"] - rows["B-PS"], shape)
