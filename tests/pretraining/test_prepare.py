import re
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from transformers import AutoTokenizer

from koner.encoder.vocabulary import make_tokenizer, morpheme_pieces, normalize, vocabulary_from_counts
from koner.errors import KonerError
from koner.labels.bio import IGNORE_INDEX
from koner.pretraining import prepare
from koner.pretraining.packing import NO_TAG, NO_WORD, PackedDataset, make_document
from koner.pretraining.params import load_pretrain_params
from koner.pretraining.weak_labels import weak_tag_ids
from koner.text.morphemes import AnalysedText, analyse

LENGTH, HELD_OUT, SEED = 32, 7, 3


def sample_lines(root, name, count):
    lines = (root / "koner/resources/sample" / f"train.{name}.txt").read_text(encoding="utf-8").splitlines()[:count]
    return [re.sub(r"<([^<>]+):[A-Z]{2}>", r"\1", line) for line in lines]


@pytest.fixture(scope="module")
def sources(root):
    # Signs that normalization replaces, a line that is empty after it, and one longer than a pack.
    extra = [" ‘①번’은  ㈜서울 ", "", "\u200b", " ".join(["아주 긴 글이다."] * 20)]
    return [sample_lines(root, "news", 60) + extra, sample_lines(root, "reviews", 40)]


