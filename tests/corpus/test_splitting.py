import numpy as np
import pyarrow as pa
import pytest

from koner.corpus.checks import RawSentence, check
from koner.corpus.parts import SPLIT_PARTS
from koner.corpus.sentences import SENTENCE_SCHEMA, from_row, to_row
from koner.corpus.sources import read_checked, read_source
from koner.corpus.splitting import balance, check_balance, count_unique, share_table, summarize
from koner.corpus.splitting import split as split_summaries
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet

NONE = dict.fromkeys(KLUE.types, 0)


def sentence_of(annotated, id_="id"):
    return check(RawSentence("file:1", id_, annotated=annotated))


def batches_of(sentences):
    """Return sentences as record batches of seven rows, as they are read from Parquet."""
    rows = list(map(to_row, sentences))
    return [pa.RecordBatch.from_pylist(rows[i : i + 7], SENTENCE_SCHEMA) for i in range(0, len(rows), 7)]


def split(train, validation, protocol, share, seed):
    published = {"train": batches_of(train), "validation": batches_of(validation)}
    summaries = [summarize(published[part], KLUE) for part in ("train", "validation")]
    parts, removed = split_summaries(*summaries, protocol, share, seed)
    rows = {part: selection.filter(published[selection.published_part]) for part, selection in parts.items()}
    return {
        part: [from_row(row) for batch in batches for row in batch.to_pylist()] for part, batches in rows.items()
    }, removed


def numbered(count, prefix="문장"):
    return [sentence_of(f"{prefix} <{i}:QT>", f"{prefix}{i}") for i in range(count)]


def texts(sentences):
    return [sentence.text for sentence in sentences]


def ids(sentences):
    return [sentence.id for sentence in sentences]


def test_official_uses_the_published_validation_as_development_and_test():
    train, validation = numbered(5), numbered(3, "검증")
    parts, removed = split(train, validation, "official", 0.5, 1)
    assert parts == {"train": train, "development": validation, "test": validation}
    assert removed == {"of_test": 0, "of_development": 0}


def test_holdout_draws_development_from_train():
    train, validation = numbered(100), numbered(3, "검증")
    parts, removed = split(train, validation, "holdout", 0.2, 1)
    assert (len(parts["train"]), len(parts["development"])) == (80, 20)
    assert sorted(ids(parts["train"]) + ids(parts["development"])) == sorted(ids(train))
    assert parts["test"] == validation
    assert removed == {"of_test": 0, "of_development": 0}


@pytest.mark.parametrize("protocol", ["official", "holdout"])
def test_texts_of_the_test_part_are_removed_from_the_other_parts(protocol):
    validation = numbered(3, "검증")
    copies = [sentence_of("검증 1", "copy with other tags"), sentence_of("검증 <2:QT>", "copy")]
    parts, removed = split([*numbered(40), *copies], validation, protocol, 0.25, 1)
    assert removed["of_test"] == 2
    assert not set(texts(parts["train"])) & set(texts(validation))
    assert not {"copy", "copy with other tags"} & set(ids(parts["development"]))


def test_texts_of_development_are_removed_from_train():
    twins = numbered(40) + [sentence_of(f"문장 <{i}:QT>", f"twin{i}") for i in range(40)]
    parts, removed = split(twins, numbered(3, "검증"), "holdout", 0.5, 1)
    assert not set(texts(parts["train"])) & set(texts(parts["development"]))
    assert removed["of_development"] > 0
    assert len(parts["train"]) + len(parts["development"]) + removed["of_development"] == 80


def test_a_seed_reproduces_its_split_and_another_seed_changes_it():
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
    train = [*numbered(19), sentence_of("검증 <0:QT>")]
    with pytest.raises(KonerError, match=r"'holdout' needs at least 20 training sentences.*; there are 19"):
        split(train, numbered(3, "검증"), "holdout", 0.1, 1)


