import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForTokenClassification

from koner.batches import PackingCollator, assert_packs, rows_of
from koner.errors import KonerError
from koner.labels import IGNORED

ITEMS = [
    {"input_ids": [2, 7, 8, 3], "labels": [IGNORED, 1, 2, IGNORED]},
    {"input_ids": [2, 9, 3], "labels": [IGNORED, 3, IGNORED]},
    {"input_ids": [2, 10, 11, 12, 13, 14, 3], "labels": [IGNORED, 4, 5, 0, 0, 6, IGNORED]},
]


def model_of(kind, attention="sdpa", **sizes):
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
    # As drawn, weights are so small that a model hardly sees its context.
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(10 if weight.dim() > 1 else 1)
    return model


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        pytest.param([5], [[0]], id="one window"),
        pytest.param([4, 3, 7], [[2], [0, 1]], id="two that fill a row"),
        pytest.param([4, 4, 4], [[0], [1], [2]], id="rows no longer than need be"),
        pytest.param([6, 4, 4, 4], [[0, 1], [2, 3]], id="rows longer than the longest window"),
    ],
)
def test_windows_are_laid_into_rows_with_least_padding(lengths, rows):
    assert rows_of(lengths) == rows


@given(st.lists(st.integers(1, 40), min_size=1, max_size=24))
def test_every_window_lies_in_one_row_and_none_needs_more_than_a_row_each(lengths):
    rows = rows_of(lengths)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    length = max(sum(lengths[i] for i in row) for row in rows)
    assert length <= 2 * max(lengths)
    assert len(rows) * length <= len(lengths) * max(lengths)


def test_windows_in_one_row_count_their_own_positions_and_see_only_themselves():
    batch = PackingCollator(model_of("roberta"))(ITEMS)
    assert batch["input_ids"].tolist() == [[2, 10, 11, 12, 13, 14, 3], [2, 7, 8, 3, 2, 9, 3]]
    assert batch["labels"][1].tolist() == [IGNORED, 1, 2, IGNORED, IGNORED, 3, IGNORED]
    assert batch["position_ids"][1].tolist() == [2, 3, 4, 5, 2, 3, 4]
    seen = batch["attention_mask"][1, 0]
    assert seen[3].tolist() == [True] * 4 + [False] * 3
    assert seen[4].tolist() == [False] * 4 + [True] * 3


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "bert", "electra", "distilbert"])
def test_loss_and_gradients_are_those_of_windows_padded_one_by_one(kind, attention):
    model = model_of(kind, attention).eval()
    collator = PackingCollator(model)
    assert_packs(model, collator)
    longest = 7
    padded = {
        "input_ids": torch.tensor([i["input_ids"] + [1] * (longest - len(i["input_ids"])) for i in ITEMS]),
        "labels": torch.tensor([i["labels"] + [IGNORED] * (longest - len(i["labels"])) for i in ITEMS]),
    }
    padded["attention_mask"] = (padded["input_ids"] != 1).long()
    found = []
    for batch in (padded, collator(ITEMS)):
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters()]))
    (loss, gradients), (packed_loss, packed_gradients) = found
    torch.testing.assert_close(packed_loss, loss)
    torch.testing.assert_close(packed_gradients, gradients, rtol=1e-4, atol=1e-5)


def test_a_model_that_counts_positions_in_its_own_way_is_refused():
    model = model_of("camembert")
    with pytest.raises(KonerError, match=r"batching: a model of type camembert .* set it to padded"):
        assert_packs(model, PackingCollator(model))


def test_a_model_that_ignores_the_mask_is_refused():
    model = model_of("roberta")
    collator = PackingCollator(model)
    forward = model.forward
    model.forward = lambda attention_mask=None, **rest: forward(**rest)
    with pytest.raises(KonerError, match="batching"):
        assert_packs(model, collator)
