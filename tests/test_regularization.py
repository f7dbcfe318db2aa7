import pytest
import torch
from transformers import TrainingArguments

from koner.base_model import prepare_base_model
from koner.boundaries import LABELS
from koner.corpus import RawSentence, check
from koner.params import load_params
from koner.regularization import RegularizedTrainer
from koner.training import build_model

OFF = {"label_smoothing": 0.0, "r_drop": 0.0, "adversarial": 0.0, "layer_decay": 1.0}


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


def test_two_readings_under_the_same_dropout_agree(trainer, batch):
    alone, twice = trainer(), trainer(r_drop=5.0)
    torch.testing.assert_close(
        twice.compute_loss(twice.model, dict(batch)), alone.compute_loss(alone.model, dict(batch))
    )


def test_readings_that_disagree_cost(trainer, batch):
    losses = []
    for weight in (1e-6, 5.0):
        made = trainer(dropout=0.5, r_drop=weight)
        torch.manual_seed(3)
        losses.append(made.compute_loss(made.model, dict(batch)).item())
    assert losses[1] > losses[0] + 1e-3


def test_an_adversarial_step_adds_gradients_and_puts_the_embeddings_back(trainer, batch):
    plain, moved = trainer(), trainer(adversarial=1.0)
    before = moved.model.get_input_embeddings().weight.detach().clone()
    for made in (plain, moved):
        made.current_gradient_accumulation_steps = 1  # what `train` sets
        made.create_optimizer()
        made.training_step(made.model, dict(batch))
    torch.testing.assert_close(moved.model.get_input_embeddings().weight.detach(), before)
    a, b = (made.model.classifier.weight.grad for made in (plain, moved))
    assert not torch.allclose(a, b)
    assert b.norm() > 1.2 * a.norm()


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
