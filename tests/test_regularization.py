import pytest
import torch
from transformers import TrainingArguments

from koner.base_model import prepare_base_model
from koner.boundaries import LABELS
from koner.corpus import RawSentence, check
from koner.params import load_params
from koner.regularization import RegularizedTrainer
from koner.training import build_model

OFF = {"label_smoothing": 0.0, "layer_decay": 1.0}


@pytest.fixture(scope="module")
def setting(root, tmp_path_factory):
    sizes = {"layers": 2, "hidden_size": 32, "heads": 2, "vocab_min_count": 1, "base_model": "scratch"}
    params = load_params(root / "params.yaml").model_copy(update=sizes | OFF)
    folder = tmp_path_factory.mktemp("base")
    prepare_base_model(params, [check(RawSentence("", "1", annotated="<홍길동:PS>이 왔다."))], folder / "base")
    return params, folder


@pytest.fixture
def trainer(setting):
    params, folder = setting

    def make(dropout=0.0, **changes):
        torch.manual_seed(0)
        model = build_model(folder / "base", dropout, LABELS).train()
        arguments = TrainingArguments(
            output_dir=str(folder), learning_rate=1.0, report_to="none", use_cpu=True, weight_decay=0.1
        )
        return RegularizedTrainer(params.model_copy(update=changes), model=model, args=arguments)

    return make


@pytest.fixture
def batch():
    return {
        "input_ids": torch.tensor([[0, 5, 6, 7, 2]]),
        "attention_mask": torch.ones(1, 5, dtype=torch.long),
        "labels": torch.tensor([[-100, 3, 4, 12, -100]]),
    }


def test_with_everything_off_the_loss_is_the_plain_one(trainer, batch):
    made = trainer()
    assert made.compute_loss(made.model, dict(batch)) == made.model(**batch).loss


def test_smoothing_spreads_the_labels(trainer, batch):
    made = trainer(label_smoothing=0.2)
    scores = made.model(**batch).logits[0, 1:4].log_softmax(-1)
    told = scores[range(3), batch["labels"][0, 1:4]].mean()
    expected = -(0.8 * told + 0.2 * scores.mean())
    torch.testing.assert_close(made.compute_loss(made.model, dict(batch)), expected)


def test_lower_layers_learn_more_slowly(trainer):
    made = trainer(layer_decay=0.5)
    optimizer = made.create_optimizer()
    rate = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {name: rate[p] for name, p in made.model.named_parameters()}
    assert rates["classifier.weight"] == 1.0
    assert rates["roberta.encoder.layer.1.output.dense.weight"] == 0.5
    assert rates["roberta.encoder.layer.0.output.dense.bias"] == 0.25
    assert rates["roberta.embeddings.word_embeddings.weight"] == 0.125
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rates)
