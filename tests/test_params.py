import re

import pytest
from click.testing import CliRunner

from app.settings import Settings
from koner.cli.main import main
from koner.errors import KonerError
from koner.params import RECIPES, Params, load_params, switch_recipe
from koner.pretraining.params import PretrainParams
from koner.validation import allowed_values, read_yaml, validate


@pytest.fixture
def path(root, tmp_path):
    """A copy of the project's params.yaml, with fixed values for the parameters that tests combine."""
    copy = tmp_path / "params.yaml"
    copy.write_text((root / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    put(copy, hidden_size="256", heads="4", max_length="128", stride="32")
    return copy


def put(path, **values):
    """Replace the values of keys by the given text."""
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        text, count = re.subn(rf"^{key}: .*$", lambda _, k=key, v=value: f"{k}: {v}", text, flags=re.M)
        assert count == 1
    path.write_text(text, encoding="utf-8")


def refusal(path):
    with pytest.raises(KonerError) as error:
        load_params(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_the_file_of_the_project_is_valid(root):
    assert load_params(root / "params.yaml").recipe in RECIPES


@pytest.mark.parametrize(
    ("key", "text", "value", "allowed"),
    [
        ("epochs", "ten", "'ten'", "a whole number from 1 to 100000"),
        ("epochs", "true", "True", "a whole number from 1 to 100000"),
        ("epochs", "2.5", "2.5", "a whole number from 1 to 100000"),
        ("epochs", "0", "0", "a whole number from 1 to 100000"),
        ("epochs", "", "None", "a whole number from 1 to 100000"),
        ("batch_size", "[8]", "[8]", "a whole number from 1 to 65536"),
        ("batch_size", "'8'", "'8'", "a whole number from 1 to 65536"),
        ("seed", "-1", "-1", "a whole number from 0 to 4294967295"),
        ("seed", "4294967296", "4294967296", "a whole number from 0 to 4294967295"),
        ("augment", "2.0", "2.0", "a whole number from 0 to 100"),
        ("lr", "fast", "'fast'", "a number above 0, at most 1"),
        ("lr", "'5e-4'", "'5e-4'", "a number above 0, at most 1"),
        ("lr", "true", "True", "a number above 0, at most 1"),
        ("lr", "0", "0", "a number above 0, at most 1"),
        ("lr", "1.5", "1.5", "a number above 0, at most 1"),
        ("lr", ".nan", "nan", "a number above 0, at most 1"),
        ("lr", ".inf", "inf", "a number above 0, at most 1"),
        ("dropout", "1", "1", "a number from 0, below 1"),
        ("dropout", ".nan", "nan", "a number from 0, below 1"),
        ("development_share", "1.0", "1.0", "a number between 0 and 1"),
        ("protocol", "k-fold", "'k-fold'", "'holdout' or 'official'"),
        ("precision", "fp16", "'fp16'", "'auto', 'bf16' or 'fp32'"),
        ("source", "5", "5", "'sample', 'consult', a file, a folder, or a hub dataset's id"),
        ("source", "''", "''", "'sample', 'consult', a file, a folder, or a hub dataset's id"),
        ("source", "null", "None", "'sample', 'consult', a file, a folder, or a hub dataset's id"),
    ],
)
def test_a_bad_value_is_reported_with_key_value_and_allowed_values(path, key, text, value, allowed):
    put(path, **{key: text})
    assert refusal(path) == f"{key}: {value} is not allowed; it must be {allowed}"


def test_heads_must_divide_the_hidden_size(path):
    put(path, heads="3")
    assert refusal(path) == "heads: 3 is not allowed: it must divide hidden_size, 256"


@pytest.mark.parametrize("stride", [126, 128, 1000])
def test_stride_must_be_smaller_than_a_window(path, stride):
    put(path, stride=str(stride))
    assert refusal(path) == f"stride: {stride} is not allowed: it must be below max_length - 2, 126"


def test_the_largest_stride_is_allowed(path):
    put(path, stride="125")
    assert load_params(path).stride == 125


def test_an_unknown_key_is_reported_with_the_known_ones(path):
    with path.open("a", encoding="utf-8") as file:
        file.write("learning_rate: 0.1\n")
    message = refusal(path)
    assert message.startswith("learning_rate: 0.1 is set, but there is no such key; known keys are recipe, source, ")
    assert " lr, " in message


def test_a_missing_key_is_reported_with_its_allowed_values(path):
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^epochs: .*\n", "", text, flags=re.M), encoding="utf-8")
    assert refusal(path) == "epochs is missing; it must be a whole number from 1 to 100000"


@pytest.mark.parametrize("key", ["1", "null", "true", "2024-01-01", "[a]"])
def test_a_key_that_is_not_a_word_is_refused(path, key):
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{key}: 2\n")
    refusal(path)


@pytest.mark.parametrize("content", ["- lr\n- seed\n", "", "# nothing\n", "lr", "3"])
def test_a_file_that_is_not_a_mapping_is_refused(path, content):
    path.write_text(content, encoding="utf-8")
    assert refusal(path) == "the top level must be `key: value` lines"


def test_a_key_set_twice_is_refused_with_its_line(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("lr: 0.1\n")
    assert refusal(path) == f"{path}, line {lines + 1}: not valid YAML: the key 'lr' is there twice"


@pytest.mark.parametrize(
    ("content", "line"),
    [("lr: 0.1\nseed: [1\nepochs: 2\n", 3), ("lr: 0.1\n\tseed: 1\n", 2), ("lr: 0.1\n b: c: d\n", 2)],
)
def test_bad_yaml_is_refused_with_its_line(path, content, line):
    path.write_text(content, encoding="utf-8")
    assert refusal(path).startswith(f"{path}, line {line}: not valid YAML: ")


def test_a_file_that_is_not_utf_8_is_refused(path):
    path.write_bytes("recipe: 한국".encode("cp949"))
    assert refusal(path) == f"{path}, line 1: it is not UTF-8; save the file as UTF-8"


def test_a_missing_file_is_refused(path):
    path.unlink()
    assert refusal(path) == f"{path} is missing; run from the root of the repository"


@pytest.mark.parametrize("text", ["3e-05", "3e-5", "0.00003", "3.0e-5", "3E-05"])
def test_a_small_learning_rate_is_a_number(path, text):
    put(path, lr=text)
    lr = load_params(path).lr
    assert isinstance(lr, float)
    assert lr == 0.00003


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_every_parameter_but_the_seed(root, name):
    recipe = read_yaml(root / "koner" / "resources" / "recipes" / f"{name}.yaml")
    assert set(recipe) == set(Params.model_fields) - {"recipe", "seed"}
    validate({**recipe, "recipe": name, "seed": 1}, root, Params)


@pytest.mark.parametrize("name", RECIPES)
def test_the_file_and_the_recipes_hold_the_same_keys_in_the_same_order(root, name):
    recipe = list(read_yaml(root / "koner" / "resources" / "recipes" / f"{name}.yaml"))
    assert recipe == [key for key in read_yaml(root / "params.yaml") if key not in ("recipe", "seed")]


def test_every_parameter_is_tracked_by_a_stage_and_every_tracked_one_exists(root):
    stages = read_yaml(root / "dvc.yaml")["stages"]
    tracked = {name for stage in stages.values() for name in stage["params"] if isinstance(name, str)}
    # DVC hashes the path in `watch` itself, and the recipe's name has no effect.
    assert tracked == set(Params.model_fields) - {"recipe", "watch"}


def test_the_sentence_of_a_field_comes_from_its_type_and_bounds():
    assert allowed_values(Params.model_fields["heads"]) == "a whole number from 1 to 128 that divides hidden_size"
    assert allowed_values(Params.model_fields["weight_decay"]) == "a number from 0 to 1"
    assert allowed_values(Params.model_fields["legal"]) == "true or false"
    assert allowed_values(Params.model_fields["source_revision"]) == "a revision of the hub dataset, or null"


def test_every_field_has_a_sentence():
    for schema in (Params, PretrainParams, Settings):
        for name, field in schema.model_fields.items():
            assert allowed_values(field) not in ("", "None"), name


def comments(path):
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]


def test_switching_writes_the_recipe_s_values_and_keeps_comments_and_seed(path):
    put(path, recipe="mine", lr="0.125", seed="7", protocol="official")
    before = comments(path)
    changed = switch_recipe("klue", path)
    params = load_params(path)
    assert (params.source, params.base_model) == ("klue/klue", "klue/roberta-base")
    assert (params.lr, params.protocol, params.seed) == (2e-5, "holdout", 7)
    assert changed["recipe"] == ("mine", "klue")
    assert changed["lr"] == (0.125, 2e-5)
    assert "seed" not in changed
    assert before
    assert comments(path) == before


def test_the_file_names_its_recipe(path):
    switch_recipe("klue", path)
    assert path.read_text(encoding="utf-8").splitlines().count("recipe: klue") == 1


def test_switching_twice_changes_nothing_the_second_time(path):
    switch_recipe("klue", path)
    once = path.read_bytes()
    assert switch_recipe("klue", path) == {}
    assert path.read_bytes() == once


def test_switching_there_and_back_restores_the_file_byte_for_byte(path, root):
    # The file of the project; values that were changed in this checkout are reset to those of the recipe.
    path.write_bytes((root / "params.yaml").read_bytes())
    recipe = root / "koner" / "resources" / "recipes" / "sample.yaml"
    values, current = {**read_yaml(recipe), "recipe": "sample"}, read_yaml(path)
    spellings = dict(re.findall(r"^(\w+): (.*)$", recipe.read_text(encoding="utf-8"), flags=re.M)) | {
        "recipe": "sample"
    }
    put(path, **{key: spellings[key] for key in values if current[key] != values[key]})
    before = path.read_bytes()
    assert switch_recipe("klue", path)
    assert path.read_bytes() != before
    assert switch_recipe("sample", path)
    assert path.read_text(encoding="utf-8").splitlines() == before.decode().splitlines()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: None, id="unknown recipe"),
        pytest.param(lambda path: path.write_text("- lr\n", encoding="utf-8"), id="list"),
        pytest.param(lambda path: path.write_text("", encoding="utf-8"), id="empty"),
        pytest.param(lambda path: path.write_text("lr: [1\n", encoding="utf-8"), id="bad YAML"),
        pytest.param(lambda path: path.write_text("lr: 1\nlr: 2\n", encoding="utf-8"), id="duplicate key"),
        pytest.param(lambda path: put(path, seed="-1"), id="a bad value of a parameter that the recipe does not set"),
    ],
)
def test_a_switch_that_fails_leaves_the_file_untouched(path, spoil, request):
    spoil(path)
    before = path.read_bytes()
    name = "nothing" if "unknown recipe" in request.node.name else "klue"
    with pytest.raises(KonerError):
        switch_recipe(name, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["params.yaml"]


def test_an_unknown_recipe_is_reported_with_the_known_ones(path):
    with pytest.raises(KonerError, match="there is no recipe 'nothing'; there are sample, klue, consult"):
        switch_recipe("nothing", path)


def test_the_command_switches_and_reports_the_changes(path):
    put(path, recipe="mine", lr="0.125")
    result = CliRunner().invoke(main, ["recipe", "klue", "--params", str(path)])
    assert result.exit_code == 0
    assert "recipe: mine -> klue" in result.output.splitlines()
    assert "lr: 0.125 -> 2e-05" in result.output.splitlines()
    assert result.output.splitlines()[-1] == f"{path} now holds the recipe 'klue'; run `dvc repro`"
    assert load_params(path).recipe == "klue"


def test_the_command_reports_that_nothing_changed(path):
    switch_recipe("klue", path)
    result = CliRunner().invoke(main, ["recipe", "klue", "--params", str(path)])
    assert (result.exit_code, result.output) == (0, "already on 'klue'\n")


def test_the_command_refuses_an_unknown_recipe_in_one_sentence(path):
    before = path.read_bytes()
    result = CliRunner().invoke(main, ["recipe", "nothing", "--params", str(path)])
    assert (result.exit_code, result.output) == (
        1,
        "koner: there is no recipe 'nothing'; there are sample, klue, consult\n",
    )
    assert path.read_bytes() == before
