import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, TrainerCallback, pipeline

from koner.corpus.checks import RawSentence, check
from koner.encoder.base_model import prepare_base_model
from koner.labels.klue import KLUE
from koner.params import load_params
from koner.tokens.alignment import align
from koner.training.checkpoints import fingerprint, last_checkpoint
from koner.training.dataset import WindowDataset
from koner.training.fit import train
from koner.training.metrics import epoch_table
from koner.training.precision import uses_bf16

LINES = [
    "<홍길동:PS>이 <서울:LC>에서 <3명:QT>을 만났다.",
    "<정부:OG>는 <지난해:DT> <부산:LC>에 갔다.",
    "<김철수:PS>가 <오후 2시:TI>에 <경찰:OG>을 불렀다.",
    "아무도 오지 않았다.",
    "<이영희:PS>는 <대구:LC>로 떠났다.",
    "<10일:DT> <검찰:OG>은 <두 명:QT>을 불렀다.",
]
TINY = {
    "layers": 1,
    "hidden_size": 32,
    "heads": 2,
    "vocab_min_count": 1,
    "batch_size": 2,
    "patience": 0,
    "lr": 1e-3,
    "base_share": 0.0,
} | {"base_model": "scratch"}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    params = load_params(Path(__file__).parents[2] / "params.yaml").model_copy(update={**TINY, "epochs": 3})
    sentences = [check(RawSentence(f"line {i}", str(i), annotated=line)) for i, line in enumerate(LINES)]
    base = tmp_path_factory.mktemp("setting") / "base"
    prepare_base_model(params, sentences, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    return params, base, WindowDataset(align(sentences, tokenizer, params.max_length, params.stride, KLUE))


def run(setting, folder, run_id="run", callbacks=(), **changes):
    params, base, sentences = setting
    params = params.model_copy(update=changes)
    return train(params, base, KLUE, sentences, sentences, folder / "ner", folder / "checkpoints", run_id, callbacks)


def weights(folder):
    return load_file(folder / "ner" / "model.safetensors")


def are_equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_two_runs_give_the_same_weights_and_another_seed_gives_others(setting, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(setting, tmp_path / name, seed=seed)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert are_equal(a, b)
    assert not are_equal(a, c)


class KilledError(Exception):
    """The kill of a process, simulated."""


class KillAfterEpoch(TrainerCallback):
    def on_epoch_begin(self, args, state, control, **kwargs):
        if state.epoch is not None and round(state.epoch) == 1:
            raise KilledError


@pytest.mark.parametrize("batching", ["packed", "padded"])
def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(setting, tmp_path, caplog, batching):
    run(setting, tmp_path / "uninterrupted", batching=batching)
    with pytest.raises(KilledError):
        run(setting, tmp_path / "interrupted", callbacks=[KillAfterEpoch()], batching=batching)
    assert last_checkpoint(tmp_path / "interrupted" / "checkpoints" / "run") is not None
    caplog.set_level("INFO")
    resumed = run(setting, tmp_path / "interrupted", batching=batching)
    assert "resuming from" in caplog.text
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]
    assert are_equal(weights(tmp_path / "uninterrupted"), weights(tmp_path / "interrupted"))


def test_checkpoints_of_another_run_are_removed(setting, tmp_path, caplog):
    with pytest.raises(KilledError):
        run(setting, tmp_path, run_id="other", callbacks=[KillAfterEpoch()])
    caplog.set_level("INFO")
    run(setting, tmp_path)
    assert "resuming from" not in caplog.text
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_an_incomplete_checkpoint_is_removed(tmp_path):
    for step, state in ((4, '{"global_step": 4}'), (8, '{"global_st'), (12, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


def test_the_best_epoch_is_kept(setting, tmp_path):
    trained = run(setting, tmp_path, epochs=6, lr=5e-3)
    assert trained.best == max(trained.history, key=lambda row: row["f1"])
    assert trained.best["f1"] > 0


def test_weights_are_averaged_with_those_of_a_base_model_for_the_same_labels(setting, tmp_path, caplog):
    params, _, sentences = setting
    run(setting, tmp_path / "base")
    base = tmp_path / "base/ner"
    for name, share in (("trained", 0.0), ("averaged", 0.25)):
        run((params, base, sentences), tmp_path / name, base_share=share)
    start, trained, averaged = (weights(tmp_path / name) for name in ("base", "trained", "averaged"))
    assert not are_equal(start, trained)
    for name, weight in averaged.items():
        torch.testing.assert_close(weight, 0.25 * start[name] + 0.75 * trained[name])
    assert "base_share" not in caplog.text


def test_the_weights_of_a_base_model_without_a_head_are_left_out(setting, tmp_path, caplog):
    caplog.set_level("INFO")
    for name, share in (("trained", 0.0), ("averaged", 0.25)):
        run(setting, tmp_path / name, base_share=share)
    assert are_equal(weights(tmp_path / "trained"), weights(tmp_path / "averaged"))
    assert caplog.text.count("base_share has no effect: the base model has no head for these labels") == 1


def test_patience_stops_a_run_that_does_not_improve(setting, tmp_path):
    trained = run(setting, tmp_path, epochs=50, patience=2, lr=1e-9)
    assert len(trained.history) == 3


def test_transformers_pipeline_loads_the_model_folder(setting, tmp_path):
    run(setting, tmp_path, epochs=40, lr=5e-3)
    tag = pipeline("token-classification", model=str(tmp_path / "ner"), aggregation_strategy="simple")
    entities = tag("정부는 지난해 부산에 갔다.")
    assert ("LC", "부산") in {(e["entity_group"], e["word"]) for e in entities}


def test_the_fingerprint_depends_on_parameters_and_files(setting, tmp_path):
    params, base, _ = setting
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("1")
    first = fingerprint(params, [base, data])
    assert fingerprint(params, [base, data]) == first
    assert fingerprint(params.model_copy(update={"lr": 0.5}), [base, data]) != first
    (data / "a").write_text("2")
    assert fingerprint(params, [base, data]) != first


def test_the_table_of_epochs_is_collected_from_the_log():
    log = [
        {"epoch": 1.0, "loss": 2.0, "grad_norm": 1.0},
        {
            "epoch": 1.0,
            "eval_loss": 1.5,
            "eval_f1": 0.5,
            "eval_precision": 0.4,
            "eval_recall": 0.6,
            "eval_accuracy": 0.9,
        },
        {"epoch": 1.0, "train_runtime": 9.0, "train_loss": 2.0},
    ]
    assert epoch_table(log) == [
        {
            "epoch": 1,
            "train_loss": 2.0,
            "eval_loss": 1.5,
            "precision": 0.4,
            "recall": 0.6,
            "f1": 0.5,
            "accuracy": 0.9,
        }
    ]


def test_an_explicit_precision_is_used():
    assert uses_bf16("bf16")
    assert not uses_bf16("fp32")


def test_auto_uses_bf16_on_a_cpu_only_with_amx(monkeypatch):
    # AVX-512's own bf16 instructions train more slowly than fp32.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False})
    assert not uses_bf16("auto")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True})
    assert uses_bf16("auto")


def test_bf16_trains_without_a_gpu(setting, tmp_path):
    trained = run(setting, tmp_path, epochs=1, precision="bf16")
    assert len(trained.history) == 1
    assert all(weight.dtype == torch.float32 for weight in weights(tmp_path).values())
    exact = run(setting, tmp_path, epochs=1, precision="fp32")
    assert trained.best["eval_loss"] == pytest.approx(exact.best["eval_loss"], rel=0.05)
    assert trained.best["eval_loss"] != exact.best["eval_loss"]


KILLED_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.training.test_fit import *
from pathlib import Path
folder = Path(sys.argv[2])
params = load_params(Path(sys.argv[1]) / "params.yaml").model_copy(update={**TINY, "epochs": 400})
sentences = [check(RawSentence("", str(i), annotated=line)) for i, line in enumerate(LINES)]
tokenizer = AutoTokenizer.from_pretrained(folder / "base")
windows = WindowDataset(align(sentences, tokenizer, params.max_length, params.stride, KLUE))
train(params, folder / "base", KLUE, windows, windows, folder / "ner", folder / "checkpoints", "run")
"""


def test_a_killed_process_leaves_a_checkpoint(setting, tmp_path, root):
    base = setting[1]
    (tmp_path / "base").symlink_to(base)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_RUN, str(root), str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = tmp_path / "checkpoints" / "run"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert last_checkpoint(checkpoints) is not None
    assert not (tmp_path / "ner").exists()
