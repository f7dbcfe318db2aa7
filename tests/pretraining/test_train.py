import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    TrainerCallback,
)

from koner.encoder.base_model import prepare_base_model
from koner.encoder.loading import has_label_head
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.params import load_params
from koner.pretraining.loss_curves import LossCurves
from koner.pretraining.packing import PackedDataset
from koner.training.model import build_model


def weights(folder):
    return load_file(folder / "pretrained" / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tiny_run, tmp_path_factory):
    pytest.importorskip("dvclive")
    folder = tmp_path_factory.mktemp("trained")
    return tiny_run(folder, [LossCurves(folder / "curves")]), folder


def test_all_held_out_losses_decrease(tiny_params, trained):
    before, after = (trained[0]["held_loss"][when] for when in ("before", "after"))
    # At random, over a vocabulary of 45 tokens.
    assert before["masked"] == pytest.approx(np.log(45), abs=0.3)
    assert after["masked"] < 0.9 * before["masked"]
    assert after["tags"] < 0.5 * before["tags"]
    assert after["weak"] < 0.5 * before["weak"]
    expected = after["masked"] + tiny_params.tag_weight * after["tags"] + tiny_params.weak_weight * after["weak"]
    assert after["loss"] == pytest.approx(expected, abs=1e-4)


def test_metrics_contain_the_amount_of_data(trained, tiny_packs):
    metrics = trained[0]
    assert metrics["tokens"] == 60 * 8 * 16
    count = len(PackedDataset(tiny_packs / "train", 16))
    assert metrics["packs"]["train"] == count
    assert metrics["passes"] == pytest.approx(60 * 8 / count)


def test_losses_are_plotted_by_step(trained):
    plots = trained[1] / "curves/plots/metrics"
    for name, steps in (
        ("train/loss", [20, 40, 60]),
        *((f"held/{task}", [0, 20, 40, 60]) for task in ("masked", "tags", "weak")),
    ):
        head, *rows = [line.split("\t") for line in (plots / f"{name}.tsv").read_text().splitlines()]
        assert head == ["step", name.split("/")[1]]
        assert [int(row[0]) for row in rows] == steps
    latest = json.loads((trained[1] / "curves/metrics.json").read_text())
    assert latest["held"]["masked"] == pytest.approx(trained[0]["held_loss"]["after"]["masked"], rel=1e-6)


def test_the_output_is_a_masked_language_model_in_16_bits_and_a_base_model(tiny_params, trained, root, tmp_path):
    folder = trained[1] / "pretrained"
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.float16}
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "".join(chr(0xAC00 + i) for i in range(3, 7))
    ids = tokenizer(" ".join(text), return_tensors="pt")["input_ids"]
    assert model(input_ids=ids).logits.shape == (1, 6, 45)
    assert not any("koner" in name for name in weights(trained[1]))
    labelled = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32)
    assert [labelled.config.id2label[i] for i in range(len(KLUE.tags))] == list(KLUE.tags)
    # In this language the id of a token tells its label.
    predicted = labelled(input_ids=ids).logits[0, 1:-1].argmax(-1)
    assert (predicted == ids[0, 1:-1] % len(KLUE.tags)).all()
    changes = {"base_model": str(folder), "max_length": tiny_params.length, "stride": 4}
    prepare_base_model(load_params(root / "params.yaml").model_copy(update=changes), [], tmp_path / "base", labels=KLUE)
    base = AutoModel.from_pretrained(tmp_path / "base", add_pooling_layer=False)
    assert base.dtype == torch.float32
    assert torch.equal(base(input_ids=ids).last_hidden_state, model.base_model(input_ids=ids).last_hidden_state)
    # Fine-tuning starts from the head.
    built = build_model(tmp_path / "base", 0.1, KLUE)
    assert torch.equal(built.classifier.weight, labelled.classifier.weight)


def test_a_model_that_has_a_head_of_weak_labels_starts_with_it(tiny_run, trained, tmp_path):
    metrics = tiny_run(tmp_path, base_model=str(trained[1] / "pretrained"), steps=1, warmup_steps=0)
    last = trained[0]["held_loss"]["after"]
    # The weights were rounded to 16 bits.
    assert metrics["held_loss"]["before"]["weak"] == pytest.approx(last["weak"], rel=0.02)
    assert metrics["held_loss"]["before"]["masked"] == pytest.approx(last["masked"], rel=0.02)


def test_without_weak_labels_no_head_for_them_is_written(tiny_run, tmp_path):
    tiny_run(tmp_path, weak_weight=0.0, steps=1, warmup_steps=0)
    assert not any("classifier" in name for name in weights(tmp_path))
    assert not has_label_head(tmp_path / "pretrained", KLUE)


class KilledError(Exception):
    """Simulates the kill of a process."""


class KillAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KilledError

    def on_train_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KilledError


