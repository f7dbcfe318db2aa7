import pytest
from ruamel.yaml import YAML

from koner.errors import KonerError
from koner.pretraining.params import PretrainParams, load_pretrain_params


def test_the_file_has_every_parameter(root):
    text = (root / "stages/pretrain/params.yaml").read_text(encoding="utf-8")
    load_pretrain_params(root / "stages/pretrain/params.yaml")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert {line.partition(":")[0] for line in lines} == set(PretrainParams.model_fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": "fast"}, "lr: 'fast' is not allowed; it must be a number above 0, at most 1"),
        ({"texts": []}, r"texts: \[\] is not allowed; it must be a list of files"),
        ({"repeats": [1]}, "repeats: 1 numbers for 2 texts; give one for each"),
        ({"heads": 3}, "heads: 3 is not allowed: it must divide hidden_size, 256"),
        (
            {"steps": 9, "warmup_steps": 2, "decay_steps": 8},
            "warmup_steps: 2 and decay_steps: 8 are more than the 9 steps",
        ),
        ({"steps": 9, "warmup_steps": 10, "schedule": "linear"}, "warmup_steps: 10 are more than the 9 steps"),
        ({"learning_rate": 1}, "learning_rate: 1 is set, but there is no such key"),
    ],
)
def test_a_wrong_parameter_is_reported(root, tmp_path, changes, message):
    yaml = YAML()
    values = yaml.load((root / "stages/pretrain/params.yaml").read_text(encoding="utf-8"))
    values.update(changes)
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(values, file)
    with pytest.raises(KonerError, match=f"params.yaml: {message}"):
        load_pretrain_params(tmp_path / "params.yaml")
