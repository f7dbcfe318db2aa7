import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from transformers import AutoTokenizer, TrainerCallback

from koner.corpus.checks import RawSentence, check
from koner.encoder.base_model import prepare_base_model
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.sweep.study import Sweep
from koner.tokens.alignment import align
from koner.training.dataset import WindowDataset
from koner.training.fit import train
from tests.sweep.studies import PARAMS, SEARCH, plan, score, sweep


def objective(params, checkpoints, callback):
    return score(params)


def trials(folder):
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/trials.db")
    return study.get_trials()


def trial_params(folder):
    """Return the parameters of the trials without those that were retried, in the order in which they were drawn."""
    retried = {trial.user_attrs.get("again") for trial in trials(folder)}
    return [trial.params for trial in trials(folder) if trial.number not in retried]


def test_the_seed_determines_the_trials(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sweep(tmp_path / name, seed=seed).run_trials(objective)
    assert len(trial_params(tmp_path / "a")) == 8
    assert trial_params(tmp_path / "a") == trial_params(tmp_path / "b") != trial_params(tmp_path / "c")
    assert len({params["lr"] for params in trial_params(tmp_path / "a")}) == 8


def test_the_folder_of_a_study_is_taken_literally(tmp_path):
    folder = tmp_path / "q?x #%20[1]"
    sweep(folder, trials=1).run_trials(objective)
    assert (folder / "trials.db").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "data"}


def test_the_result_is_the_command_of_the_best_trial_and_the_earliest_of_equals(tmp_path):
    study = sweep(tmp_path / "a")
    study.run_trials(objective)
    best = max(trial_params(tmp_path / "a"), key=lambda values: score(PARAMS.model_copy(update=values)))
    assert study.result().params == best
    assert study.result().command == f"dvc exp run -S lr={best['lr']} -S batch_size={best['batch_size']}"
    assert study.result().counts == {"completed": 8, "pruned": 0, "failed": 0, "running": 0}
    equal = sweep(tmp_path / "b")
    equal.run_trials(lambda params, checkpoints, callback: 0.5)
    assert equal.result().number == 0


def test_a_larger_number_of_trials_continues_the_study(tmp_path):
    sweep(tmp_path / "a").run_trials(objective)
    sweep(tmp_path / "b", trials=3).run_trials(objective)
    sweep(tmp_path / "b", trials=8).run_trials(objective)
    assert trial_params(tmp_path / "a") == trial_params(tmp_path / "b")


def test_equal_parameters_are_trained_once(tmp_path):
    batch_sizes = []
    study = sweep(tmp_path / "a", search={"batch_size": CategoricalDistribution([2, 4])}, trials=6)
    study.run_trials(lambda params, checkpoints, callback: batch_sizes.append(params.batch_size) or score(params))
    assert sorted(batch_sizes) == [2, 4]
    assert study.result().counts["completed"] == 6


class KilledError(BaseException):
    """The kill of a process, simulated."""


def test_a_resumed_sweep_continues_the_trial_and_draws_the_same_trials(tmp_path):
    sweep(tmp_path / "uninterrupted").run_trials(objective)
    rates = []

    def killed(params, checkpoints, callback):
        if len(rates) == 4:
            checkpoints.mkdir()
            (checkpoints / "half").write_text("")
            raise KilledError
        rates.append(params.lr)
        return score(params)

    with pytest.raises(KilledError):
        sweep(tmp_path / "interrupted").run_trials(killed)
    has_checkpoints = []

    def resumed(params, checkpoints, callback):
        has_checkpoints.append((checkpoints / "half").exists())
        return score(params)

    sweep(tmp_path / "interrupted").run_trials(resumed)
    assert has_checkpoints == [True, False, False, False]
    assert trial_params(tmp_path / "interrupted") == trial_params(tmp_path / "uninterrupted")
    assert not [path for path in (tmp_path / "interrupted").iterdir() if path.is_dir()]


