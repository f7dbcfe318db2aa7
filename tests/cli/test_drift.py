"""`koner drift` as users run it, with its worker processes."""

import json

import pytest
from click.testing import CliRunner

from koner.cli.main import main
from tests.inference.table_model import write_model

MARKED = ["<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.", "<R&D:OG>에 <3명:QT> 왔다."]
REFERENCE = ["홍길동은 지난해 서울에 갔다.", "홍길동은 갔다."] * 50
OTHER = ["R&D에 왔다 쀍뛟", "R&D에 3명 왔다 쀍"] * 50


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return folder


def write(path, texts):
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def drift(model, *arguments):
    options = ["--model", str(model), "--device", "cpu", "--workers", "1"]
    return CliRunner().invoke(main, ["drift", *map(str, arguments), *options])


def test_other_texts_are_reported(model, tmp_path):
    reference = write(tmp_path / "reference.txt", REFERENCE)
    result = drift(model, reference, write(tmp_path / "texts.txt", [*OTHER, " "]))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("reference: 100 rows; ")
    assert lines[0].endswith(" tokens, 0 unknown")
    assert lines[1].startswith("texts: 101 rows, 1 blank; ")
    assert lines[1].endswith(" tokens, 150 unknown")
    rows = {line[:28].strip(): line.split()[-1] for line in lines if line.endswith(("none", "moderate", "large"))}
    assert rows["types of entities"] == rows["texts with an unknown token"] == "large"
    assert lines[-1].startswith("The texts differ from the reference in: ")


def test_json_has_the_figures(model, tmp_path):
    reference = write(tmp_path / "reference.txt", REFERENCE)
    value = json.loads(drift(model, reference, reference, "--json").stdout)
    assert [(d["psi"], d["size"]) for d in value["differences"]] == [(0, "none")] * 4
    assert value["conclusion"].startswith("No drift: ")
    characters = sum(map(len, REFERENCE))
    assert value["types"]["PS"] == pytest.approx([1000 * 100 / characters] * 2)


def test_faults_are_one_sentence(model, tmp_path):
    few, enough = write(tmp_path / "few.txt", REFERENCE[:5]), write(tmp_path / "enough.txt", REFERENCE)
    refused = drift(model, few, enough)
    assert (refused.exit_code, refused.stdout) == (
        1,
        "koner: REFERENCE has 5 texts; a comparison needs at least 30\n",
    )
    missing = drift(model, enough, tmp_path / "none.txt")
    assert missing.exit_code == 1
    assert missing.stdout.endswith("none.txt can't be read: the file or folder does not exist\n")
