"""A model that looks each character's tag up: exact, tiny, and quick to load."""

import json
from pathlib import Path

import numpy as np
import onnx
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from koner.corpus import parse_inline
from koner.labels import ID_TO_TAG, OUTSIDE, TAG_TO_ID, TAGS, tags_of


def write_model(folder: Path, marked: list[str]) -> None:
    """Writes a model that gives the characters of the marked lines their tags, each as sure as its number says."""
    tag_of = {"[UNK]": OUTSIDE}
    for line in marked:
        text, entities = parse_inline(line)
        tag_of |= {c: tag for c, tag in zip(text, tags_of(entities, len(text)), strict=True) if not c.isspace()}
    tokenizer = Tokenizer(WordLevel({c: i for i, c in enumerate(tag_of)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), behavior="isolated")]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_type": "table", "max_position_embeddings": 32, "id2label": ID_TO_TAG}
    (folder / "config.json").write_text(json.dumps(config))
    table = np.eye(len(TAGS), dtype=np.float32)[[TAG_TO_ID[tag] for tag in tag_of.values()]]
    table *= np.linspace(2, 9, len(table), dtype=np.float32)[:, None]
    inputs = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, ["batch", "tokens"])
        for n in ("input_ids", "attention_mask")
    ]
    output = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", "tokens", len(TAGS)])
    node = onnx.helper.make_node("Gather", ["table", "input_ids"], ["logits"])
    graph = onnx.helper.make_graph([node], "table", inputs, [output], [onnx.numpy_helper.from_array(table, "table")])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), folder / "model.onnx")
