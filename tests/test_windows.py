from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from koner.alignment import RETAGGED_SCHEMA, retag, retagged_to_row
from koner.augmentation import NAMES, augmented, read_names
from koner.base_model import prepare_base_model
from koner.corpus import RawSentence, check
from koner.errors import KonerError
from koner.labels import IGNORED
from koner.params import load_params
from koner.parquet import BATCH, write_rows
from koner.windows import WindowDataset, read_parts

LINES = ["<홍길동:PS>이 <서울:LC>에서 <3명:QT>을 만났다.", "비가 온다", "<정부:OG>는 <지난해:DT> <부산:LC>에 갔다."]
# Short windows: longer sentences make several.
SMALL = {"base_model": "scratch", "layers": 1, "hidden_size": 32, "heads": 2, "vocab_min_count": 1, "max_length": 8}
COUNTS = {"train": BATCH + 7, "development": 3}


@pytest.fixture(scope="module")
def setting(root, tmp_path_factory):
    """Parameters, a folder of the base model and the split, and the retagged sentences in it."""
    params = load_params(root / "params.yaml").model_copy(update={**SMALL, "stride": 2, "boundaries": True})
    folder = tmp_path_factory.mktemp("setting")
    parts = {
        part: [check(RawSentence(f"{i}", f"{part}-{i}", annotated=LINES[i % len(LINES)])) for i in range(count)]
        for part, count in COUNTS.items()
    }
    prepare_base_model(params, parts["train"], folder / "base")
    tagged = {part: retagged(sentences, params, folder / "base") for part, sentences in parts.items()}
    for part, found in tagged.items():
        write_rows(folder / "split" / f"{part}.parquet", map(retagged_to_row, found), RETAGGED_SCHEMA)
    return params, folder, tagged


def retagged(sentences, params, base):
    tokenizer = AutoTokenizer.from_pretrained(base)
    return retag(sentences, tokenizer, params.max_length, params.stride, params.boundaries)


def listed(found):
    """The windows of retagged sentences as plain lists."""
    return [
        {"input_ids": list(window.input_ids), "labels": list(labels)}
        for r in found
        for window, labels in zip(r.encoded.windows, r.labels, strict=True)
    ]


def every(windows):
    return [windows[i] for i in range(len(windows))]


def test_windows_are_read_as_they_were_retagged(setting):
    _, folder, tagged = setting
    for part, found in tagged.items():
        assert len(listed(found)) > len(found)
        for windows in (WindowDataset(found), WindowDataset.read(folder / "split" / f"{part}.parquet")):
            assert every(windows) == listed(found)


def test_windows_are_drawn_in_any_order(setting):
    _, _, tagged = setting
    windows = WindowDataset(tagged["development"])
    drawn = DataLoader(windows, batch_size=None, sampler=[4, 0, 2])
    assert list(drawn) == [listed(tagged["development"])[i] for i in (4, 0, 2)]


def test_a_blank_window_has_nothing_to_learn(setting):
    _, _, tagged = setting
    windows = WindowDataset(tagged["development"])
    assert windows[None] == {"input_ids": windows[0]["input_ids"][:1], "labels": [IGNORED]}


def test_nothing_gives_no_windows():
    assert len(WindowDataset()) == 0


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_added_windows_come_behind(setting, picks, data):
    _, _, tagged = setting
    found = [tagged["train"][i] for i in picks]
    cut = data.draw(st.integers(0, len(found)))
    windows = WindowDataset(found[:cut])
    windows.extend(found[cut:])
    assert every(windows) == listed(found)


def test_a_missing_part_is_told():
    with pytest.raises(KonerError, match=r"nowhere\.parquet is missing"):
        WindowDataset.read(Path("nowhere.parquet"))


@pytest.mark.parametrize("augment", [0, 2])
def test_the_training_part_comes_with_what_augmentation_adds(setting, augment):
    params, folder, tagged = setting
    params = params.model_copy(update={"augment": augment})
    training, development, counts = read_parts(params, folder / "base", folder / "split")
    sentences = [r.sentence for r in tagged["train"]]
    extra = list(augmented(sentences, read_names(NAMES, sentences), augment, params.seed))
    assert every(training) == listed([*tagged["train"], *retagged(extra, params, folder / "base")])
    assert every(development) == listed(tagged["development"])
    assert counts == {"written": len(sentences), "substituted": len(extra)}