def test_a_trial_that_always_kills_its_process_is_given_up(tmp_path):
    def killed(params, checkpoints, callback):
        raise KilledError

    for _ in range(3):
        with pytest.raises(KilledError):
            sweep(tmp_path / "a", trials=2).run_trials(killed)
    study = sweep(tmp_path / "a", trials=2)
    study.run_trials(objective)
    assert study.result().counts == {"completed": 1, "pruned": 0, "failed": 1, "running": 0}
    assert len({trial.params["lr"] for trial in trials(tmp_path / "a")}) == 2


def test_a_trial_that_makes_progress_is_retried_without_limit(tmp_path):
    """The process is ended by Ctrl-C, or by a kill after another epoch."""

    def interrupted(params, checkpoints, callback):
        raise KeyboardInterrupt

    def evaluated(params, checkpoints, callback):
        state, arguments = SimpleNamespace(epoch=1.0), SimpleNamespace(num_train_epochs=4)
        callback.on_evaluate(arguments, state, None, {"eval_f1": 0.5})
        raise KilledError

    for run, raised in ((interrupted, KeyboardInterrupt), (evaluated, KilledError)) * 2:
        with pytest.raises(raised):
            sweep(tmp_path / "a", trials=1).run_trials(run)
    study = sweep(tmp_path / "a", trials=1)
    study.run_trials(objective)
    assert study.result().counts["completed"] == 1


def test_a_trial_that_is_too_large_for_the_gpu_fails_alone(tmp_path, caplog):
    caplog.set_level("INFO")

    def small_gpu(params, checkpoints, callback):
        if params.batch_size == 8:
            raise torch.OutOfMemoryError
        return score(params)

    study = sweep(tmp_path / "a")
    study.run_trials(small_gpu)
    counts = study.result().counts
    assert counts["failed"] == sum(params["batch_size"] == 8 for params in trial_params(tmp_path / "a")) > 0
    assert sum(counts.values()) == 8
    assert "failed: the GPU has too little memory for it" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: sweep(folder, params=PARAMS.model_copy(update={"dropout": 0.2})),
            r"fixed parameters \(dropout",
        ),
        (lambda folder: sweep(folder, search={"lr": SEARCH["lr"]}), r"search \(batch_size\)"),
        (lambda folder: Sweep(plan(), PARAMS, [folder], folder.parent / "a"), r"data \("),
    ],
)
def test_trials_of_another_setting_are_not_mixed(tmp_path, change, message):
    sweep(tmp_path / "a").run_trials(objective)
    with pytest.raises(KonerError, match=rf"holds trials with another {message}"):
        change(tmp_path / "a")
    # Searched parameters and those of later stages may change in params.yaml.
    sweep(tmp_path / "a", params=PARAMS.model_copy(update={"lr": 0.5, "serve_precision": "fp32"}))


def test_a_file_that_is_not_a_study_raises_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "trials.db").write_text("not a database, " * 100)
    with pytest.raises(KonerError, match=r"trials.db can't be read or written as a study: .*not a database"):
        sweep(tmp_path / "a")


WORKER = """
import sys, time
from pathlib import Path
from tests.sweep.studies import score, sweep
def slow(params, checkpoints, callback):
    print("started", flush=True)
    time.sleep(float(sys.argv[2]))
    return score(params)
sweep(Path(sys.argv[1]), trials=6).run_trials(slow)
"""


