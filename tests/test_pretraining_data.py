import re
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from transformers import AutoTokenizer

from koner import pretraining_data
from koner.errors import KonerError
from koner.morphemes import Analysed, analyse
from koner.packing import NO_TAG, NO_WORD, Packs, document
from koner.pretrain_params import load_pretrain_params
from koner.pretraining_data import prepare_packs
from koner.vocabulary import make_tokenizer, morpheme_pieces, normalise, vocabulary_of

LENGTH, HELD_OUT, SEED = 32, 7, 3


def sample_lines(root, name, count):
    lines = (root / "koner/sample" / f"train.{name}.txt").read_text(encoding="utf-8").splitlines()[:count]
    return [re.sub(r"<([^<>]+):[A-Z]{2}>", r"\1", line) for line in lines]


@pytest.fixture(scope="module")
def sources(root):
    # Signs that normalising changes, a line of which nothing is left, and one longer than a pack.
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
def made(params, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return prepare_packs(params, None, folder), folder


def directly(sources, repeats):
    """The same in memory, step by step: the tokenizer, and each part's documents in order."""
    rows, pieces = [], Counter()
    for lines, times in zip(sources, repeats, strict=True):
        for line in lines:
            if text := normalise(line.strip()):
                (analysed,) = analyse([text])
                rows.append((analysed, times))
                pieces.update(list(morpheme_pieces(analysed)) * times)
    tokenizer = make_tokenizer(vocabulary_of(pieces, 2, 4, 6_000), LENGTH)
    documents = []
    for analysed, _ in rows:
        encoded = tokenizer(analysed.text, return_offsets_mapping=True)
        documents.append(document(analysed, encoded["input_ids"], encoded["offset_mapping"]))
    training = np.array([i for i, (_, times) in enumerate(rows) if i % HELD_OUT for _ in range(times)])
    np.random.default_rng(SEED).shuffle(training)
    held = [d for i, d in enumerate(documents) if i % HELD_OUT == 0]
    return tokenizer, {"held": held, "train": [documents[i] for i in training]}


def test_packs_and_tokenizer_are_those_of_the_same_steps_done_in_memory(params, sources, made):
    packed, folder = made
    tokenizer, parts = directly(sources, params.repeats)
    assert AutoTokenizer.from_pretrained(folder / "tokenizer").get_vocab() == tokenizer.get_vocab()
    assert packed.texts == [62, 40]
    assert packed.tokens == sum(
        len(ids)
        for lines in sources
        for line in lines
        if normalise(line.strip())
        for ids in [tokenizer(line).input_ids]
    )
    for part, documents in parts.items():
        found = Packs(folder / part, LENGTH).fields
        count = sum(len(d.input_ids) for d in documents) // LENGTH
        assert packed.packs[part] == len(found["input_ids"]) == count
        for field in ("input_ids", "first_tags", "last_tags"):
            whole = np.concatenate([getattr(d, field) for d in documents])[: count * LENGTH]
            assert np.array_equal(found[field], whole.reshape(-1, LENGTH)), (part, field)
        words = np.concatenate([d.words for d in documents])[: count * LENGTH].reshape(-1, LENGTH)
        assert np.array_equal(found["words"] == NO_WORD, words == NO_WORD)


def texts_of(folder, part, tokenizer):
    """The whole texts in a part's packs, as the tokenizer spells them."""
    ids = Packs(folder / part, LENGTH).fields["input_ids"].ravel()
    parts = np.split(ids, np.flatnonzero(ids == tokenizer.cls_token_id))
    return Counter(tokenizer.decode(p[1:-1]) for p in parts if len(p) and p[-1] == tokenizer.sep_token_id)


def test_what_is_held_out_is_not_trained_on_and_the_rest_as_often_as_its_source_says(sources, made):
    _, folder = made
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    held, training = (texts_of(folder, part, tokenizer) for part in ("held", "train"))
    assert len(held) > 10
    assert not set(held) & set(training)
    spelt = [
        [tokenizer.decode(tokenizer(line).input_ids[1:-1]) for line in lines if normalise(line.strip())]
        for lines in sources
    ]
    # The last text may lack its end.
    assert sum(training[text] == 3 for text in spelt[0]) >= len([t for t in spelt[0] if t not in held]) - 1
    assert sum(training[text] == 1 for text in spelt[1]) >= len([t for t in spelt[1] if t not in held]) - 1


def test_nothing_is_left_behind_but_packs_and_tokenizer(made):
    assert sorted(path.name for path in made[1].iterdir()) == ["held", "tokenizer", "train"]


def test_a_base_models_tokenizer_reads_the_texts_as_they_are(params, made, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(made[1] / "tokenizer")
    packed = prepare_packs(params, tokenizer, tmp_path)
    # The line of a zero-width space is a text here: only tokenizers of our own say what is nothing.
    assert packed.texts == [63, 40]
    fields = Packs(tmp_path / "train", LENGTH).fields
    words = fields["words"] != NO_WORD
    assert (fields["first_tags"][words] != NO_TAG).mean() > 0.99


def test_without_the_second_task_a_base_model_needs_no_morphemes(params, made, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining_data, "analyse", None)
    tokenizer = AutoTokenizer.from_pretrained(made[1] / "tokenizer")
    prepare_packs(params.model_copy(update={"tag_weight": 0.0}), tokenizer, tmp_path)
    fields = Packs(tmp_path / "train", LENGTH).fields
    assert (fields["first_tags"] == NO_TAG).all()
    assert (fields["last_tags"] == NO_TAG).all()
    assert fields["words"].max() > 3


def test_of_too_many_pieces_the_rare_ones_are_forgotten(monkeypatch):
    monkeypatch.setattr(pretraining_data, "MOST_PIECES", 4)
    pieces = Counter()
    for text in ("가 가 가 가 나 나 나", "다 라 마", "가 나 바 사"):
        pieces = pretraining_data._counted(pieces, [Analysed(text, ())], 2)
        assert len(pieces) <= 4
    assert pieces.most_common(2) == [("가", 10), ("나", 8)]


@pytest.mark.parametrize(
    ("lines", "changes", "said"),
    [
        (["", " "], {}, r"texts: .*a\.txt holds no text"),
        (["서울"] * 9, {}, "texts: the 2 texts of the part 'held' don't fill one pack of 32 tokens"),
        (["서울 " * 40], {}, "texts: the 0 texts of the part 'train' don't fill one pack"),
        (["서울"], {"texts": ["./nowhere"]}, "texts: there is no file or folder ./nowhere"),
    ],
)
def test_too_little_text_is_one_sentence(params, tmp_path, lines, changes, said):
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    changed = {"texts": [str(tmp_path / "a.txt")], "repeats": [1], **changes}
    with pytest.raises(KonerError, match=said):
        prepare_packs(params.model_copy(update=changed), None, tmp_path / "packs")


def test_memory_does_not_grow_with_the_text(params, made, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining_data, "_CHUNK", 50)
    tokenizer = AutoTokenizer.from_pretrained(made[1] / "tokenizer")
    peaks = []
    for count in (200, 1_200):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "a.txt").write_text("우리는 그날 서울에서 부산까지 걸어서 갔다.\n" * count, encoding="utf-8")
        changes = {"texts": [str(folder / "a.txt")], "repeats": [1], "tag_weight": 0.0}
        tracemalloc.start()
        prepare_packs(params.model_copy(update=changes), tokenizer, folder / "packs")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A few numbers of 8 bytes a text; its tokens alone would be some 2,000 bytes.
    assert peaks[1] - peaks[0] < 1_000 * 32 + 50_000