def test_holdout_of_the_minimum_number_of_sentences_is_split():
    parts, _ = split(numbered(20), numbered(3, "검증"), "holdout", 0.1, 1)
    assert all(parts[part] for part in SPLIT_PARTS)


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
        rate = {type_: sum(type_ in types for types in present) / len(present) for type_ in KLUE.types}
        return rate | {"none": sum(not types for types in present) / len(present)}

    assert len(parts["development"]) == pytest.approx(0.1 * len(train), rel=0.05)
    assert rates(parts["development"]) == pytest.approx(rates(parts["train"]), abs=0.03)


def test_types_are_counted_by_mention():
    summary = summarize(
        batches_of([sentence_of("<김:PS> <이:PS> <서울:LC>"), sentence_of("비"), sentence_of("<김:PS>")]), KLUE
    )
    assert summary.count_types(np.array([True, True, True])) == NONE | {"PS": 3, "LC": 1}
    assert summary.count_types(np.array([False, True, True])) == NONE | {"PS": 1}


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


def test_divergence_is_measured_for_each_pair_and_shares_for_each_part():
    measured = balance({"train": NONE | {"PS": 1}, "development": NONE | {"PS": 4}, "test": NONE | {"LC": 1, "OG": 3}})
    assert measured["divergence"] == {"train_development": 0, "train_test": 1, "development_test": 1}
    assert measured["share"]["test"] == NONE | {"LC": 0.25, "OG": 0.75}


def test_homogeneity_is_tested_by_chi_squared():
    a, b = {"PS": 10, "LC": 20, "OG": 30}, {"PS": 20, "LC": 20, "OG": 20}
    # Expected 15, 20 and 25 in each: 2 · 25/15 + 0 + 2 · 25/25; with two degrees of freedom p = exp(-chi²/2).
    homogeneity = balance({"train": NONE | a, "test": NONE | b})["homogeneity"]
    assert homogeneity == {"chi2": 5.3333, "degrees_of_freedom": 2, "p_value": 0.069483}


@pytest.mark.parametrize("b", [{}, {"PS": 3}])
def test_homogeneity_is_none_if_it_is_not_defined(b):
    assert balance({"train": NONE | {"PS": 1}, "test": NONE | b})["homogeneity"] is None


def test_parts_that_differ_too_much_are_refused_with_the_table():
    counts = {"train": NONE | {"PS": 10}, "development": NONE | {"PS": 9}, "test": NONE | {"PS": 5, "LC": 5}}
    with pytest.raises(KonerError) as error:
        check_balance(balance(counts), counts, 0.02)
    sentence, header, *rows = str(error.value).splitlines()
    assert sentence == (
        "the parts train and test differ in their entity types by 0.3113 bits, more than max_divergence, 0.02, and the "
        "0.0361 bits that chance explains:"
    )
    assert header.split() == ["type", "train", "development", "test"]
    none = ["0", "0.0%"] * 3
    assert [row.split() for row in rows] == [
        ["DT", *none],
        ["LC", "0", "0.0%", "0", "0.0%", "5", "50.0%"],
        ["OG", *none],
        ["PS", "10", "100.0%", "9", "100.0%", "5", "50.0%"],
        ["QT", *none],
        ["TI", *none],
    ]


def test_of_many_types_the_table_shows_those_that_differ_most():
    labels = [f"T{i}" for i in range(150)]
    counts = {"train": dict.fromkeys(labels, 100), "test": dict.fromkeys(labels, 100) | {"T7": 9000, "T140": 0}}
    with pytest.raises(KonerError) as error:
        check_balance(balance(counts), counts, 0.02)
    _, _, *rows, rest = str(error.value).splitlines()
    assert len(rows) == 20
    assert {"T7"} < {row.split()[0] for row in rows}
    assert rest == "  … and 130 more types, which differ less"


def test_parts_that_differ_by_chance_are_accepted():
    random = np.random.default_rng(5)
    rates = random.dirichlet(np.full(140, 0.5))
    counts = {
        part: dict(zip(map(str, range(140)), random.multinomial(n, rates).tolist(), strict=True))
        for part, n in (("train", 7000), ("development", 600), ("test", 1500))
    }
    assert max(balance(counts)["divergence"].values()) > 0.02
    check_balance(balance(counts), counts, 0.02)


