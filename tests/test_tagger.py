import json
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from koner.alignment import retag
from koner.base_model import prepare_base_model
from koner.corpus import RawSentence, check, parse_inline
from koner.decoding import DecodingSettings
from koner.errors import KonerError
from koner.labels import TAGS
from koner.params import load_params
from koner.tagger import Tagger
from koner.training import build_model
from tests.test_decoding import TEXTS, RandomRuntime, assert_sound, wordpiece
from tests.test_runtime import export

LINES = [
    "<홍길동:PS>이 <서울:LC>에서 <3명:QT>을 만났다.",
    "<정부:OG>는 <지난해:DT> <부산:LC>에 갔다.",
    "<김철수:PS>가 <오후 2시:TI>에 <경찰:OG>을 불렀다.",
    "아무도 오지 않았다.",
]


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    """A real transformers model, of windows of 24 tokens, that gives each token the tag it has in LINES.

    Its attention and feed-forward layers add nothing and its head is solved for, so that what it finds does not hang
    on the luck of a short training.
    """
    changes = {
        "layers": 1,
        "hidden_size": 64,
        "heads": 2,
        "vocab_min_count": 1,
        "max_length": 24,
        "base_model": "scratch",
    }
    params = load_params(root / "params.yaml").model_copy(update=changes)
    sentences = [check(RawSentence("", str(i), annotated=line)) for i, line in enumerate(LINES)]
    folder = tmp_path_factory.mktemp("tagger")
    prepare_base_model(params, sentences, folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    model = build_model(folder / "base", 0.0).eval()
    encoder = model.roberta
    tag_of = {
        i: t
        for r in retag(sentences, tokenizer, 24, 8)
        for i, t in zip(r.encoded.windows[0].input_ids, r.labels[0], strict=True)
    }
    with torch.no_grad():
        encoder.embeddings.position_embeddings.weight.zero_()
        for layer in (encoder.encoder.layer[0].attention.output.dense, encoder.encoder.layer[0].output.dense):
            layer.weight.zero_()
            layer.bias.zero_()
        known = [i for i, tag in tag_of.items() if tag >= 0]
        hidden = encoder(input_ids=torch.tensor(known)[:, None]).last_hidden_state[:, 0]
        wanted = 10 * torch.nn.functional.one_hot(torch.tensor([tag_of[i] for i in known]), len(TAGS)).float()
        model.classifier.weight.copy_(torch.linalg.lstsq(hidden, wanted).solution.T)
        model.classifier.bias.zero_()
    model.save_pretrained(folder / "ner")
    tokenizer.save_pretrained(folder / "ner")
    export(model, folder / "ner" / "model.onnx")
    return folder / "ner"


@pytest.fixture(scope="module")
def tagger(folder):
    return Tagger.load(folder, "cpu")


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the model folder to spoil."""
    shutil.copytree(folder, tmp_path / "ner")
    return tmp_path / "ner"


def rewrite(path, **changes):
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, **changes}), encoding="utf-8")


def found(tagger, text):
    return [(text[e.start : e.end], e.label) for e in tagger.tag(text)]


def test_entities_are_found_with_their_characters(tagger):
    assert found(tagger, "홍길동이 서울에서 3명을 만났다.") == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")]
    assert all(0 < e.score <= 1 for e in tagger.tag("홍길동이 서울에서 3명을 만났다."))


def test_decomposed_hangul_gives_offsets_of_the_text_as_given(tagger):
    text = unicodedata.normalize("NFD", "홍길동이 서울에서 3명을 만났다.")
    spans = [(unicodedata.normalize("NFC", surface), label) for surface, label in found(tagger, text)]
    assert spans == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")]


def test_a_text_of_many_windows_is_tagged_whole(tagger):
    text = " ".join(["홍길동이 서울에서 3명을 만났다"] * 12)
    assert len(tagger.encode([text])[0].windows) > 2
    assert found(tagger, text) == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")] * 12


def test_what_is_found_in_a_sentence_does_not_hang_on_what_it_is_joined_to(tagger):
    sentences = ["정부는 갔다.", "서울에서 만났다!", "아무도 3명을 몰랐다ㅋㅋ", "홍길동"]
    alone = [[(s[e.start : e.end], e.label, e.score) for e in tagger.tag(s)] for s in sentences]
    text = " ".join(sentences)
    joined = [(text[e.start : e.end], e.label, e.score) for e in tagger.tag(text)]
    assert joined == [entity for found in alone for entity in found]
    assert joined


@pytest.mark.parametrize("gap", [" ", "\n", "\r\n\r\n", "\u2028", "\u3000"])
def test_a_text_is_read_sentence_by_sentence(tagger, gap):
    text = gap.join(["홍길동이 서울에서 3명을 만났다."] * 12)
    (encoded,) = tagger.encode([text])
    assert len(encoded.windows) == 12
    assert encoded.encoded.offsets == sorted(encoded.encoded.offsets)
    assert found(tagger, text) == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")] * 12


def test_a_long_decomposed_text_gives_offsets_of_the_text_as_given(tagger):
    text = unicodedata.normalize("NFD", "\n".join(["홍길동이 서울에서 3명을 만났다."] * 12))
    spans = [(unicodedata.normalize("NFC", surface), label) for surface, label in found(tagger, text)]
    assert spans == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")] * 12


def test_the_tokens_are_those_that_the_data_is_retagged_to(tagger):
    text = "홍길동이 서울에서 3명을 만났다. 아무도 오지 않았다!\n정부는 지난해 부산에 갔다." * 3
    (retagged,) = retag([check(RawSentence("", "1", annotated=text))], tagger.tokenizer, tagger.max_length, 8)
    assert len(retagged.encoded.windows) > 1
    assert tagger.encode([text])[0].encoded.offsets == retagged.encoded.offsets


def test_windows_can_be_run_in_any_company(tagger):
    texts = ["홍길동이 서울에서 3명을 만났다.", "", "정부는 지난해 부산에 갔다. " * 4]
    encoded = tagger.encode(texts)
    rows = iter(tagger.run([window for text in encoded for window in text.windows]))
    joined = [tagger.join(text, [next(rows) for _ in text.windows]) for text in encoded]
    for ours, theirs in zip(joined, tagger.logits(texts), strict=True):
        assert ours.values.shape == (len(ours.encoded.tokens), len(TAGS))
        assert ours.values.dtype == np.float32
        assert np.allclose(ours.values, theirs.values, atol=1e-4)
        assert [(e.start, e.end, e.label) for e in tagger.decode(ours).entities] == [
            (e.start, e.end, e.label) for e in tagger.decode(theirs).entities
        ]


def test_batches_are_bounded_in_tokens_padding_counted():
    shapes = []

    class Recording(RandomRuntime):
        def __call__(self, input_ids, attention_mask):
            shapes.append(input_ids.shape)
            return super().__call__(input_ids, attention_mask)

    tokenizer = wordpiece()
    recording = Tagger(Recording(tokenizer.get_vocab_size()), tokenizer, TAGS, max_length=64)
    recording.logits(["3" * (1 + i % 60) for i in range(600)])
    assert sum(rows for rows, _ in shapes) == 600
    assert all(rows * tokens <= 4096 for rows, tokens in shapes)
    assert len(shapes) < 10


def test_texts_keep_their_order_whatever_their_length(tagger):
    texts = ["아무도 오지 않았다.", "정부는 지난해 부산에 갔다." * 5, "홍길동이", ""]
    alone = [tagger.tag(text) for text in texts]
    together = [list(tagged.entities) for tagged in tagger.tag_all(texts)]
    assert [[(e.start, e.end, e.label) for e in t] for t in together] == [
        [(e.start, e.end, e.label) for e in t] for t in alone
    ]
    assert together[-1] == []


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u200b", "\x00"])
def test_nothing_to_tag_gives_nothing(tagger, text):
    assert tagger.tag(text) == []


@settings(deadline=None)
@given(TEXTS)
def test_spans_are_sound_for_any_text(tagger, text):
    assert_sound(tagger.tag(text), text)


def test_no_model_there(tmp_path):
    with pytest.raises(KonerError, match="holds no model; run `dvc repro`"):
        Tagger.load(tmp_path)


def test_the_folder_says_what_the_tagger_is(tagger, copy):
    assert tagger.token_labels == list(TAGS)
    assert tagger.labels == ("DT", "LC", "OG", "PS", "QT", "TI")
    assert tagger.max_length == 24
    assert tagger.settings == DecodingSettings(temperature=1.0, outside_bias=0.0, legal=True)
    assert tagger.runtime.description.startswith("ONNX Runtime fp32, ")
    rewrite(copy / "config.json", koner_temperature=1.5, koner_outside_bias=-0.5, koner_legal=False)
    rewrite(copy / "tokenizer_config.json", model_max_length=20)
    changed = Tagger.load(copy, "cpu", threads=1)
    assert (changed.settings, changed.max_length) == (DecodingSettings(1.5, -0.5, False), 20)
    assert changed.runtime.description == "ONNX Runtime fp32, 1 thread"


@pytest.mark.parametrize("limit", [10**30, None])
def test_no_window_is_longer_than_the_model_takes(copy, limit):
    rewrite(copy / "tokenizer_config.json", model_max_length=10**30)
    if limit is None:
        (copy / "tokenizer_config.json").unlink()
    assert Tagger.load(copy, "cpu").max_length == 24


def test_both_runtimes_find_the_same(tagger, copy):
    (copy / "model.onnx").unlink()
    torch_tagger = Tagger.load(copy, "cpu")
    assert torch_tagger.runtime.description.startswith("PyTorch fp32, ")
    for line in LINES:
        text, _ = parse_inline(line)
        ours, theirs = tagger.tag(text), torch_tagger.tag(text)
        assert [(e.start, e.end, e.label) for e in ours] == [(e.start, e.end, e.label) for e in theirs]
        assert [e.score for e in ours] == pytest.approx([e.score for e in theirs], abs=1e-4)


HEAVY = """
import sys
from koner import Tagger
tagger = Tagger.load(sys.argv[1], "cpu")
print([(e.start, e.end, e.label) for e in tagger.tag("홍길동이 서울에서 3명을 만났다.")])
print(sorted({"torch", "transformers", "pyarrow", "datasets", "sklearn", "scipy"} & set(sys.modules)))
"""


def test_tagging_by_onnx_imports_nothing_heavy(folder, root):
    """What the process sees is what a user's own program would."""
    done = subprocess.run([sys.executable, "-c", HEAVY, folder], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[(0, 3, 'PS'), (5, 7, 'LC'), (10, 12, 'QT')]", "[]"]


def test_a_vocabulary_without_tokenizer_json_will_do(copy):
    vocabulary = Tokenizer.from_file(str(copy / "tokenizer.json")).get_vocab()
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)), encoding="utf-8")
    rewrite(copy / "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=False)
    assert found(Tagger.load(copy, "cpu"), "홍길동이 서울에서 만났다.") == [("홍길동", "PS"), ("서울", "LC")]


def test_labels_that_are_not_kluenes_are_refused(copy):
    labels = json.loads((copy / "config.json").read_text())["id2label"]
    rewrite(copy / "config.json", id2label={**labels, "3": "I-PER"})
    with pytest.raises(KonerError, match="the model's label 'I-PER' is none of B-DT, I-DT, "):
        Tagger.load(copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b"\xff"),
        ("config.json", b"{}"),
        ("config.json", b'{"id2label": {"5": "O"}, "model_type": "bert"}'),
        ("tokenizer_config.json", b'{"model_max_length": "long"}'),
        ("tokenizer.json", b"{}"),
    ],
)
def test_a_broken_file_is_told_in_one_sentence(copy, name, content):
    (copy / name).write_bytes(content)
    with pytest.raises(KonerError, match="can't be read as a model: ") as error:
        Tagger.load(copy, "cpu")
    assert "\n" not in str(error.value)
