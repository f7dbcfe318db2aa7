import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
)

from koner.errors import KonerError
from koner.pretraining.models import hidden_states, isolates_documents, scratch_masked_lm

SMALL = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def tiny(config):
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(config).eval()


@pytest.mark.parametrize(
    "config",
    [RobertaConfig(**SMALL), BertConfig(**SMALL), ElectraConfig(**SMALL, embedding_size=8)],
    ids=["RoBERTa", "BERT", "ELECTRA"],
)
def test_a_document_in_a_pack_has_the_hidden_states_that_it_has_alone(config):
    model = tiny(config)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12], [5, 6, 7, 8, 30, 31, 32, 33]])
    documents = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2]] * 2)
    with torch.no_grad():
        hidden = hidden_states(model, ids, documents)
        alone = model.base_model(input_ids=ids[:1, :4]).last_hidden_state
    torch.testing.assert_close(hidden[0, :4], alone[0])
    torch.testing.assert_close(hidden[0, :4], hidden[1, :4])
    assert not torch.allclose(hidden[0, 4:], hidden[1, 4:])
    assert isolates_documents(model)


def test_a_family_with_another_form_of_attention_mask_is_detected():
    assert not isolates_documents(tiny(DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=32)))


def write_base_model(folder, config, packs, **special):
    """Write a base model with the vocabulary of the packs."""
    tiny(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(packs / "tokenizer", **special)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "config",
    [
        RobertaConfig(**SMALL, max_position_embeddings=18, pad_token_id=1),
        BertConfig(**SMALL, pad_token_id=1),
        ElectraConfig(**SMALL, embedding_size=8, pad_token_id=1),
    ],
    ids=["RoBERTa", "BERT", "ELECTRA"],
)
def test_a_base_model_improves_and_keeps_its_architecture(tiny_run, tiny_packs, tmp_path, config):
    folder = write_base_model(tmp_path / "base", config, tiny_packs)
    metrics = tiny_run(tmp_path, base_model=folder, steps=30, warmup_steps=2, evaluate_every=30)
    assert metrics["held_loss"]["after"]["loss"] < 0.9 * metrics["held_loss"]["before"]["loss"]
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "pretrained"))
    # With the head of the weak labels.
    shapes = {name: value.shape for name, value in after.items() if not name.startswith("classifier.")}
    assert shapes == {name: value.shape for name, value in before.items()}
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "pretrained").config.model_type == config.model_type


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (
            DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=32),
            {},
            "models of type 'distilbert'",
        ),
        (RobertaConfig(**SMALL, max_position_embeddings=12), {}, "length: 16 is more than the 10 tokens"),
        (BertConfig(**{**SMALL, "vocab_size": 30}), {}, "has 45 tokens and the model embeds only 30"),
        (BertConfig(**SMALL), {"mask_token": None}, "has no mask token"),
    ],
)
def test_a_base_model_that_can_not_be_pretrained_is_reported_in_one_line(
    tiny_run, tiny_packs, tmp_path, config, changes, message
):
    folder = write_base_model(tmp_path / "base", config, tiny_packs, **changes)
    with pytest.raises(KonerError, match=message) as error:
        tiny_run(tmp_path, base_model=folder)
    assert "\n" not in str(error.value)


def test_a_scratch_model_has_the_sizes_in_the_parameters(tiny_params, tiny_packs):
    tokenizer = AutoTokenizer.from_pretrained(tiny_packs / "tokenizer")
    a, b = (scratch_masked_lm(tiny_params, tokenizer) for _ in "ab")
    assert torch.equal(a.roberta.embeddings.word_embeddings.weight, b.roberta.embeddings.word_embeddings.weight)
    config = a.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (1, 16, 2)
    assert a(input_ids=torch.full((1, 16), 5)).logits.shape == (1, 16, 45)
