import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaForMaskedLM, RobertaForTokenClassification

from koner.corpus.checks import RawSentence, check
from koner.encoder.base_model import prepare_base_model
from koner.encoder.vocabulary import make_tokenizer
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.params import load_params
from koner.training.model import build_model

TEXTS = [
    check(RawSentence("", str(i), annotated=line))
    for i, line in enumerate(
        ["<홍길동:PS>이 <서울:LC>에서 일했다.", "<홍길동:PS>은 <서울:LC>로 갔다.", "<김철수:PS>가 <부산:LC>에서 왔다."]
        * 3
    )
]


@pytest.fixture
def params(root):
    sizes = {"layers": 1, "hidden_size": 32, "heads": 2, "vocab_min_count": 2, "seed": 1, "base_model": "scratch"}
    return load_params(root / "params.yaml").model_copy(update=sizes)


@pytest.fixture
def checkpoint(params, tmp_path):
    """A local checkpoint in the layout of the hub: configuration, tokenizer, safetensors with a masked-LM head."""
    prepare_base_model(params, TEXTS, tmp_path / "scratch")
    config = RobertaConfig.from_pretrained(tmp_path / "scratch")
    folder = tmp_path / "checkpoint"
    RobertaForMaskedLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tmp_path / "scratch").save_pretrained(folder)
    return folder


def test_scratch_weights_depend_on_the_seed_alone(params, tmp_path):
    prepare_base_model(params, TEXTS, tmp_path / "a")
    prepare_base_model(params, TEXTS, tmp_path / "b")
    prepare_base_model(params.model_copy(update={"seed": 2}), TEXTS, tmp_path / "c")
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_scratch_weights_are_drawn_by_numpy(params, tmp_path):
    prepare_base_model(params, TEXTS, tmp_path / "a")
    weights = load_file(tmp_path / "a" / "model.safetensors")
    words = weights["embeddings.word_embeddings.weight"].numpy()
    expected = np.random.default_rng(1).standard_normal(words.shape, dtype=np.float32) * 0.02
    expected[1] = 0  # the padding
    assert np.array_equal(words, expected.astype(np.float32))


def test_a_scratch_model_accepts_windows_of_max_length(params, tmp_path):
    prepare_base_model(params, TEXTS, tmp_path / "a")
    model = AutoModel.from_pretrained(tmp_path / "a", add_pooling_layer=False)
    ids = torch.full((1, params.max_length), 5)
    assert model(input_ids=ids).last_hidden_state.shape == (1, params.max_length, 32)


@pytest.mark.parametrize("tags", [KLUE.tags, KLUE.tags[::-1]])
def test_a_head_over_the_same_tags_is_kept(params, checkpoint, tmp_path, tags):
    config = RobertaConfig.from_pretrained(checkpoint, id2label=dict(enumerate(tags)), num_labels=len(tags))
    original = RobertaForTokenClassification(config)
    original.save_pretrained(checkpoint)
    prepare_base_model(params.model_copy(update={"base_model": str(checkpoint)}), [], tmp_path / "base", labels=KLUE)
    built = build_model(tmp_path / "base", 0.1, KLUE)
    assert torch.equal(built.classifier.weight, original.classifier.weight) == (tags == KLUE.tags)
    words = built.roberta.embeddings.word_embeddings.weight
    assert torch.equal(words, original.roberta.embeddings.word_embeddings.weight)


def test_a_local_checkpoint_keeps_its_encoder_and_tokenizer(params, checkpoint, tmp_path):
    prepare_base_model(params.model_copy(update={"base_model": str(checkpoint)}), [], tmp_path / "base", labels=KLUE)
    base = load_file(tmp_path / "base" / "model.safetensors")
    original = load_file(checkpoint / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(base[name], original[f"roberta.{name}"])
    assert not any("lm_head" in key or "pooler" in key for key in base)
    text = "홍길동이 서울에서"
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "base")(text).input_ids
        == AutoTokenizer.from_pretrained(checkpoint)(text).input_ids
    )


def test_a_pickle_of_tensors_is_loaded(params, checkpoint, tmp_path):
    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    prepare_base_model(params.model_copy(update={"base_model": str(checkpoint)}), [], tmp_path / "base", labels=KLUE)
    assert (tmp_path / "base" / "model.safetensors").is_file()


