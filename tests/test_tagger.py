import unicodedata

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from koner.alignment import retag
from koner.base_model import prepare_base_model
from koner.corpus import RawSentence, check
from koner.errors import KonerError
from koner.labels import TAGS
from koner.params import load_params
from koner.tagger import Tagger
from koner.training import build_model

LINES = [
    "<홍길동:PS>이 <서울:LC>에서 <3명:QT>을 만났다.",
    "<정부:OG>는 <지난해:DT> <부산:LC>에 갔다.",
    "<김철수:PS>가 <오후 2시:TI>에 <경찰:OG>을 불렀다.",
    "아무도 오지 않았다.",
]


@pytest.fixture(scope="module")
def tagger(root, tmp_path_factory):
    """A real transformers model, of windows of 24 tokens, that gives each token the tag it has in LINES.

    Its attention and feed-forward layers add nothing and its head is solved for, so that what it finds does not hang
    on the luck of a short training.
    """
    changes = {"layers": 1, "hidden_size": 64, "heads": 2, "vocab_min_count": 1, "max_length": 24}
    params = load_params(root / "params.yaml").model_copy(update=changes)
    sentences = [check(RawSentence("", str(i), annotated=line)) for i, line in enumerate(LINES)]
    folder = tmp_path_factory.mktemp("tagger")
    prepare_base_model(params, [s.text for s in sentences], folder / "base")
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
    return Tagger.load(folder / "ner")


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
    text = " ".join(["홍길동이 서울에서 3명을 만났다."] * 12)
    assert found(tagger, text) == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT")] * 12


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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.sampled_from("홍길동서울부산정부3명 \t\nㅋㅎ한ᄒ́각👩‍👩🏽ＡＢ中！.\u200bé́"), max_size=60)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
def test_spans_are_in_the_text_in_order_and_apart(tagger, text):
    position = 0
    for e in tagger.tag(text):
        assert position <= e.start < e.end <= len(text)
        assert 0 <= e.score <= 1
        position = e.end


def test_no_model_there(tmp_path):
    with pytest.raises(KonerError, match="holds no model; run `dvc repro`"):
        Tagger.load(tmp_path)
