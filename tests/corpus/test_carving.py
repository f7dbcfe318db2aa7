import os
import subprocess
import sys

import pytest

from koner.corpus.carving import carve_test
from koner.corpus.checks import RawSentence, check
from koner.corpus.sentences import SENTENCE_SCHEMA, sentence_batches
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet
from koner.storage.parquet import write_batches


def store(path, annotated):
    sentences = [check(RawSentence("", f"s-{i}", annotated=line)) for i, line in enumerate(annotated)]
    write_batches(path, sentence_batches(sentences), SENTENCE_SCHEMA)
    return sentences


def test_a_test_part_is_drawn_with_every_type_at_its_rate(tmp_path):
    lines = [f"<{i}:QT> 개" if i % 2 else f"<서울 {i}:LC>에" for i in range(200)]
    sentences = store(tmp_path / "a.parquet", lines)
    parts = {part: list(stream) for part, stream in carve_test(tmp_path / "a.parquet", KLUE, 0.1, 1).items()}
    assert sorted(s.id for s in parts["train"] + parts["test"]) == sorted(s.id for s in sentences)
    assert len(parts["test"]) == 20
    assert sum(s.entities[0].label == "QT" for s in parts["test"]) == 10


def test_a_seed_reproduces_the_draw(tmp_path):
    store(tmp_path / "a.parquet", [f"<{i}:QT> 개" for i in range(60)])
    first, again, other = (
        [s.id for s in carve_test(tmp_path / "a.parquet", KLUE, 0.2, seed)["test"]] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_every_process_draws_the_same_part(tmp_path):
    store(tmp_path / "a.parquet", [f"<{i % 50}:QT> 개" for i in range(60)])
    code = (
        "import sys; from pathlib import Path; from koner.corpus.carving import carve_test; "
        "from koner.labels.klue import KLUE; "
        "print([s.id for s in carve_test(Path(sys.argv[1]), KLUE, 0.2, 1)['test']])"
    )
    drawn = {
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "a.parquet"],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(drawn) == 1


def test_sentences_of_one_text_stay_in_one_part(tmp_path):
    store(tmp_path / "a.parquet", [f"<{i % 40}:QT> 개" for i in range(120)])
    parts = {
        part: {s.text for s in stream} for part, stream in carve_test(tmp_path / "a.parquet", KLUE, 0.2, 1).items()
    }
    assert parts["train"].isdisjoint(parts["test"])


def test_a_part_of_too_few_sentences_is_refused(tmp_path):
    store(tmp_path / "a.parquet", ["<서울:LC>"] * 100)
    with pytest.raises(KonerError, match="the source has one part of 1 different sentences; at least 20 are needed"):
        carve_test(tmp_path / "a.parquet", KLUE, 0.2, 1)


def test_a_part_of_types_that_occur_in_one_sentence_only_is_refused(tmp_path):
    store(tmp_path / "a.parquet", [f"<{i}:T{i}>" for i in range(30)])
    labels = LabelSet(tuple(f"T{i}" for i in range(30)))
    with pytest.raises(KonerError, match="30 different sentences, 0 of them without a type that only they have; at"):
        carve_test(tmp_path / "a.parquet", labels, 0.2, 1)
