import numpy as np
import pyarrow as pa
import pytest

from koner.corpus import SENTENCE_SCHEMA, RawSentence, check, from_row, to_row
from koner.errors import KonerError
from koner.labels import TYPES
from koner.sources import read_checked, read_source
from koner.splitting import PARTS, assert_balanced, balance, outline, share_table
from koner.splitting import split as split_outlines

NONE = dict.fromkeys(TYPES, 0)


def retagged(annotated, id_="id"):
    return check(RawSentence("file:1", id_, annotated=annotated))


def batches_of(sentences):
    """The sentences as read from Parquet, in batches that end anywhere."""
    rows = list(map(to_row, sentences))
    return [pa.RecordBatch.from_pylist(rows[i : i + 7], SENTENCE_SCHEMA) for i in range(0, len(rows), 7)]


def split(train, validation, protocol, share, seed):
    published = {"train": batches_of(train), "validation": batches_of(validation)}
    outlines = [outline(published[part]) for part in ("train", "validation")]
    parts, removed = split_outlines(*outlines, protocol, share, seed)
    rows = {part: chosen.rows(published[chosen.published]) for part, chosen in parts.items()}
    return {part: [from_row(r) for b in found for r in b.to_pylist()] for part, found in rows.items()}, removed


def numbered(count, prefix="문장"):
    return [retagged(f"{prefix} <{i}:QT>", f"{prefix}{i}") for i in range(count)]


def texts(sentences):
    return [r.text for r in sentences]


def ids(sentences):
    return [r.id for r in sentences]


def test_official_takes_the_published_validation_for_development_and_test():
    train, validation = numbered(5), numbered(3, "검증")
    parts, removed = split(train, validation, "official", 0.5, 1)
    assert parts == {"train": train, "development": validation, "test": validation}
    assert removed == {"of_test": 0, "of_development": 0}


def test_holdout_carves_development_out_of_train():
    train, validation = numbered(100), numbered(3, "검증")
    parts, removed = split(train, validation, "holdout", 0.2, 1)
    assert (len(parts["train"]), len(parts["development"])) == (80, 20)
    assert sorted(ids(parts["train"]) + ids(parts["development"])) == sorted(ids(train))
    assert parts["test"] == validation
    assert removed == {"of_test": 0, "of_development": 0}


@pytest.mark.parametrize("protocol", ["official", "holdout"])
def test_what_stands_in_the_test_is_removed_from_the_rest(protocol):
    validation = numbered(3, "검증")
    copies = [retagged("검증 1", "copy with other tags"), retagged("검증 <2:QT>", "copy")]
    parts, removed = split([*numbered(40), *copies], validation, protocol, 0.25, 1)
    assert removed["of_test"] == 2
    assert not set(texts(parts["train"])) & set(texts(validation))
    assert not {"copy", "copy with other tags"} & set(ids(parts["development"]))


def test_what_stands_in_development_is_removed_from_train():
    twins = numbered(40) + [retagged(f"문장 <{i}:QT>", f"twin{i}") for i in range(40)]
    parts, removed = split(twins, numbered(3, "검증"), "holdout", 0.5, 1)
    assert not set(texts(parts["train"])) & set(texts(parts["development"]))
    assert removed["of_development"] > 0
    assert len(parts["train"]) + len(parts["development"]) + removed["of_development"] == 80


