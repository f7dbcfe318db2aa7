"""A tiny model that looks up the tag of each character: exact, and quick to load."""

import json
from pathlib import Path

import numpy as np
import onnx
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from koner.corpus.inline import parse_inline
from koner.labels.bio import OUTSIDE, entities_to_bio
from koner.labels.klue import KLUE


def write_model(folder: Path, marked: list[str]) -> None:
    """Write a model that predicts the tags of the marked lines' characters, each with a score of its own."""
    tag_of = {"[UNK]": OUTSIDE}
    for line in marked:
        text, entities = parse_inline(line)
        tag_of |= {c: tag for c, tag in zip(text, entities_to_bio(entities, len(text)), strict=True) if not c.isspace()}
    tokenizer = Tokenizer(WordLevel({c: i for i, c in enumerate(tag_of)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), behavior="isolated")]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_type": "table", "max_position_embeddings": 32, "id2label": KLUE.id_to_tag}
    (folder / "config.json").write_text(json.dumps(config))
    table = np.eye(len(KLUE.tags), dtype=np.float32)[[KLUE.tag_to_id[tag] for tag in tag_of.values()]]
    table *= np.linspace(2, 9, len(table), dtype=np.float32)[:, None]
    inputs = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, ["batch", "tokens"])
        for n in ("input_ids", "attention_mask")
    ]
    output = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", "tokens", len(KLUE.tags)])
    node = onnx.helper.make_node("Gather", ["table", "input_ids"], ["logits"])
    graph = onnx.helper.make_graph([node], "table", inputs, [output], [onnx.numpy_helper.from_array(table, "table")])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), folder / "model.onnx")
