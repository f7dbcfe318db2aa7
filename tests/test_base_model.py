import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaForMaskedLM

from koner.base_model import prepare_base_model
from koner.corpus import RawSentence, check
from koner.errors import KonerError
from koner.params import load_params
from koner.vocabulary import make_tokenizer

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
    """A local checkpoint as the hub lays one out: configuration, tokenizer, safetensors with a masked-LM head."""
    prepare_base_model(params, TEXTS, tmp_path / "made")
    config = RobertaConfig.from_pretrained(tmp_path / "made")
    folder = tmp_path / "checkpoint"
    RobertaForMaskedLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tmp_path / "made").save_pretrained(folder)
    return folder


def test_scratch_is_the_same_for_one_seed_and_another_for_another(params, tmp_path):
    prepare_base_model(params, TEXTS, tmp_path / "a")
    prepare_base_model(params, TEXTS, tmp_path / "b")
    prepare_base_model(params.model_copy(update={"seed": 2}), TEXTS, tmp_path / "c")
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_scratch_weights_are_those_that_numpy_draws_on_any_machine(params, tmp_path):
    prepare_base_model(params, TEXTS, tmp_path / "a")
    weights = load_file(tmp_path / "a" / "model.safetensors")
    words = weights["embeddings.word_embeddings.weight"].numpy()
    drawn = np.random.default_rng(1).standard_normal(words.shape, dtype=np.float32) * 0.02
    drawn[1] = 0  # the padding
    assert np.array_equal(words, drawn.astype(np.float32))


def test_scratch_holds_windows_of_max_length(params, tmp_path):
    prepare_base_model(params, TEXTS, tmp_path / "a")
    model = AutoModel.from_pretrained(tmp_path / "a", add_pooling_layer=False)
    ids = torch.full((1, params.max_length), 5)
    assert model(input_ids=ids).last_hidden_state.shape == (1, params.max_length, 32)


def test_a_local_checkpoint_keeps_its_encoder_and_tokenizer(params, checkpoint, tmp_path):
    prepare_base_model(params.model_copy(update={"base_model": str(checkpoint)}), [], tmp_path / "base")
    kept = load_file(tmp_path / "base" / "model.safetensors")
    given = load_file(checkpoint / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(kept[name], given[f"roberta.{name}"])
    assert not any("lm_head" in key or "pooler" in key for key in kept)
    text = "홍길동이 서울에서"
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "base")(text).input_ids
        == AutoTokenizer.from_pretrained(checkpoint)(text).input_ids
    )


def test_a_pickle_of_tensors_is_read(params, checkpoint, tmp_path):
    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    prepare_base_model(params.model_copy(update={"base_model": str(checkpoint)}), [], tmp_path / "base")
    assert (tmp_path / "base" / "model.safetensors").is_file()


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(params, checkpoint, tmp_path):
    trace = tmp_path / "it ran"
    torch.save({"weight": Hostile(trace)}, checkpoint / "pytorch_model.bin", pickle_module=pickle)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(KonerError, match=r"base_model: .* can't be read safely"):
        prepare_base_model(params.model_copy(update={"base_model": str(checkpoint)}), [], tmp_path / "base")
    assert not trace.exists()
    assert not (tmp_path / "base").exists()
    assert not (tmp_path / "base.tmp").exists()


def spoil_config(folder):
    (folder / "config.json").unlink()


def spoil_weights(folder):
    (folder / "model.safetensors").unlink()


def spoil_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def cut_weights_short(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def unknown_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "nonsense"}))


def without_padding(folder):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            settings = json.loads((folder / name).read_text())
            settings.pop("pad_token", None)
            (folder / name).write_text(json.dumps(settings))


def weights_of_another_model(folder):
    save_file({"other.weight": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})


def tokenizer_of_another_model(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"더{i}" for i in range(10)])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (weights_of_another_model, "lack 21 of the model's"),
        (tokenizer_of_another_model, "and the model embeds only"),
        (spoil_config, "has no config.json"),
        (spoil_weights, "has no weights"),
        (spoil_tokenizer, "holds no tokenizer"),
        (without_padding, "has no padding token"),
        (cut_weights_short, "can't be read safely as a model"),
        (unknown_type, "can't be read safely as a model"),
    ],
)
def test_a_faulty_checkpoint_is_one_sentence_and_leaves_nothing(params, checkpoint, tmp_path, spoil, said):
    spoil(checkpoint)
    with pytest.raises(KonerError, match=f"^base_model: .*{said}") as error:
        prepare_base_model(params.model_copy(update={"base_model": str(checkpoint)}), [], tmp_path / "base")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("base*"))