class Malicious:
    """An object that runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_contains_code_is_refused_without_running_it(params, checkpoint, tmp_path):
    trace = tmp_path / "trace"
    torch.save({"weight": Malicious(trace)}, checkpoint / "pytorch_model.bin", pickle_module=pickle)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(KonerError, match=r"base_model: .* can't be read safely"):
        prepare_base_model(
            params.model_copy(update={"base_model": str(checkpoint)}), [], tmp_path / "base", labels=KLUE
        )
    assert not trace.exists()
    assert not (tmp_path / "base").exists()
    assert not (tmp_path / "base.tmp").exists()


def remove_config(folder):
    (folder / "config.json").unlink()


def remove_weights(folder):
    (folder / "model.safetensors").unlink()


def remove_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def truncate_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def set_unknown_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "nonsense"}))


def remove_padding_token(folder):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            settings = json.loads((folder / name).read_text())
            settings.pop("pad_token", None)
            (folder / name).write_text(json.dumps(settings))


def replace_weights(folder):
    save_file({"other.weight": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})


def add_tokens(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"더{i}" for i in range(10)])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (replace_weights, "lack 21 of the model's"),
        (add_tokens, "and the model embeds only"),
        (remove_config, "has no config.json"),
        (remove_weights, "has no weights"),
        (remove_tokenizer, "has no tokenizer"),
        (remove_padding_token, "has no padding token"),
        (truncate_weights, "can't be read safely as a model"),
        (set_unknown_type, "can't be read safely as a model"),
    ],
)
def test_a_damaged_checkpoint_is_reported_in_one_line_and_leaves_no_folder(
    params, checkpoint, tmp_path, damage, message
):
    damage(checkpoint)
    with pytest.raises(KonerError, match=f"^base_model: .*{message}") as error:
        prepare_base_model(
            params.model_copy(update={"base_model": str(checkpoint)}), [], tmp_path / "base", labels=KLUE
        )
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("base*"))


def test_windows_longer_than_the_model_accepts_are_refused(params, checkpoint, tmp_path):
    changes = {"base_model": str(checkpoint), "max_length": 129}
    with pytest.raises(KonerError, match=r"^max_length: 129 is more than the 128 tokens that the base model in"):
        prepare_base_model(params.model_copy(update=changes), [], tmp_path / "base")


def test_the_previous_model_is_kept_if_the_next_can_not_be_loaded(params, tmp_path):
    prepare_base_model(params, TEXTS, tmp_path / "base")
    with pytest.raises(KonerError, match="there is no folder"):
        prepare_base_model(params.model_copy(update={"base_model": "./nowhere"}), [], tmp_path / "base")
    assert (tmp_path / "base" / "model.safetensors").is_file()


def test_a_scratch_model_can_use_the_tokenizer_of_a_folder(params, checkpoint, tmp_path):
    prepare_base_model(params.model_copy(update={"tokenizer": str(checkpoint)}), [], tmp_path / "base")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "base")) == len(AutoTokenizer.from_pretrained(checkpoint))


def test_a_missing_tokenizer_folder_is_refused(params, tmp_path):
    with pytest.raises(KonerError, match=r"^tokenizer: there is no folder \./nowhere"):
        prepare_base_model(params.model_copy(update={"tokenizer": "./nowhere"}), [], tmp_path / "base")


def test_a_model_like_klue_roberta_base_is_loaded_from_its_folder(params, shared, tmp_path):
    """The configuration and tokenizer of klue/roberta-base, with one layer to keep it small."""
    folder = tmp_path / "klue"
    shutil.copytree(shared / "klue-roberta-base", folder)
    config = RobertaConfig.from_pretrained(folder, num_hidden_layers=1)
    RobertaForMaskedLM(config).save_pretrained(folder)
    prepare_base_model(params.model_copy(update={"base_model": str(folder)}), [], tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer.tokenize("서울에 갔다") == ["서울", "##에", "갔", "##다"]
    assert AutoModel.from_pretrained(tmp_path / "base").config.hidden_size == 768


def test_pieces_that_cross_entity_boundaries_are_removed(params, tmp_path):
    training = [check(RawSentence("", "1", annotated="<홍길동:PS>이 왔다."))]
    original = AutoTokenizer.from_pretrained(write_tokenizer(tmp_path / "tokenizer"))
    assert original.tokenize("홍길동이") == ["홍길", "##동이"]
    own = params.model_copy(update={"tokenizer": str(tmp_path / "tokenizer")})
    assert prepare_base_model(own, training, tmp_path / "base") == ["##동이"]
    pruned = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert pruned.tokenize("홍길동이 길동이") == ["홍길", "##동", "##이", "[UNK]"]
    assert pruned.convert_tokens_to_ids("홍길") == original.convert_tokens_to_ids("홍길")
    without_pruning = own.model_copy(update={"drop_crossing": False})
    assert prepare_base_model(without_pruning, training, tmp_path / "base") == []
    assert AutoTokenizer.from_pretrained(tmp_path / "base").tokenize("홍길동이") == ["홍길", "##동이"]


def test_the_tokenizer_of_a_model_family_isolates_unknown_characters_after_saving_too(params, shared, tmp_path):
    """The class BertTokenizer of transformers replaces the pre-tokenizer of its tokenizer.json."""
    own = params.model_copy(update={"tokenizer": str(shared / "klue-roberta-base")})
    prepare_base_model(own, TEXTS, tmp_path / "base")
    AutoTokenizer.from_pretrained(tmp_path / "base").save_pretrained(tmp_path / "again")
    original = AutoTokenizer.from_pretrained(shared / "klue-roberta-base")
    for folder in ("base", "again"):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / folder)
        assert tokenizer.tokenize("앳킨슨은") == ["[UNK]", "킨", "##슨", "##은"]
        assert tokenizer("서울에서").input_ids == original("서울에서").input_ids
        assert tokenizer.special_tokens_map == original.special_tokens_map
        assert tokenizer.model_max_length == original.model_max_length
    prepare_base_model(own.model_copy(update={"isolate_unspelt": False}), TEXTS, tmp_path / "base")
    assert AutoTokenizer.from_pretrained(tmp_path / "base").tokenize("앳킨슨은") == ["[UNK]"]


def write_tokenizer(folder):
    """Write a tokenizer with a piece that spans the end of a name and a particle."""
    pieces = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", "홍길", "##동이", "##동", "##이", "왔", "##다", "."]
    make_tokenizer({piece: i for i, piece in enumerate(pieces)}, 64).save_pretrained(folder)
    return folder
