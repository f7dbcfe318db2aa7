"""A transformers model that predicts for each token its tag in some lines, without training."""

import torch
from transformers import AutoTokenizer

from koner.corpus.checks import RawSentence, check
from koner.encoder.base_model import prepare_base_model
from koner.labels.klue import KLUE
from koner.params import load_params
from koner.tokens.alignment import align
from koner.training.model import build_model

LINES = [
    "<홍길동:PS>이 <서울:LC>에서 <3명:QT>을 만났다.",
    "<정부:OG>는 <지난해:DT> <부산:LC>에 갔다.",
    "<김철수:PS>가 <오후 2시:TI>에 <경찰:OG>을 불렀다.",
    "아무도 오지 않았다.",
]


def write_trained_model(root, folder, lines=LINES, outlier=0.0):
    """Write a model with windows of 24 tokens to `folder/trained`; return it, its folder, and the aligned lines.

    Its attention and feed-forward layers are zero, and its classification head is the solution of a linear system, so
    that its predictions do not depend on a short training. `outlier` is added to one unit of every word embedding: with
    eight bits, the other units then lose their precision.
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
    sentences = [check(RawSentence("", str(i), annotated=line)) for i, line in enumerate(lines)]
    prepare_base_model(params, sentences, folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    aligned = align(sentences, tokenizer, 24, 8, KLUE)
    model = build_model(folder / "base", 0.0, KLUE).eval()
    encoder = model.roberta
    tag_of = {
        i: tag
        for r in aligned
        for i, tag in zip(r.windowed_text.windows[0].input_ids, r.labels[0], strict=True)
        if tag >= 0
    }
    with torch.no_grad():
        encoder.embeddings.position_embeddings.weight.zero_()
        for layer in (encoder.encoder.layer[0].attention.output.dense, encoder.encoder.layer[0].output.dense):
            layer.weight.zero_()
            layer.bias.zero_()
        encoder.embeddings.word_embeddings.weight[:, 0] += outlier
        hidden = encoder(input_ids=torch.tensor(list(tag_of))[:, None]).last_hidden_state[:, 0].double()
        wanted = 10 * torch.nn.functional.one_hot(torch.tensor(list(tag_of.values())), len(KLUE.tags)).double()
        model.classifier.weight.copy_(torch.linalg.lstsq(hidden, wanted, driver="gelsd").solution.T)
        model.classifier.bias.zero_()
    model.save_pretrained(folder / "trained")
    tokenizer.save_pretrained(folder / "trained")
    return model, folder / "trained", aligned
