import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from transformers import AutoTokenizer, TrainerCallback

from koner.alignment import retag
from koner.base_model import prepare_base_model
from koner.corpus import RawSentence, check
from koner.errors import KonerError
from koner.params import load_params
from koner.sweep import Sweep
from koner.sweep_plan import SweepPlan
from koner.training import train
from koner.windows import WindowDataset

SEARCH = {"lr": FloatDistribution(1e-5, 1e-2, log=True), "batch_size": CategoricalDistribution([2, 4, 8])}
PARAMS = load_params(Path(__file__).parent.parent / "params.yaml").model_copy(update={"epochs": 4, "lr": 1e-3})


def plan(trials=8, startup_trials=3, seed=1, search=SEARCH):
    return SweepPlan("s", trials, startup_trials, 0, seed, search)


def sweep(folder, params=PARAMS, **changes):
    data = folder.parent / "data"
    data.mkdir(exist_ok=True)
    (data / "a").write_text("1")
    return Sweep(plan(**changes), params, [data], folder)


def score(params):
    """Stands for training: best at a learning rate of 1e-3 and the largest batch."""
    return 1 / (1 + abs(torch.log10(torch.tensor(params.lr * 1e3)).item())) * params.batch_size / 8


def scored(params, checkpoints, reports):
    return score(params)


def trials(folder):
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/trials.db")
    return study.get_trials()


def drawn(folder):
    """The parameters of the trials that weren't begun again, in the order they were first drawn."""
    again = {trial.user_attrs.get("again") for trial in trials(folder)}
    return [trial.params for trial in trials(folder) if trial.number not in again]