@pytest.mark.parametrize("step", [33, 60])
def test_a_killed_run_resumes_and_gives_the_same_model_as_an_uninterrupted_one(
    tiny_run, trained, tmp_path, caplog, step
):
    with pytest.raises(KilledError):
        tiny_run(tmp_path, [KillAt(step)])
    assert not (tmp_path / "pretrained").exists()
    caplog.set_level("INFO", "koner")
    metrics = tiny_run(tmp_path, [LossCurves(tmp_path / "curves")])
    assert "resuming from" in caplog.text
    expected, resumed = weights(trained[1]), weights(tmp_path)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert metrics["held_loss"] == trained[0]["held_loss"]
    for name in ("train/loss", "held/loss"):
        table = f"curves/plots/metrics/{name}.tsv"
        assert (tmp_path / table).read_text() == (trained[1] / table).read_text()
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Two steps of warm-up; then a decrease over the last four steps, over all eight, or over all eight as a cosine.
        ("trapezoid", [0, 0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        ("linear", [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0, 0.5, *((1 + np.cos(np.pi * np.arange(8) / 8)) / 2)]),
    ],
)
def test_the_learning_rate_follows_the_schedule(tiny_run, tmp_path, schedule, expected):
    rates = []

    class Recorder(TrainerCallback):
        def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
            rates.append(optimizer.param_groups[0]["lr"])

    tiny_run(tmp_path, [Recorder()], schedule=schedule, lr=1e-2, steps=10, warmup_steps=2, decay_steps=4)
    assert rates == pytest.approx(1e-2 * np.array(expected))


def test_a_run_with_other_parameters_does_not_resume(tiny_run, tmp_path, caplog):
    with pytest.raises(KilledError):
        tiny_run(tmp_path, [KillAt(33)])
    caplog.set_level("INFO", "koner")
    tiny_run(tmp_path, steps=2, warmup_steps=0, seed=1)
    assert "resuming from" not in caplog.text
    assert not list((tmp_path / "checkpoints").iterdir())


def test_the_model_computes_in_bf16(tiny_run, tmp_path):
    dtypes = []

    class Recorder(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            model.koner_tags.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))

    metrics = tiny_run(tmp_path, [Recorder()], steps=2, warmup_steps=0, precision="bf16")
    assert set(dtypes) == {torch.bfloat16}
    assert metrics["bf16"] is True
    assert np.isfinite(metrics["held_loss"]["after"]["loss"])


@pytest.mark.parametrize(("left_out", "task"), [("tag_weight", "weak"), ("weak_weight", "tags")])
def test_a_task_of_weight_0_is_left_out(tiny_run, tmp_path, left_out, task):
    metrics = tiny_run(tmp_path, **{left_out: 0.0}, steps=2, warmup_steps=0)
    assert set(metrics["held_loss"]["after"]) == {"loss", "masked", task}


def test_embeddings_are_initialized_with_skipgram_vectors(tiny_run, tmp_path):
    pytest.importorskip("gensim")
    tiny_run(tmp_path, skipgram_epochs=1, steps=1, warmup_steps=0, lr=1e-9)
    words = weights(tmp_path)["roberta.embeddings.word_embeddings.weight"].float()
    assert words[5:].std() == pytest.approx(0.05, rel=0.02)
    assert words[[0, 2, 3, 4]].std() == pytest.approx(0.02, rel=0.5)


def test_a_batch_without_labels_has_a_loss_of_zero(tiny_run, tmp_path):
    metrics = tiny_run(tmp_path, mask_share=1e-9, tag_weight=0.0, weak_weight=0.0, steps=1, warmup_steps=0)
    assert metrics["held_loss"]["after"]["loss"] == 0
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())


def test_the_number_of_evaluations_does_not_change_the_model(tiny_run, tmp_path):
    for interval in (1, 4):
        tiny_run(tmp_path / str(interval), steps=4, warmup_steps=0, evaluate_every=interval)
    a, b = (weights(tmp_path / str(interval)) for interval in (1, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_every_evaluation_masks_the_same_words(tiny_run, tmp_path):
    losses = []

    class Recorder(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            losses.append(metrics["eval_masked"])

    tiny_run(tmp_path, [Recorder()], steps=4, warmup_steps=0, evaluate_every=1, lr=1e-12)
    assert len(losses) == 5
    assert losses == pytest.approx([losses[0]] * 5, abs=1e-6)


def test_training_of_a_base_model_starts_from_its_weights(tiny_run, trained, tmp_path):
    folder = str(trained[1] / "pretrained")
    metrics = tiny_run(tmp_path, base_model=folder, steps=1, warmup_steps=0, tag_weight=0.0)
    # The weights were rounded to 16 bits.
    before, after = metrics["held_loss"]["before"]["masked"], trained[0]["held_loss"]["after"]["masked"]
    assert before == pytest.approx(after, abs=0.01)


def test_missing_dvclive_is_reported(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "dvclive.live", None)
    with pytest.raises(KonerError, match=r"dvclive is not installed; pip install 'koner\[pretrain\]'"):
        LossCurves(tmp_path)