def start(root, folder, seconds):
    command = [sys.executable, "-c", WORKER, str(folder), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for_start(worker):
    for line in worker.stdout:
        if line == "started\n":
            return
    raise AssertionError("the worker ended")


def test_two_workers_share_a_study_and_retry_a_killed_trial(root, tmp_path):
    """No trial is lost or run twice, although one worker is killed during a trial."""
    sweep(tmp_path / "a", trials=6)
    with start(root, tmp_path / "a", 600) as killed, start(root, tmp_path / "a", 0.3) as other:
        wait_for_start(killed)
        wait_for_start(other)
        os.kill(killed.pid, signal.SIGKILL)
        output = other.stdout.read()
        assert other.wait() == 0
    assert output.count("started") >= 4
    all_trials = trials(tmp_path / "a")
    states = [trial.state.name for trial in all_trials]
    assert (states.count("COMPLETE"), states.count("FAIL"), len(states)) == (6, 1, 7)
    failed = next(trial for trial in all_trials if trial.state.name == "FAIL")
    (retry,) = (trial for trial in all_trials if trial.user_attrs.get("again") == failed.number)
    assert retry.params == failed.params
    assert len({trial.params["lr"] for trial in all_trials}) == 6


LINES = ["<홍길동:PS>이 <서울:LC>에서 <3명:QT>을 만났다.", "<정부:OG>는 <지난해:DT> <부산:LC>에 갔다."] * 2


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Parameters of a small model, and an objective that trains it."""
    tiny = {"base_model": "scratch", "layers": 1, "hidden_size": 32, "heads": 2, "vocab_min_count": 1, "patience": 0}
    params = PARAMS.model_copy(update={**tiny, "batch_size": 2})
    sentences = [check(RawSentence(f"line {i}", str(i), annotated=line)) for i, line in enumerate(LINES)]
    base = tmp_path_factory.mktemp("training") / "base"
    prepare_base_model(params, sentences, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    windows = WindowDataset(align(sentences, tokenizer, params.max_length, params.stride, KLUE))

    def run(params, checkpoints, callback, *more):
        callbacks = [callback, *more]
        model = base.with_name("model")
        return train(params, base, KLUE, windows, windows, model, checkpoints, "trial", callbacks).best["f1"]

    return params, run


def test_a_trial_below_the_median_is_pruned(training, tmp_path, caplog):
    caplog.set_level("INFO")
    params, run = training
    # A rate of 0.01 learns at once, and 1e-9 never does.
    rates = iter([1e-2, 1e-2, 1e-9])
    study = sweep(tmp_path / "a", params=params, trials=3, startup_trials=1)
    study.run_trials(
        lambda values, checkpoints, callback: run(values.model_copy(update={"lr": next(rates)}), checkpoints, callback)
    )
    all_trials = trials(tmp_path / "a")
    assert [trial.state.name for trial in all_trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert [sorted(trial.intermediate_values) for trial in all_trials[:2]] == [[1, 2, 3, 4]] * 2
    assert max(all_trials[2].intermediate_values) < 4
    assert "sweep: trial 2: pruned after epoch" in caplog.text
    assert study.result().number in (0, 1)
    assert not [path for path in (tmp_path / "a").iterdir() if path.is_dir()]


class KillAfterEpoch(TrainerCallback):
    def on_epoch_begin(self, args, state, control, **kwargs):
        if round(state.epoch or 0) == 2:
            raise KilledError


def test_a_retried_trial_resumes_from_its_checkpoint_and_reports_every_epoch(training, tmp_path, caplog):
    caplog.set_level("INFO")
    params, run = training
    fast = {"params": params, "trials": 1, "search": {"lr": FloatDistribution(9e-3, 1e-2)}}
    sweep(tmp_path / "uninterrupted", **fast).run_trials(run)
    with pytest.raises(KilledError):
        sweep(tmp_path / "interrupted", **fast).run_trials(lambda *arguments: run(*arguments, KillAfterEpoch()))
    caplog.clear()
    sweep(tmp_path / "interrupted", **fast).run_trials(run)
    assert "resuming from" in caplog.text
    (uninterrupted,), (killed, resumed) = trials(tmp_path / "uninterrupted"), trials(tmp_path / "interrupted")
    assert sorted(killed.intermediate_values) == [1, 2]
    assert resumed.intermediate_values == uninterrupted.intermediate_values
    assert resumed.value == uninterrupted.value > 0