def test_windows_longer_than_the_model_can_take(params, checkpoint, tmp_path):
    changes = {"base_model": str(checkpoint), "max_length": 129}
    with pytest.raises(KonerError, match=r"^max_length: 129 is more than the 128 tokens that the base model in"):
        prepare_base_model(params.model_copy(update=changes), [], tmp_path / "base")


def test_the_model_made_before_stays_where_the_next_can_not_be_read(params, tmp_path):
    prepare_base_model(params, TEXTS, tmp_path / "base")
    with pytest.raises(KonerError, match="there is no folder"):
        prepare_base_model(params.model_copy(update={"base_model": "./nowhere"}), [], tmp_path / "base")
    assert (tmp_path / "base" / "model.safetensors").is_file()


def test_a_tokenizer_of_another_folder_is_used_for_scratch(params, checkpoint, tmp_path):
    prepare_base_model(params.model_copy(update={"tokenizer": str(checkpoint)}), [], tmp_path / "base")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "base")) == len(AutoTokenizer.from_pretrained(checkpoint))


def test_a_tokenizer_folder_that_is_not_there(params, tmp_path):
    with pytest.raises(KonerError, match=r"^tokenizer: there is no folder \./nowhere"):
        prepare_base_model(params.model_copy(update={"tokenizer": "./nowhere"}), [], tmp_path / "base")


def test_the_real_shape_is_read_from_its_folder(params, shared, tmp_path):
    """klue/roberta-base's configuration and tokenizer, at one layer to keep it small."""
    folder = tmp_path / "klue"
    shutil.copytree(shared / "klue-roberta-base", folder)
    config = RobertaConfig.from_pretrained(folder, num_hidden_layers=1)
    RobertaForMaskedLM(config).save_pretrained(folder)
    prepare_base_model(params.model_copy(update={"base_model": str(folder)}), [], tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer.tokenize("서울에 갔다") == ["서울", "##에", "갔", "##다"]
    assert AutoModel.from_pretrained(tmp_path / "base").config.hidden_size == 768


def test_pieces_that_cross_an_entitys_edge_are_taken_out(params, tmp_path):
    training = [check(RawSentence("", "1", annotated="<홍길동:PS>이 왔다."))]
    spelled = AutoTokenizer.from_pretrained(make_folder(tmp_path))
    assert spelled.tokenize("홍길동이") == ["홍길", "##동이"]
    own = params.model_copy(update={"tokenizer": str(tmp_path / "spelled")})
    assert prepare_base_model(own, training, tmp_path / "base") == ["##동이"]
    dropped = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert dropped.tokenize("홍길동이 길동이") == ["홍길", "##동", "##이", "[UNK]"]
    assert dropped.convert_tokens_to_ids("홍길") == spelled.convert_tokens_to_ids("홍길")
    kept = own.model_copy(update={"drop_crossing": False})
    assert prepare_base_model(kept, training, tmp_path / "base") == []
    assert AutoTokenizer.from_pretrained(tmp_path / "base").tokenize("홍길동이") == ["홍길", "##동이"]


def test_a_model_familys_tokenizer_sets_unspelt_characters_apart_and_stays_so(params, shared, tmp_path):
    """transformers' BertTokenizer cuts words its own way, whatever its tokenizer.json says."""
    own = params.model_copy(update={"tokenizer": str(shared / "klue-roberta-base")})
    prepare_base_model(own, TEXTS, tmp_path / "base")
    AutoTokenizer.from_pretrained(tmp_path / "base").save_pretrained(tmp_path / "again")
    given = AutoTokenizer.from_pretrained(shared / "klue-roberta-base")
    for folder in ("base", "again"):
        read = AutoTokenizer.from_pretrained(tmp_path / folder)
        assert read.tokenize("앳킨슨은") == ["[UNK]", "킨", "##슨", "##은"]
        assert read("서울에서").input_ids == given("서울에서").input_ids
        assert read.special_tokens_map == given.special_tokens_map
        assert read.model_max_length == given.model_max_length
    prepare_base_model(own.model_copy(update={"isolate_unspelt": False}), TEXTS, tmp_path / "base")
    assert AutoTokenizer.from_pretrained(tmp_path / "base").tokenize("앳킨슨은") == ["[UNK]"]


def make_folder(tmp_path):
    """A tokenizer's folder with a piece that is a name's end and a particle."""
    pieces = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", "홍길", "##동이", "##동", "##이", "왔", "##다", "."]
    make_tokenizer({piece: i for i, piece in enumerate(pieces)}, 64).save_pretrained(tmp_path / "spelled")
    return tmp_path / "spelled"
