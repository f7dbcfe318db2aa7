import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, TrainerCallback

from koner.base_model import prepare_base_model
from koner.errors import KonerError
from koner.loss_curves import LossCurves
from koner.packing import Packs
from koner.params import load_params

pytest_plugins = ["tests.pretraining_fixtures"]


def weights(folder):
    return load_file(folder / "pretrained" / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tiny_run, tmp_path_factory):
    pytest.importorskip("dvclive")
    folder = tmp_path_factory.mktemp("trained")
    return tiny_run(folder, [LossCurves(folder / "curves")]), folder


def test_both_losses_on_what_was_held_out_fall(trained):
    before, after = (trained[0]["held_loss"][when] for when in ("before", "after"))
    # 40 tokens, and 10 tags of as many as there are, at random.
    assert before["masked"] == pytest.approx(np.log(45), abs=0.3)
    assert after["masked"] < 0.9 * before["masked"]
    assert after["tags"] < 0.5 * before["tags"]
    assert after["loss"] == pytest.approx(after["masked"] + 0.5 * after["tags"], abs=1e-4)


def test_the_figures_say_how_much_was_read(trained, tiny_packs):
    figures = trained[0]
    assert figures["tokens"] == 60 * 8 * 16
    count = len(Packs(tiny_packs / "train", 16))
    assert figures["packs"]["train"] == count
    assert figures["passes"] == pytest.approx(60 * 8 / count)


def test_curves_of_the_losses_are_written_by_step(trained):
    metrics = trained[1] / "curves/plots/metrics"
    for name, steps in (("train/loss", [20, 40, 60]), ("held/masked", [0, 20, 40, 60]), ("held/tags", [0, 20, 40, 60])):
        head, *rows = [line.split("\t") for line in (metrics / f"{name}.tsv").read_text().splitlines()]
        assert head == ["step", name.split("/")[1]]
        assert [int(row[0]) for row in rows] == steps
    latest = json.loads((trained[1] / "curves/metrics.json").read_text())
    assert latest["held"]["masked"] == pytest.approx(trained[0]["held_loss"]["after"]["masked"], rel=1e-6)


def test_the_folder_is_a_masked_language_model_in_16_bits_and_a_base_model(tiny_params, trained, root, tmp_path):
    folder = trained[1] / "pretrained"
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.float16}
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "".join(chr(0xAC00 + i) for i in range(3, 7))
    ids = tokenizer(" ".join(text), return_tensors="pt")["input_ids"]
    assert model(input_ids=ids).logits.shape == (1, 6, 45)
    assert not any("koner" in name for name in weights(trained[1]))
    changes = {"base_model": str(folder), "max_length": tiny_params.length, "stride": 4}
    prepare_base_model(load_params(root / "params.yaml").model_copy(update=changes), [], tmp_path / "base")
    base = AutoModel.from_pretrained(tmp_path / "base", add_pooling_layer=False)
    assert base.dtype == torch.float32
    assert torch.equal(base(input_ids=ids).last_hidden_state, model.base_model(input_ids=ids).last_hidden_state)


class KilledError(Exception):
    """Stands for the kill of a process, at the moment that matters."""


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
def test_a_killed_run_goes_on_and_ends_where_an_unbroken_one_does(tiny_run, trained, tmp_path, capsys, step):
    with pytest.raises(KilledError):
        tiny_run(tmp_path, [KillAt(step)])
    assert not (tmp_path / "pretrained").exists()
    figures = tiny_run(tmp_path, [LossCurves(tmp_path / "curves")])
    assert "goes on from" in capsys.readouterr().out
    unbroken, resumed = weights(trained[1]), weights(tmp_path)
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    assert figures["held_loss"] == trained[0]["held_loss"]
    for name in ("train/loss", "held/loss"):
        table = f"curves/plots/metrics/{name}.tsv"
        assert (tmp_path / table).read_text() == (trained[1] / table).read_text()
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Two steps up; then down over the last four, over all eight, or as a cosine over all eight.
        ("trapezoid", [0, 0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        ("linear", [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0, 0.5, *((1 + np.cos(np.pi * np.arange(8) / 8)) / 2)]),
    ],
)
def test_the_learning_rate_rises_and_falls_as_the_schedule_says(tiny_run, tmp_path, schedule, expected):
    rates = []

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
            rates.append(optimizer.param_groups[0]["lr"])

    tiny_run(tmp_path, [Watch()], schedule=schedule, lr=1e-2, steps=10, warmup_steps=2, decay_steps=4)
    assert rates == pytest.approx(1e-2 * np.array(expected))