def test_the_seed_draws_the_trials_and_every_parameter_on_its_own(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sweep(tmp_path / name, seed=seed).work(scored)
    assert len(drawn(tmp_path / "a")) == 8
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b") != drawn(tmp_path / "c")
    assert len({params["lr"] for params in drawn(tmp_path / "a")}) == 8


def test_the_best_trial_is_given_as_a_command_and_the_earlier_of_equals(tmp_path):
    one = sweep(tmp_path / "a")
    one.work(scored)
    best = max(drawn(tmp_path / "a"), key=lambda found: score(PARAMS.model_copy(update=found)))
    assert one.result().params == best
    assert one.result().command == f"dvc exp run -S lr={best['lr']} -S batch_size={best['batch_size']}"
    assert one.result().ended == {"ran to the end": 8, "ended early": 0, "failed": 0, "still running": 0}
    same = sweep(tmp_path / "b")
    same.work(lambda params, checkpoints, reports: 0.5)
    assert same.result().number == 0


def test_more_trials_go_on_where_the_fewer_ended(tmp_path):
    sweep(tmp_path / "a").work(scored)
    sweep(tmp_path / "b", trials=3).work(scored)
    sweep(tmp_path / "b", trials=8).work(scored)
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")


def test_what_was_drawn_before_is_not_trained_again(tmp_path):
    ran = []
    one = sweep(tmp_path / "a", search={"batch_size": CategoricalDistribution([2, 4])}, trials=6)
    one.work(lambda params, checkpoints, reports: ran.append(params.batch_size) or score(params))
    assert sorted(ran) == [2, 4]
    assert one.result().ended["ran to the end"] == 6


class KilledError(BaseException):
    """Stands for the kill of a process."""


def test_an_interrupted_sweep_goes_on_with_the_trial_and_ends_as_an_unbroken_one(tmp_path):
    sweep(tmp_path / "unbroken").work(scored)
    seen = []

    def killed(params, checkpoints, reports):
        if len(seen) == 4:
            checkpoints.mkdir()
            (checkpoints / "half").write_text("")
            raise KilledError
        seen.append(params.lr)
        return score(params)

    with pytest.raises(KilledError):
        sweep(tmp_path / "broken").work(killed)
    kept = []

    def goes_on(params, checkpoints, reports):
        kept.append((checkpoints / "half").exists())
        return score(params)

    sweep(tmp_path / "broken").work(goes_on)
    assert kept == [True, False, False, False]
    assert drawn(tmp_path / "broken") == drawn(tmp_path / "unbroken")
    assert not [path for path in (tmp_path / "broken").iterdir() if path.is_dir()]


def test_a_trial_that_kills_its_process_every_time_is_given_up(tmp_path):
    def killed(params, checkpoints, reports):
        raise KilledError

    for _ in range(3):
        with pytest.raises(KilledError):
            sweep(tmp_path / "a", trials=2).work(killed)
    one = sweep(tmp_path / "a", trials=2)
    one.work(scored)
    assert one.result().ended == {"ran to the end": 1, "ended early": 0, "failed": 1, "still running": 0}
    assert len({trial.params["lr"] for trial in trials(tmp_path / "a")}) == 2


def test_a_trial_that_gets_on_is_begun_as_often_as_need_be(tmp_path):
    """Whether it is Ctrl-C that ends the process, or a kill after another epoch."""

    def interrupted(params, checkpoints, reports):
        raise KeyboardInterrupt

    def evaluated(params, checkpoints, reports):
        state, arguments = SimpleNamespace(epoch=1.0), SimpleNamespace(num_train_epochs=4)
        reports.on_evaluate(arguments, state, None, {"eval_f1": 0.5})
        raise KilledError

    for run, raised in ((interrupted, KeyboardInterrupt), (evaluated, KilledError)) * 2:
        with pytest.raises(raised):
            sweep(tmp_path / "a", trials=1).work(run)
    one = sweep(tmp_path / "a", trials=1)
    one.work(scored)
    assert one.result().ended["ran to the end"] == 1


def test_a_trial_too_large_for_the_gpu_fails_alone(tmp_path, capsys):
    def small_gpu(params, checkpoints, reports):
        if params.batch_size == 8:
            raise torch.OutOfMemoryError
        return score(params)

    one = sweep(tmp_path / "a")
    one.work(small_gpu)
    ended = one.result().ended
    assert ended["failed"] == sum(params["batch_size"] == 8 for params in drawn(tmp_path / "a")) > 0
    assert sum(ended.values()) == 8
    assert "failed: the GPU has too little memory for it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: sweep(folder, params=PARAMS.model_copy(update={"dropout": 0.2})),
            r"fixed parameters \(dropout",
        ),
        (lambda folder: sweep(folder, search={"lr": SEARCH["lr"]}), r"search \(batch_size\)"),
        (lambda folder: Sweep(plan(), PARAMS, [folder], folder.parent / "a"), r"data \("),
    ],
)
def test_trials_of_another_setting_are_not_mixed_in(tmp_path, change, said):
    sweep(tmp_path / "a").work(scored)
    with pytest.raises(KonerError, match=rf"holds trials with another {said}"):
        change(tmp_path / "a")
    # What is searched and what comes after training may change in params.yaml.
    sweep(tmp_path / "a", params=PARAMS.model_copy(update={"lr": 0.5, "serve_precision": "fp32"}))


def test_a_file_that_is_no_study_is_one_sentence(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "trials.db").write_text("not a database, " * 100)
    with pytest.raises(KonerError, match=r"trials.db can't be read or written as a study: .*not a database"):
        sweep(tmp_path / "a")


WORKER = """
import sys, time
from tests.test_sweep import *
def slow(params, checkpoints, reports):
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))
    return score(params)
sweep(Path(sys.argv[1]), trials=6).work(slow)
"""


def start(root, folder, seconds):
    command = [sys.executable, "-c", WORKER, str(folder), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)


def begun(worker):
    for line in worker.stdout:
        if line == "begun\n":
            return
    raise AssertionError("the worker ended")


