from dataclasses import astuple, replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from koner.errors import KonerError
from koner.params import load_params
from koner.sweep.plan import SWEEPABLE, load_plan
from koner.validation import read_yaml

HEAD = "study: s\ntrials: 4\nstartup_trials: 2\nwarmup_epochs: 1\nseed: 7\n"


@pytest.fixture
def plan(root, tmp_path):
    def read(search, head=HEAD):
        path = tmp_path / "sweep.yaml"
        path.write_text(head + search)
        return load_plan(path, load_params(root / "params.yaml"))

    return read


def test_the_shipped_plan_is_valid(root):
    sweep_plan = load_plan(root / "sweep.yaml", load_params(root / "params.yaml"))
    assert set(sweep_plan.search) <= set(SWEEPABLE)


def test_the_sweepable_parameters_are_those_of_training_alone(root):
    stages = read_yaml(root / "dvc.yaml")["stages"]
    # The entries that are not names are package versions, from another file.
    names = {stage: {name for name in stages[stage]["params"] if isinstance(name, str)} for stage in stages}
    earlier = names["prepare"] | names["retag"] | names["split"]
    # The numbers of checkpoints and of processes do not change the model.
    assert set(SWEEPABLE) == names["train"] - earlier - {
        "keep_checkpoints",
        "processes",
        "machines",
        "sharding",
    }


def test_ranges_and_choices_have_the_types_of_their_parameters(plan):
    sweep_plan = plan(
        "search:\n"
        "  lr: {low: 1e-5, high: 1e-3, log: true}\n"
        "  dropout: {low: 0, high: 0.3, step: 0.1}\n"
        "  batch_size: {low: 8, high: 64, log: true}\n"
        "  epochs: {low: 2, high: 8, step: 3}\n"
        "  weight_decay: {choices: [0, 0.1]}\n"
        "  batching: {choices: [packed, padded]}\n"
    )
    assert sweep_plan.search == {
        "lr": FloatDistribution(1e-5, 1e-3, log=True),
        "dropout": FloatDistribution(0.0, 0.3, step=0.1),
        "batch_size": IntDistribution(8, 64, log=True),
        "epochs": IntDistribution(2, 8, step=3),
        "weight_decay": CategoricalDistribution([0.0, 0.1]),
        "batching": CategoricalDistribution(["packed", "padded"]),
    }
    assert astuple(replace(sweep_plan, search={}))[:5] == ("s", 4, 2, 1, 7)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "learning_rate: {low: 1, high: 2}",
            "search.learning_rate: there is no such parameter; it can be one of augme",
        ),
        ("layers: {low: 1, high: 2}", "search.layers: all trials of a sweep share the base model and the data"),
        ("seed: {low: 1, high: 2}", "search.seed: all trials of a sweep share"),
        ("lr: {low: 1e-3, high: 1e-5}", "search.lr: low, 0.001, is above high, 1e-05"),
        (
            "lr: {low: 1e-3, high: fast}",
            "search.lr.high: 'fast' is not allowed; it must be a number above 0, at most 1",
        ),
        ("lr: {low: 0, high: 1}", "search.lr.low: 0 is not allowed; it must be a number above 0"),
        ("epochs: {low: 1.5, high: 2}", "search.epochs.low: 1.5 is not allowed; it must be a whole number from 1"),
        ("epochs: {low: true, high: 2}", "search.epochs.low: True is not allowed"),
        ("dropout: {low: 0, high: 0.1, log: true}", "search.dropout.log: low must be above 0 for a logarithmic range"),
        ("dropout: {low: 0, high: 0.1, log: 1}", "search.dropout.log: 1 is not allowed; it must be true or false"),
        (
            "dropout: {low: 0, high: 0.1, step: .inf}",
            "search.dropout.step: inf is not allowed; it must be above 0, in numbers",
        ),
        (
            "dropout: {low: 0, high: 0.1, step: 0}",
            "search.dropout.step: 0 is not allowed; it must be above 0, in numbers",
        ),
        (
            "epochs: {low: 1, high: 4, step: 1.5}",
            "search.epochs.step: 1.5 is not allowed; it must be above 0, in whole",
        ),
        ("epochs: {low: 1, high: 4, step: 2}", "search.epochs.step: 2 does not divide the range from 1 to 4 evenly"),
        ("lr: {low: 1e-4, high: 1e-2, log: true, step: 1e-4}", "search.lr: log and step can't be combined"),
        ("batching: {low: 1, high: 2}", r"search.batching: it must be {choices: \[...\]}"),
        (
            "batching: {choices: [packed, short]}",
            "search.batching.choices: 'short' is not allowed; it must be 'packed'",
        ),
        ("batching: {choices: []}", r"search.batching.choices: \[\] is not allowed; it must be a list"),
        ("batch_size: {choices: [8, 8]}", "search.batch_size.choices: a value is listed twice"),
        ("lr: 3e-5", "search.lr: it must be {low: ..., high: ...}"),
        ("lr: {low: 1e-5}", "search.lr: it must be {low: ..., high: ...}"),
        ("lr: {low: 1e-5, high: 1e-3, logg: true}", "search.lr: it must be {low: ..., high: ...}"),
    ],
)
def test_an_invalid_search_raises_an_error_that_names_the_field(plan, line, message):
    with pytest.raises(KonerError, match=rf"sweep.yaml: {message}"):
        plan(f"search:\n  {line}\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("study: s", "study: ../s", "study: '../s' is not allowed; it must be a name of ASCII letters"),
        ("trials: 4", "trials: 0", "trials: 0 is not allowed; it must be a whole number from 1"),
        ("seed: 7\n", "", "seed is missing; it must be a whole number from 0"),
        ("seed: 7", "seed: 7\nepochs: 3", "epochs: 3 is set, but there is no such key"),
    ],
)
def test_an_invalid_setting_raises_an_error(plan, old, new, message):
    with pytest.raises(KonerError, match=f"sweep.yaml: {message}"):
        plan("search:\n  lr: {low: 1e-5, high: 1e-3}\n", HEAD.replace(old, new))


@pytest.mark.parametrize("search", ["search: {}\n", "search: lr\n"])
def test_a_search_without_parameters_raises_an_error(plan, search):
    with pytest.raises(KonerError, match=r"sweep.yaml: search: .* is not allowed; it must be parameters"):
        plan(search)