def test_a_run_of_other_parameters_starts_anew(tiny_run, tmp_path, capsys):
    with pytest.raises(KilledError):
        tiny_run(tmp_path, [KillAt(33)])
    tiny_run(tmp_path, steps=2, warmup_steps=0, seed=1)
    assert "goes on from" not in capsys.readouterr().out
    assert not list((tmp_path / "checkpoints").iterdir())


def test_half_precision_is_what_the_model_computes_in(tiny_run, tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            model.koner_tags.register_forward_hook(lambda module, given, result: seen.append(result.dtype))

    figures = tiny_run(tmp_path, [Watch()], steps=2, warmup_steps=0, precision="bf16")
    assert set(seen) == {torch.bfloat16}
    assert figures["bf16"] is True
    assert np.isfinite(figures["held_loss"]["after"]["loss"])


def test_without_the_second_task_only_masked_tokens_count(tiny_run, tmp_path):
    figures = tiny_run(tmp_path, tag_weight=0.0, steps=2, warmup_steps=0)
    assert set(figures["held_loss"]["after"]) == {"loss", "masked"}


def test_skipgram_vectors_are_what_the_embeddings_start_from(tiny_run, tmp_path):
    pytest.importorskip("gensim")
    tiny_run(tmp_path, skipgram_epochs=1, steps=1, warmup_steps=0, lr=1e-9)
    words = weights(tmp_path)["roberta.embeddings.word_embeddings.weight"].float()
    assert words[5:].std() == pytest.approx(0.05, rel=0.02)
    assert words[[0, 2, 3, 4]].std() == pytest.approx(0.02, rel=0.5)


def test_a_batch_with_nothing_to_tell_has_a_loss_of_zero(tiny_run, tmp_path):
    figures = tiny_run(tmp_path, mask_share=1e-9, tag_weight=0.0, steps=1, warmup_steps=0)
    assert figures["held_loss"]["after"]["loss"] == 0
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())


def test_how_often_it_is_evaluated_does_not_change_a_run(tiny_run, tmp_path):
    for often in (1, 4):
        tiny_run(tmp_path / str(often), steps=4, warmup_steps=0, evaluate_every=often)
    a, b = (weights(tmp_path / str(often)) for often in (1, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_every_evaluation_masks_the_same_words(tiny_run, tmp_path):
    held = []

    class Watch(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            held.append(metrics["eval_masked"])

    tiny_run(tmp_path, [Watch()], steps=4, warmup_steps=0, evaluate_every=1, lr=1e-12)
    assert len(held) == 5
    assert held == pytest.approx([held[0]] * 5, abs=1e-6)


def test_a_base_model_starts_from_its_own_weights(tiny_run, trained, tmp_path):
    given = str(trained[1] / "pretrained")
    figures = tiny_run(tmp_path, base_model=given, steps=1, warmup_steps=0, tag_weight=0.0)
    # Rounded to 16 bits.
    before, after = figures["held_loss"]["before"]["masked"], trained[0]["held_loss"]["after"]["masked"]
    assert before == pytest.approx(after, abs=0.01)


def test_without_dvclive_one_sentence_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "dvclive.live", None)
    with pytest.raises(KonerError, match=r"dvclive is not installed; pip install 'koner\[pretrain\]'"):
        LossCurves(tmp_path)