def test_a_sentence_with_a_type_of_its_own_stays_in_train_and_is_counted():
    labels = LabelSet(("PS", *(f"T{i}" for i in range(30))))
    train = [sentence_of(f"<{i}:T{i}>", str(i)) for i in range(30)] + [
        sentence_of(f"<가{i}:PS>", f"p{i}") for i in range(70)
    ]
    test = [sentence_of("<나:PS>", "test")]
    summaries = [summarize(batches_of(part), labels) for part in (train, test)]
    for seed in range(5):
        parts, _ = split_summaries(*summaries, "holdout", 0.1, seed)
        assert summaries[0].count_types(parts["train"].mask) == {
            "PS": 70 - parts["development"].mask.sum(),
            **{f"T{i}": 1 for i in range(30)},
        }
        assert 5 <= parts["development"].mask.sum() <= 15
        assert count_unique(summaries[0], parts) == {"types": 30, "sentences": 30}


def test_a_holdout_of_too_few_sentences_without_types_of_their_own_is_refused():
    labels = LabelSet(tuple(f"T{i}" for i in range(30)))
    train = summarize(batches_of([sentence_of(f"<{i}:T{i}>", str(i)) for i in range(30)]), labels)
    with pytest.raises(KonerError, match="there are 30, 0 of them without a type that only they have"):
        split_summaries(train, summarize(batches_of([sentence_of("<나:T1>")]), labels), "holdout", 0.1, 1)


@pytest.mark.parametrize("part", ["train", "development", "test"])
@pytest.mark.parametrize("threshold", [0.02, 1.0])
def test_a_part_without_entities_is_refused_as_that(part, threshold):
    counts = {name: NONE | ({} if name == part else {"PS": 10}) for name in ("train", "development", "test")}
    with pytest.raises(KonerError, match=f"^no sentence of the part '{part}' has an entity"):
        check_balance(balance(counts), counts, threshold)


def test_parts_at_the_threshold_are_accepted():
    counts = {"train": NONE | {"PS": 10}, "test": NONE | {"LC": 10}}
    check_balance(balance(counts), counts, 1.0)


def test_the_share_table_has_a_row_for_each_type_and_part():
    rows = share_table({"train": NONE | {"PS": 2 / 3}, "test": NONE | {"PS": 1.0}})
    assert len(rows) == 12
    assert {"part_type": "PS train", "percent": 66.67} in rows
    assert {"part_type": "PS test", "percent": 100.0} in rows


@pytest.mark.parametrize("protocol", ["holdout", "official"])
def test_a_published_test_part_is_the_test_part(protocol):
    train, validation, test = numbered(40), numbered(3, "검증"), numbered(3, "시험")
    summaries = [summarize(batches_of(part), KLUE) for part in (train, validation, test)]
    parts, removed = split_summaries(*summaries[:2], protocol, 0.2, 1, summaries[2])
    assert {part: selection.published_part for part, selection in parts.items()} == {
        "train": "train",
        "development": "validation",
        "test": "test",
    }
    assert removed == {"of_test": 0, "of_development": 0}


def test_development_is_drawn_from_train_beside_a_test_part_without_a_validation_part():
    train, test = numbered(40), [*numbered(3, "시험"), *numbered(1)]
    parts, removed = split_summaries(
        summarize(batches_of(train), KLUE), None, "official", 0.2, 1, summarize(batches_of(test), KLUE)
    )
    assert parts["test"].published_part == "test"
    assert parts["development"].published_part == "train"
    assert not (parts["development"].mask & parts["train"].mask).any()
    assert removed["of_test"] == 1


def test_a_corpus_without_an_evaluation_part_is_refused():
    with pytest.raises(KonerError, match="the corpus has no evaluation part"):
        split_summaries(summarize(batches_of(numbered(40)), KLUE), None, "holdout", 0.2, 1)
