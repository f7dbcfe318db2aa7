import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForTokenClassification

from koner.errors import KonerError
from koner.labels.bio import IGNORE_INDEX
from koner.training.collator import PackingCollator, check_packing_support, first_fit_decreasing

ITEMS = [
    {"input_ids": [2, 7, 8, 3], "labels": [IGNORE_INDEX, 1, 2, IGNORE_INDEX]},
    {"input_ids": [2, 9, 3], "labels": [IGNORE_INDEX, 3, IGNORE_INDEX]},
    {"input_ids": [2, 10, 11, 12, 13, 14, 3], "labels": [IGNORE_INDEX, 4, 5, 0, 0, 6, IGNORE_INDEX]},
]


def build(kind, attention="sdpa", **sizes):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=1,
        num_labels=7,
        attn_implementation=attention,
        **sizes,
    )
    model = AutoModelForTokenClassification.from_config(config)
    # With the initial weights the context hardly changes the scores.
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(10 if weight.dim() > 1 else 1)
    return model


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        pytest.param([5], [[0]], id="one window"),
        pytest.param([4, 3, 7], [[2], [0, 1]], id="two windows that fill a row"),
        pytest.param([4, 4, 4], [[0], [1], [2]], id="no packing without a gain"),
        pytest.param([6, 4, 4, 4], [[0, 1], [2, 3]], id="rows longer than the longest window"),
    ],
)
def test_windows_are_packed_with_the_least_padding(lengths, rows):
    assert first_fit_decreasing(lengths) == rows


@given(st.lists(st.integers(1, 40), min_size=1, max_size=24))
def test_each_window_is_in_one_row_and_packing_is_never_larger_than_padding(lengths):
    rows = first_fit_decreasing(lengths)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    length = max(sum(lengths[i] for i in row) for row in rows)
    assert length <= 2 * max(lengths)
    assert len(rows) * length <= len(lengths) * max(lengths)


def test_windows_in_one_row_have_their_own_positions_and_are_isolated():
    batch = PackingCollator(build("roberta"))(ITEMS)
    assert batch["input_ids"].tolist() == [[2, 10, 11, 12, 13, 14, 3], [2, 7, 8, 3, 2, 9, 3]]
    assert batch["labels"][1].tolist() == [IGNORE_INDEX, 1, 2, IGNORE_INDEX, IGNORE_INDEX, 3, IGNORE_INDEX]
    assert batch["position_ids"][1].tolist() == [2, 3, 4, 5, 2, 3, 4]
    mask = batch["attention_mask"][1, 0]
    assert mask[3].tolist() == [True] * 4 + [False] * 3
    assert mask[4].tolist() == [False] * 4 + [True] * 3


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "bert", "electra", "distilbert"])
def test_loss_and_gradients_equal_those_of_padded_windows(kind, attention):
    model = build(kind, attention).eval()
    collator = PackingCollator(model)
    check_packing_support(model, collator)
    longest = 7
    padded = {
        "input_ids": torch.tensor([i["input_ids"] + [1] * (longest - len(i["input_ids"])) for i in ITEMS]),
        "labels": torch.tensor([i["labels"] + [IGNORE_INDEX] * (longest - len(i["labels"])) for i in ITEMS]),
    }
    padded["attention_mask"] = (padded["input_ids"] != 1).long()
    results = []
    for batch in (padded, collator(ITEMS)):
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        results.append((loss.detach(), [p.grad.clone() for p in model.parameters()]))
    (loss, gradients), (packed_loss, packed_gradients) = results
    torch.testing.assert_close(packed_loss, loss)
    torch.testing.assert_close(packed_gradients, gradients, rtol=1e-4, atol=1e-5)


def test_a_model_with_other_positions_is_rejected():
    model = build("camembert")
    with pytest.raises(KonerError, match=r"batching: a model of type camembert .* set it to padded"):
        check_packing_support(model, PackingCollator(model))


def test_a_model_that_ignores_the_mask_is_rejected():
    model = build("roberta")
    collator = PackingCollator(model)
    forward = model.forward
    model.forward = lambda attention_mask=None, **rest: forward(**rest)
    with pytest.raises(KonerError, match="batching"):
        check_packing_support(model, collator)