def test_two_workers_share_a_study_and_a_killed_ones_trial_is_begun_again(root, tmp_path):
    """Nothing is lost and nothing tried twice, though one of the two is killed in the middle of a trial."""
    sweep(tmp_path / "a", trials=6)
    with start(root, tmp_path / "a", 600) as killed, start(root, tmp_path / "a", 0.3) as other:
        begun(killed)
        begun(other)
        os.kill(killed.pid, signal.SIGKILL)
        rest = other.stdout.read()
        assert other.wait() == 0
    assert rest.count("begun") >= 4
    found = trials(tmp_path / "a")
    states = [trial.state.name for trial in found]
    assert (states.count("COMPLETE"), states.count("FAIL"), len(states)) == (6, 1, 7)
    failed = next(trial for trial in found if trial.state.name == "FAIL")
    (retry,) = (trial for trial in found if trial.user_attrs.get("again") == failed.number)
    assert retry.params == failed.params
    assert len({trial.params["lr"] for trial in found}) == 6


LINES = ["<홍길동:PS>이 <서울:LC>에서 <3명:QT>을 만났다.", "<정부:OG>는 <지난해:DT> <부산:LC>에 갔다."] * 2


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Real training of a small model, as a sweep runs it."""
    tiny = {"base_model": "scratch", "layers": 1, "hidden_size": 32, "heads": 2, "vocab_min_count": 1, "patience": 0}
    params = PARAMS.model_copy(update={**tiny, "batch_size": 2})
    sentences = [check(RawSentence(f"line {i}", str(i), annotated=line)) for i, line in enumerate(LINES)]
    base = tmp_path_factory.mktemp("training") / "base"
    prepare_base_model(params, sentences, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    windows = WindowDataset(retag(sentences, tokenizer, params.max_length, params.stride))

    def run(changed, checkpoints, reports, *more):
        callbacks = [reports, *more]
        model = base.with_name("model")
        return train(changed, base, windows, windows, model, checkpoints, "trial", callbacks).best["f1"]

    return params, run


def test_a_trial_that_falls_behind_the_median_ends_early(training, tmp_path, capsys):
    params, run = training
    # The good ones come first: 0.01 learns at once, 1e-9 never does.
    rates = iter([1e-2, 1e-2, 1e-9])
    one = sweep(tmp_path / "a", params=params, trials=3, startup_trials=1)
    one.work(
        lambda changed, checkpoints, reports: run(changed.model_copy(update={"lr": next(rates)}), checkpoints, reports)
    )
    found = trials(tmp_path / "a")
    assert [trial.state.name for trial in found] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert [sorted(trial.intermediate_values) for trial in found[:2]] == [[1, 2, 3, 4]] * 2
    assert max(found[2].intermediate_values) < 4
    assert "sweep: trial 2: fell behind, ended after epoch" in capsys.readouterr().out
    assert one.result().number in (0, 1)
    assert not [path for path in (tmp_path / "a").iterdir() if path.is_dir()]


class KillAfterEpoch(TrainerCallback):
    def on_epoch_begin(self, args, state, control, **kwargs):
        if round(state.epoch or 0) == 2:
            raise KilledError


def test_a_trial_that_is_begun_again_goes_on_from_its_checkpoint_and_tells_every_epoch(training, tmp_path, capsys):
    params, run = training
    fast = {"params": params, "trials": 1, "search": {"lr": FloatDistribution(9e-3, 1e-2)}}
    sweep(tmp_path / "unbroken", **fast).work(run)
    with pytest.raises(KilledError):
        sweep(tmp_path / "broken", **fast).work(lambda *given: run(*given, KillAfterEpoch()))
    capsys.readouterr()
    sweep(tmp_path / "broken", **fast).work(run)
    assert "goes on from" in capsys.readouterr().out
    (unbroken,), (killed, resumed) = trials(tmp_path / "unbroken"), trials(tmp_path / "broken")
    assert sorted(killed.intermediate_values) == [1, 2]
    assert resumed.intermediate_values == unbroken.intermediate_values
    assert resumed.value == unbroken.value > 0
