from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from koner.corpus.checks import RawSentence, check
from koner.encoder.base_model import prepare_base_model
from koner.errors import KonerError
from koner.labels.bio import IGNORE_INDEX
from koner.labels.klue import KLUE
from koner.params import load_params
from koner.resources import NAMES
from koner.storage.parquet import BATCH, write_rows
from koner.tokens.alignment import ALIGNED_SCHEMA, align, aligned_to_row
from koner.training.augmentation import augment_sentences, read_names
from koner.training.dataset import WindowDataset, read_parts

LINES = ["<홍길동:PS>이 <서울:LC>에서 <3명:QT>을 만났다.", "비가 온다", "<정부:OG>는 <지난해:DT> <부산:LC>에 갔다."]
# Short windows: longer sentences make several.
SMALL = {"base_model": "scratch", "layers": 1, "hidden_size": 32, "heads": 2, "vocab_min_count": 1, "max_length": 8}
COUNTS = {"train": BATCH + 7, "development": 3}


@pytest.fixture(scope="module")
def setting(root, tmp_path_factory):
    """Parameters, a folder with the base model and the split, and the aligned sentences of the split."""
    params = load_params(root / "params.yaml").model_copy(update={**SMALL, "stride": 2})
    folder = tmp_path_factory.mktemp("setting")
    parts = {
        part: [check(RawSentence(f"{i}", f"{part}-{i}", annotated=LINES[i % len(LINES)])) for i in range(count)]
        for part, count in COUNTS.items()
    }
    prepare_base_model(params, parts["train"], folder / "base")
    aligned = {part: align_sentences(sentences, params, folder / "base") for part, sentences in parts.items()}
    for part, sentences in aligned.items():
        write_rows(folder / "split" / f"{part}.parquet", map(aligned_to_row, sentences), ALIGNED_SCHEMA)
    return params, folder, aligned


def align_sentences(sentences, params, base):
    tokenizer = AutoTokenizer.from_pretrained(base)
    return align(sentences, tokenizer, params.max_length, params.stride, KLUE)


def window_lists(sentences):
    """Return the windows of aligned sentences as plain lists."""
    return [
        {"input_ids": list(window.input_ids), "labels": list(labels)}
        for sentence in sentences
        for window, labels in zip(sentence.windowed_text.windows, sentence.labels, strict=True)
    ]


def all_windows(windows):
    return [windows[i] for i in range(len(windows))]


def test_windows_are_read_as_they_were_written(setting):
    _, folder, aligned = setting
    for part, sentences in aligned.items():
        assert len(window_lists(sentences)) > len(sentences)
        for windows in (WindowDataset(sentences), WindowDataset.read(folder / "split" / f"{part}.parquet")):
            assert all_windows(windows) == window_lists(sentences)


def test_windows_are_read_in_any_order(setting):
    _, _, aligned = setting
    windows = WindowDataset(aligned["development"])
    loader = DataLoader(windows, batch_size=None, sampler=[4, 0, 2])
    assert list(loader) == [window_lists(aligned["development"])[i] for i in (4, 0, 2)]


def test_a_blank_window_has_no_label(setting):
    _, _, aligned = setting
    windows = WindowDataset(aligned["development"])
    assert windows[None] == {"input_ids": windows[0]["input_ids"][:1], "labels": [IGNORE_INDEX]}


def test_an_empty_dataset_has_no_windows():
    assert len(WindowDataset()) == 0


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_extend_appends_windows(setting, picks, data):
    _, _, aligned = setting
    sentences = [aligned["train"][i] for i in picks]
    cut = data.draw(st.integers(0, len(sentences)))
    windows = WindowDataset(sentences[:cut])
    windows.extend(sentences[cut:])
    assert all_windows(windows) == window_lists(sentences)


def test_a_missing_part_is_an_error():
    with pytest.raises(KonerError, match=r"nowhere\.parquet is missing"):
        WindowDataset.read(Path("nowhere.parquet"))


@pytest.mark.parametrize("augment", [0, 2])
def test_the_training_part_includes_augmented_sentences(setting, augment):
    params, folder, aligned = setting
    params = params.model_copy(update={"augment": augment})
    training, development, counts = read_parts(params, folder / "base", folder / "split", KLUE)
    sentences = [r.sentence for r in aligned["train"]]
    augmented = list(augment_sentences(sentences, read_names(NAMES, sentences), augment, params.seed))
    assert all_windows(training) == window_lists(
        [*aligned["train"], *align_sentences(augmented, params, folder / "base")]
    )
    assert all_windows(development) == window_lists(aligned["development"])
    assert counts == {"written": len(sentences), "substituted": len(augmented)}
