import json
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer

from koner.corpus.checks import RawSentence, check
from koner.corpus.inline import parse_inline
from koner.errors import KonerError
from koner.inference.decoding import DecodingSettings
from koner.inference.tagger import Tagger
from koner.labels.klue import KLUE
from koner.tokens.alignment import align
from tests.inference.test_decoding import TEXTS, RandomRuntime, assert_sound, wordpiece
from tests.inference.test_runtimes import export
from tests.inference.trained_model import LINES, write_trained_model


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    """The folder of a model that predicts for each token its tag in LINES, in both forms."""
    model, trained, _ = write_trained_model(root, tmp_path_factory.mktemp("tagger"))
    export(model, trained / "model.onnx")
    return trained


@pytest.fixture(scope="module")
def tagger(folder):
    return Tagger.load(folder, "cpu")


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the model folder that a test may change."""
    shutil.copytree(folder, tmp_path / "ner")
    return tmp_path / "ner"


def rewrite(path, **changes):
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, **changes}), encoding="utf-8")


def tag(tagger, text):
    return [(text[e.start : e.end], e.label) for e in tagger.tag(text)]


def test_entities_are_found_with_their_characters(tagger):
    assert tag(tagger, "홍길동이 서울에서 3명을 만났다.") == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")]
    assert all(0 < e.score <= 1 for e in tagger.tag("홍길동이 서울에서 3명을 만났다."))


def test_offsets_of_decomposed_hangul_are_those_of_the_original_text(tagger):
    text = unicodedata.normalize("NFD", "홍길동이 서울에서 3명을 만났다.")
    spans = [(unicodedata.normalize("NFC", surface), label) for surface, label in tag(tagger, text)]
    assert spans == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")]


def test_all_windows_of_a_long_sentence_are_tagged(tagger):
    text = " ".join(["홍길동이 서울에서 3명을 만났다"] * 12)
    assert len(tagger.encode([text])[0].windows) > 2
    assert tag(tagger, text) == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")] * 12


def test_the_entities_of_a_sentence_do_not_depend_on_the_sentences_around_it(tagger):
    sentences = ["정부는 갔다.", "서울에서 만났다!", "아무도 3명을 몰랐다ㅋㅋ", "홍길동"]
    alone = [[(s[e.start : e.end], e.label, e.score) for e in tagger.tag(s)] for s in sentences]
    text = " ".join(sentences)
    joined = [(text[e.start : e.end], e.label, e.score) for e in tagger.tag(text)]
    assert joined == [entity for entities in alone for entity in entities]
    assert joined


@pytest.mark.parametrize("gap", [" ", "\n", "\r\n\r\n", "\u2028", "\u3000"])
def test_a_text_is_read_sentence_by_sentence(tagger, gap):
    text = gap.join(["홍길동이 서울에서 3명을 만났다."] * 12)
    (encoded,) = tagger.encode([text])
    assert len(encoded.windows) == 12
    assert encoded.windowed_text.offsets == sorted(encoded.windowed_text.offsets)
    assert tag(tagger, text) == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")] * 12


def test_offsets_of_a_long_decomposed_text_are_those_of_the_original_text(tagger):
    text = unicodedata.normalize("NFD", "\n".join(["홍길동이 서울에서 3명을 만났다."] * 12))
    spans = [(unicodedata.normalize("NFC", surface), label) for surface, label in tag(tagger, text)]
    assert spans == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")] * 12


def test_the_tokens_are_those_that_the_data_is_aligned_to(tagger):
    text = "홍길동이 서울에서 3명을 만났다. 아무도 오지 않았다!\n정부는 지난해 부산에 갔다." * 3
    (retagged,) = align([check(RawSentence("", "1", annotated=text))], tagger.tokenizer, tagger.max_length, 8, KLUE)
    assert len(retagged.windowed_text.windows) > 1
    assert tagger.encode([text])[0].windowed_text.offsets == retagged.windowed_text.offsets


@pytest.fixture(scope="module")
def unspaced(root, tmp_path_factory):
    """A tagger that predicts for each token its tag in a line without spaces."""
    line = "그런데<홍길동:PS>이<서울:LC>에서<3명:QT>을만났다"
    _, folder, _ = write_trained_model(root, tmp_path_factory.mktemp("unspaced"), [line, line * 2])
    return Tagger.load(folder, "cpu")


@pytest.mark.parametrize("repeats", [1, 5, 6, 7, 40, 2_000])
def test_entities_are_found_in_runs_of_any_length(unspaced, repeats):
    text = "그런데홍길동이서울에서3명을만났다" * repeats
    assert tag(unspaced, text) == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")] * repeats


@pytest.mark.parametrize("name", ["[SEP]", "[CLS]", "[PAD]", "[UNK]", "[MASK]"])
def test_the_name_of_a_control_token_is_text(tagger, name):
    text = f"홍길동이 {name} 서울에서{name} 3명을 만났다."
    entities = [(surface, label) for surface, label in tag(tagger, text) if not surface.isascii()]
    assert entities == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")]
    window = tagger.encode([text])[0].windows[0]
    named = tagger.tokenizer.backend.token_to_id("[SEP]"), tagger.tokenizer.backend.token_to_id("[CLS]")
    assert set(window.input_ids[1:-1]).isdisjoint(named)
    read = [text[start:end] for start, end in tagger.encode([text])[0].windowed_text.offsets]
    assert read.count("[") == 2


def test_windows_can_be_batched_in_any_way(tagger):
    texts = ["홍길동이 서울에서 3명을 만났다.", "", "정부는 지난해 부산에 갔다. " * 4]
    encoded = tagger.encode(texts)
    rows = iter(tagger.run([window for text in encoded for window in text.windows]))
    joined = [tagger.join(text, [next(rows) for _ in text.windows]) for text in encoded]
    for ours, theirs in zip(joined, tagger.compute_logits(texts), strict=True):
        assert ours.values.shape == (len(ours.windowed_text.token_positions), len(KLUE.tags))
        assert ours.values.dtype == np.float32
        assert np.allclose(ours.values, theirs.values, atol=1e-4)
        assert [(e.start, e.end, e.label) for e in tagger.decode(ours).entities] == [
            (e.start, e.end, e.label) for e in tagger.decode(theirs).entities
        ]


def test_batches_have_a_limited_number_of_tokens_with_padding():
    shapes = []

    class Recording(RandomRuntime):
        batch_tokens = 400

        def __call__(self, input_ids, attention_mask):
            shapes.append(input_ids.shape)
            return super().__call__(input_ids, attention_mask)

    tokenizer = wordpiece()
    recording = Tagger(Recording(tokenizer.get_vocab_size()), tokenizer, KLUE.tags, max_length=64)
    recording.compute_logits(["3" * (1 + i % 60) for i in range(600)])
    assert sum(rows for rows, _ in shapes) == 600
    assert all(rows * tokens <= 400 for rows, tokens in shapes)
    assert len(shapes) < 60


def test_results_are_in_the_order_of_the_texts(tagger):
    texts = ["아무도 오지 않았다.", "정부는 지난해 부산에 갔다." * 5, "홍길동이", ""]
    alone = [tagger.tag(text) for text in texts]
    together = [list(tagged.entities) for tagged in tagger.tag_all(texts)]
    assert [[(e.start, e.end, e.label) for e in t] for t in together] == [
        [(e.start, e.end, e.label) for e in t] for t in alone
    ]
    assert together[-1] == []


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u200b", "\x00"])
def test_a_blank_text_has_no_entities(tagger, text):
    assert tagger.tag(text) == []


@settings(deadline=None)
@given(TEXTS)
def test_spans_are_sound_for_any_text(tagger, text):
    assert_sound(tagger.tag(text), text)


def test_a_missing_model_is_reported(tmp_path):
    with pytest.raises(KonerError, match="holds no model; run `dvc repro`"):
        Tagger.load(tmp_path)


def test_the_tagger_has_the_settings_of_its_folder(tagger, copy):
    assert tagger.token_labels == list(KLUE.tags)
    assert tagger.label_set.types == ("DT", "LC", "OG", "PS", "QT", "TI")
    assert tagger.max_length == 24
    assert tagger.settings == DecodingSettings(temperature=1.0, legal=True)
    assert tagger.runtime.description.startswith("ONNX Runtime fp32, ")
    rewrite(copy / "config.json", koner_temperature=1.5, koner_outside_bias=0.0, koner_legal=False)
    rewrite(copy / "tokenizer_config.json", model_max_length=20)
    changed = Tagger.load(copy, "cpu", threads=1)
    assert (changed.settings, changed.max_length) == (DecodingSettings(1.5, False), 20)
    assert changed.runtime.description == "ONNX Runtime fp32, 1 thread"


def test_a_model_with_a_fitted_bias_on_o_is_refused(copy):
    rewrite(copy / "config.json", koner_outside_bias=-0.5)
    with pytest.raises(KonerError, match=r"config\.json: koner_outside_bias is -0\.5, .* with the commit"):
        Tagger.load(copy, "cpu")


@pytest.mark.parametrize("limit", [10**30, None])
def test_no_window_is_longer_than_the_model_allows(copy, limit):
    rewrite(copy / "tokenizer_config.json", model_max_length=10**30)
    if limit is None:
        (copy / "tokenizer_config.json").unlink()
    assert Tagger.load(copy, "cpu").max_length == 24


def test_both_runtimes_predict_the_same_entities(tagger, copy):
    (copy / "model.onnx").unlink()
    torch_tagger = Tagger.load(copy, "cpu")
    assert torch_tagger.runtime.description.startswith("PyTorch fp32, ")
    for line in LINES:
        text, _ = parse_inline(line)
        ours, theirs = tagger.tag(text), torch_tagger.tag(text)
        assert [(e.start, e.end, e.label) for e in ours] == [(e.start, e.end, e.label) for e in theirs]
        assert [e.score for e in ours] == pytest.approx([e.score for e in theirs], abs=1e-4)


TAG_AND_LIST_SLOW_IMPORTS = """
import sys
from koner import Tagger
tagger = Tagger.load(sys.argv[1], "cpu")
print([(e.start, e.end, e.label) for e in tagger.tag("홍길동이 서울에서 3명을 만났다.")])
print(sorted({"torch", "transformers", "pyarrow", "datasets", "sklearn", "scipy"} & set(sys.modules)))
"""


def test_tagging_by_onnx_imports_nothing_heavy(folder, root):
    process = subprocess.run(
        [sys.executable, "-c", TAG_AND_LIST_SLOW_IMPORTS, folder], cwd=root, capture_output=True, text=True, check=True
    )
    assert process.stdout.splitlines() == ["[(0, 3, 'PS'), (5, 7, 'LC'), (10, 12, 'QT')]", "[]"]


def test_a_vocabulary_without_tokenizer_json_is_supported(copy):
    vocabulary = Tokenizer.from_file(str(copy / "tokenizer.json")).get_vocab()
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)), encoding="utf-8")
    rewrite(copy / "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=False)
    assert tag(Tagger.load(copy, "cpu"), "홍길동이 서울에서 만났다.") == [("홍길동", "PS"), ("서울", "LC")]


def test_labels_that_are_no_bio_tags_are_refused(copy):
    labels = json.loads((copy / "config.json").read_text())["id2label"]
    rewrite(copy / "config.json", id2label={**labels, "3": "PER-I"})
    with pytest.raises(KonerError, match="the model's label 'PER-I' is not O, B-TYPE or I-TYPE"):
        Tagger.load(copy)
