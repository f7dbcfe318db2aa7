import pytest

from koner.audit.folds import assign_folds, read_folds, write_folds
from koner.errors import KonerError
from koner.labels.label_set import LabelSet
from tests.audit.corpus import sentences

LABELS = LabelSet.of(["LC", "PS", "DT"])
LINES = [f"<이름{i}:PS>은 <곳{i}:LC>에 갔다." for i in range(20)] + [f"{i}번은 없다." for i in range(20)]


def test_every_fold_has_every_type_and_texts_stay_together():
    corpus = sentences(*LINES, *LINES[:10])
    folds = assign_folds(corpus, LABELS, [1, 2, 7], seed=3)
    assert set(folds) == {1, 2, 7}
    assert folds[40:].tolist() == folds[:10].tolist()
    for fold in (1, 2, 7):
        held_out = {e.label for s, f in zip(corpus, folds, strict=True) if f == fold for e in s.entities}
        assert held_out == {"PS", "LC"}


def test_the_seed_decides_the_folds():
    corpus = sentences(*LINES)
    first, second, other = (assign_folds(corpus, LABELS, [1, 2], seed).tolist() for seed in (1, 1, 2))
    assert first == second != other


def test_more_folds_than_texts_of_a_type_are_refused():
    corpus = sentences(*LINES, "<어제:DT> 갔다.", "<어제:DT> 갔다.", "<오늘:DT> 갔다.")
    with pytest.raises(KonerError, match=r"^folds: 3 is not allowed: the type DT is in 2 different sentences only"):
        assign_folds(corpus, LABELS, [1, 2, 3], seed=1)


def test_folds_are_stored(tmp_path):
    corpus = sentences(*LINES)
    folds = assign_folds(corpus, LABELS, [1, 2], seed=1)
    write_folds(tmp_path / "folds.parquet", corpus, folds)
    assert read_folds(tmp_path / "folds.parquet").tolist() == folds.tolist()