def test_a_seed_reproduces_its_split_and_another_gives_another():
    train, validation = numbered(200), numbered(3, "검증")
    first, again, other = (split(train, validation, "holdout", 0.1, seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert set(ids(first["development"])) != set(ids(other["development"]))


def test_parts_keep_the_order_of_their_source():
    parts, _ = split(numbered(60), numbered(3, "검증"), "holdout", 0.3, 1)
    for part in ("train", "development"):
        numbers = [int(id_.removeprefix("문장")) for id_ in ids(parts[part])]
        assert numbers == sorted(numbers)


def test_holdout_of_too_few_sentences_is_refused():
    train = [*numbered(19), retagged("검증 <0:QT>")]
    with pytest.raises(KonerError, match=r"'holdout' needs at least 20 training sentences.*; there are 19"):
        split(train, numbered(3, "검증"), "holdout", 0.1, 1)


def test_holdout_of_just_enough_sentences_is_made():
    parts, _ = split(numbered(20), numbered(3, "검증"), "holdout", 0.1, 1)
    assert all(parts[part] for part in PARTS)


@pytest.mark.parametrize(
    ("train", "validation", "part"), [(numbered(3), [], "development"), (numbered(3), numbered(3), "train")]
)
def test_an_empty_part_is_refused(train, validation, part):
    with pytest.raises(KonerError, match=f"the part '{part}' is empty after the split"):
        split(train, validation, "official", 0.1, 1)


def test_stratification_keeps_the_rate_of_every_type_on_the_sample():
    sample = read_checked(read_source("sample", "ner", None))
    train, validation = (sample[part] for part in ("train", "validation"))
    parts, _ = split(train, validation, "holdout", 0.1, 42)

    def rates(sentences):
        present = [{e.label for e in r.entities} for r in sentences]
        rate = {type_: sum(type_ in types for types in present) / len(present) for type_ in TYPES}
        return rate | {"none": sum(not types for types in present) / len(present)}

    assert len(parts["development"]) == pytest.approx(0.1 * len(train), rel=0.05)
    assert rates(parts["development"]) == pytest.approx(rates(parts["train"]), abs=0.03)


def test_types_are_counted_by_mention():
    found = outline(batches_of([retagged("<김:PS> <이:PS> <서울:LC>"), retagged("비"), retagged("<김:PS>")]))
    assert found.type_counts(np.array([True, True, True])) == NONE | {"PS": 3, "LC": 1}
    assert found.type_counts(np.array([False, True, True])) == NONE | {"PS": 1}


@pytest.mark.parametrize(
    ("a", "b", "divergence"),
    [
        pytest.param({"PS": 10}, {"LC": 3}, 1, id="disjoint"),
        pytest.param({"PS": 10, "LC": 20}, {"PS": 10, "LC": 20}, 0, id="identical"),
        pytest.param({"PS": 10, "LC": 20}, {"PS": 1, "LC": 2}, 0, id="identical shares"),
        # Of (1, 0) and (1/2, 1/2), the mean being (3/4, 1/4): (log2(4/3) + log2(2/3) / 2 + log2(2) / 2) / 2.
        pytest.param({"PS": 10}, {"PS": 5, "LC": 5}, 0.311278, id="half shared"),
        pytest.param({"PS": 10}, {}, 1, id="one without entities"),
    ],
)
def test_divergence(a, b, divergence):
    assert balance({"train": NONE | a, "test": NONE | b})["divergence"] == {"train_test": divergence}


def test_divergence_is_told_of_each_pair_and_shares_of_each_part():
    found = balance({"train": NONE | {"PS": 1}, "development": NONE | {"PS": 4}, "test": NONE | {"LC": 1, "OG": 3}})
    assert found["divergence"] == {"train_development": 0, "train_test": 1, "development_test": 1}
    assert found["share"]["test"] == NONE | {"LC": 0.25, "OG": 0.75}


def test_homogeneity_is_tested_by_chi_squared():
    a, b = {"PS": 10, "LC": 20, "OG": 30}, {"PS": 20, "LC": 20, "OG": 20}
    # Expected 15, 20 and 25 in each: 2 · 25/15 + 0 + 2 · 25/25; with two degrees of freedom p = exp(-chi²/2).
    found = balance({"train": NONE | a, "test": NONE | b})["homogeneity"]
    assert found == {"chi2": 5.3333, "degrees_of_freedom": 2, "p_value": 0.069483}


@pytest.mark.parametrize("b", [{}, {"PS": 3}])
def test_homogeneity_is_left_out_where_it_means_nothing(b):
    assert balance({"train": NONE | {"PS": 1}, "test": NONE | b})["homogeneity"] is None


def test_parts_that_differ_too_much_are_refused_with_the_table():
    counts = {"train": NONE | {"PS": 10}, "development": NONE | {"PS": 9}, "test": NONE | {"PS": 5, "LC": 5}}
    with pytest.raises(KonerError) as told:
        assert_balanced(balance(counts), counts, 0.02)
    sentence, header, *rows = str(told.value).splitlines()
    assert sentence == (
        "the parts train and test differ in their entity types by 0.3113 bits, more than max_divergence, 0.02:"
    )
    assert header.split() == ["part", "DT", "LC", "OG", "PS", "QT", "TI"]
    assert [row.split() for row in rows] == [
        ["train", "0", "0.0%", "0", "0.0%", "0", "0.0%", "10", "100.0%", "0", "0.0%", "0", "0.0%"],
        ["development", "0", "0.0%", "0", "0.0%", "0", "0.0%", "9", "100.0%", "0", "0.0%", "0", "0.0%"],
        ["test", "0", "0.0%", "5", "50.0%", "0", "0.0%", "5", "50.0%", "0", "0.0%", "0", "0.0%"],
    ]


def test_parts_at_the_threshold_are_let_through():
    counts = {"train": NONE | {"PS": 10}, "test": NONE | {"LC": 10}}
    assert_balanced(balance(counts), counts, 1.0)


def test_the_share_table_has_a_row_for_each_type_and_part():
    rows = share_table({"train": NONE | {"PS": 2 / 3}, "test": NONE | {"PS": 1.0}})
    assert len(rows) == 12
    assert {"part_type": "PS train", "percent": 66.67} in rows
    assert {"part_type": "PS test", "percent": 100.0} in rows
