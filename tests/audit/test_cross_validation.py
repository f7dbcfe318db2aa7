from types import SimpleNamespace

import pytest

from koner.audit.cross_validation import train_without
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.params import load_params
from tests.audit.corpus import sentences


def test_too_few_sentences_outside_a_fold_are_refused(root, tmp_path):
    # Nineteen different texts, some of them twice.
    lines = [f"<이름{i}:PS>은 <곳{i}:LC>에 갔다." for i in range(19)]
    aligned = [SimpleNamespace(sentence=sentence) for sentence in sentences(*lines, *lines[:9])]
    params = load_params(root / "params.yaml")
    with pytest.raises(KonerError, match=r"^folds: outside a fold there are 19 different sentences .* at least 20 are"):
        train_without(params, tmp_path / "base", KLUE, aligned, tmp_path / "model", tmp_path / "checkpoints", "run")
    assert list(tmp_path.iterdir()) == []