@pytest.fixture(scope="module")
def params(root, sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    paths = [folder / "news.txt", folder / "reviews.txt"]
    for path, lines in zip(paths, sources, strict=True):
        path.write_text("\n".join(lines), encoding="utf-8")
    return load_pretrain_params(root / "stages/pretrain/params.yaml").model_copy(
        update={
            "texts": [str(path) for path in paths],
            "repeats": [3, 1],
            "vocab_size": 6_000,
            "vocab_min_characters": 4,
            "length": LENGTH,
            "held_out": HELD_OUT,
            "seed": SEED,
        }
    )


@pytest.fixture(scope="module")
def prepared(params, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return prepare.prepare_packs(params, None, folder), folder


def prepare_in_memory(sources, repeats):
    """Return the tokenizer, and the documents of each part in order, without files."""
    rows, pieces = [], Counter()
    for lines, times in zip(sources, repeats, strict=True):
        for line in lines:
            if text := normalize(line.strip()):
                (analysed,) = analyse([text])
                rows.append((analysed, times))
                pieces.update(list(morpheme_pieces(analysed)) * times)
    tokenizer = make_tokenizer(vocabulary_from_counts(pieces, 2, 4, 6_000), LENGTH)
    documents = []
    for analysed, _ in rows:
        encoding = tokenizer(analysed.text, return_offsets_mapping=True)
        tags = weak_tag_ids(analysed)
        documents.append(make_document(analysed, encoding["input_ids"], encoding["offset_mapping"], tags))
    training = np.array([i for i, (_, times) in enumerate(rows) if i % HELD_OUT for _ in range(times)])
    np.random.default_rng(SEED).shuffle(training)
    held = [d for i, d in enumerate(documents) if i % HELD_OUT == 0]
    return tokenizer, {"held": held, "train": [documents[i] for i in training]}


def test_packs_and_tokenizer_equal_those_prepared_in_memory(params, sources, prepared):
    summary, folder = prepared
    tokenizer, parts = prepare_in_memory(sources, params.repeats)
    assert AutoTokenizer.from_pretrained(folder / "tokenizer").get_vocab() == tokenizer.get_vocab()
    assert summary.texts == [62, 40]
    assert summary.tokens == sum(
        len(ids)
        for lines in sources
        for line in lines
        if normalize(line.strip())
        for ids in [tokenizer(line).input_ids]
    )
    for part, documents in parts.items():
        fields = PackedDataset(folder / part, LENGTH).fields
        count = sum(len(d.input_ids) for d in documents) // LENGTH
        assert summary.packs[part] == len(fields["input_ids"]) == count
        for field in ("input_ids", "first_tags", "last_tags", "weak_labels"):
            expected = np.concatenate([getattr(d, field) for d in documents])[: count * LENGTH]
            assert np.array_equal(fields[field], expected.reshape(-1, LENGTH)), (part, field)
        words = np.concatenate([d.words for d in documents])[: count * LENGTH].reshape(-1, LENGTH)
        assert np.array_equal(fields["words"] == NO_WORD, words == NO_WORD)


def test_names_of_control_tokens_and_long_words_are_text(params, tmp_path):
    path = tmp_path / "odd.txt"
    path.write_text("\n".join(["서울[SEP]에서 [MASK] [UNK]", "가나다라" * 60] * 40), encoding="utf-8")
    changes = {"texts": [str(path)], "repeats": [1], "vocab_min_characters": 1}
    prepare.prepare_packs(params.model_copy(update=changes), None, tmp_path / "prepared")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "prepared" / "tokenizer")
    fields = PackedDataset(tmp_path / "prepared" / "train", LENGTH).fields
    is_text = fields["words"] != NO_WORD
    assert {tokenizer.cls_token_id, tokenizer.sep_token_id} == set(fields["input_ids"][~is_text].tolist())
    assert set(tokenizer.all_special_ids).isdisjoint(fields["input_ids"][is_text].tolist())


def texts_of(folder, part, tokenizer):
    """Return the complete texts in the packs of a part, as the tokenizer decodes them."""
    ids = PackedDataset(folder / part, LENGTH).fields["input_ids"].ravel()
    parts = np.split(ids, np.flatnonzero(ids == tokenizer.cls_token_id))
    return Counter(tokenizer.decode(p[1:-1]) for p in parts if len(p) and p[-1] == tokenizer.sep_token_id)


def test_held_out_texts_are_not_in_the_training_part_and_others_are_repeated(sources, prepared):
    _, folder = prepared
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    held, training = (texts_of(folder, part, tokenizer) for part in ("held", "train"))
    assert len(held) > 10
    assert not set(held) & set(training)
    decoded = [
        [tokenizer.decode(tokenizer(line).input_ids[1:-1]) for line in lines if normalize(line.strip())]
        for lines in sources
    ]
    # The last text may be incomplete.
    assert sum(training[text] == 3 for text in decoded[0]) >= len([t for t in decoded[0] if t not in held]) - 1
    assert sum(training[text] == 1 for text in decoded[1]) >= len([t for t in decoded[1] if t not in held]) - 1


def test_only_packs_and_tokenizer_remain(prepared):
    assert sorted(path.name for path in prepared[1].iterdir()) == ["held", "tokenizer", "train"]


def test_texts_are_not_normalized_for_the_tokenizer_of_a_base_model(params, prepared, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(prepared[1] / "tokenizer")
    summary = prepare.prepare_packs(params, tokenizer, tmp_path)
    # The line with a zero-width space is a text here; normalization makes it empty.
    assert summary.texts == [63, 40]
    fields = PackedDataset(tmp_path / "train", LENGTH).fields
    is_word = fields["words"] != NO_WORD
    assert (fields["first_tags"][is_word] != NO_TAG).mean() > 0.99


def test_a_base_model_without_further_tasks_needs_no_morphemes(params, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "analyse", None)
    tokenizer = AutoTokenizer.from_pretrained(prepared[1] / "tokenizer")
    prepare.prepare_packs(params.model_copy(update={"tag_weight": 0.0, "weak_weight": 0.0}), tokenizer, tmp_path)
    fields = PackedDataset(tmp_path / "train", LENGTH).fields
    assert (fields["first_tags"] == NO_TAG).all()
    assert (fields["last_tags"] == NO_TAG).all()
    assert (fields["weak_labels"] == IGNORE_INDEX).all()
    assert fields["words"].max() > 3


def test_rare_pieces_are_dropped_if_there_are_too_many(monkeypatch):
    monkeypatch.setattr(prepare, "MAX_PIECES", 4)
    pieces = Counter()
    for text in ("가 가 가 가 나 나 나", "다 라 마", "가 나 바 사"):
        pieces = prepare._add_piece_counts(pieces, [AnalysedText(text, ())], 2)
        assert len(pieces) <= 4
    assert pieces.most_common(2) == [("가", 10), ("나", 8)]


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        (["", " "], {}, r"texts: .*a\.txt contains no text"),
        (["서울"] * 9, {}, "texts: the 2 texts of the part 'held' don't fill one pack of 32 tokens"),
        (["서울 " * 40], {}, "texts: the 0 texts of the part 'train' don't fill one pack"),
        (["서울"], {"texts": ["./nowhere"]}, "texts: there is no file or folder ./nowhere"),
    ],
)
def test_too_little_text_is_reported(params, tmp_path, lines, changes, message):
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    changes = {"texts": [str(tmp_path / "a.txt")], "repeats": [1], **changes}
    with pytest.raises(KonerError, match=message):
        prepare.prepare_packs(params.model_copy(update=changes), None, tmp_path / "packs")


def test_memory_does_not_grow_with_the_text(params, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "CHUNK", 50)
    tokenizer = AutoTokenizer.from_pretrained(prepared[1] / "tokenizer")
    peaks = []
    for count in (200, 1_200):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "a.txt").write_text("우리는 그날 서울에서 부산까지 걸어서 갔다.\n" * count, encoding="utf-8")
        changes = {"texts": [str(folder / "a.txt")], "repeats": [1], "tag_weight": 0.0, "weak_weight": 0.0}
        tracemalloc.start()
        prepare.prepare_packs(params.model_copy(update=changes), tokenizer, folder / "packs")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A text needs a few numbers of 8 bytes; its tokens alone would need about 2,000 bytes.
    assert peaks[1] - peaks[0] < 1_000 * 32 + 50_000
