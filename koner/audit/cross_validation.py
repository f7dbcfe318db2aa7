"""The model of a fold, trained on the sentences of all other folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from transformers import AutoTokenizer

from koner.audit.folds import DistinctTexts
from koner.corpus.splitting import MIN_SENTENCES, count_drawable, draw_stratified
from koner.errors import KonerError
from koner.labels.label_set import LabelSet
from koner.params import Params
from koner.resources import NAMES
from koner.tokens.alignment import AlignedSentence, align
from koner.training.augmentation import augment_sentences, read_names
from koner.training.dataset import WindowDataset
from koner.training.fit import train


def train_without(
    params: Params,
    base: Path,
    labels: LabelSet,
    sentences: Sequence[AlignedSentence],
    folder: Path,
    checkpoints: Path,
    run_id: str,
) -> None:
    """Train a model on the sentences outside a fold, with the parameters of the pipeline, and write it to `folder`.

    A part of these sentences, `development_share` of their texts, is kept back to choose the epoch, so that the fold
    itself decides nothing.

    Args:
        params: The parameters of the pipeline. One process trains, whatever they say.
        base: The folder of the base model.
        labels: The label set of the corpus.
        sentences: The sentences outside the fold, aligned to the base model's tokens.
        folder: The folder that the model is written to, atomically.
        checkpoints: The folder of checkpoints, from which an interrupted run resumes.
        run_id: The name of the run, as for `koner.training.fit.train`.

    Raises:
        KonerError: If there are too few sentences, or the base model cannot be trained with these parameters.
    """
    params = params.model_copy(update={"processes": 1, "machines": 1, "sharding": "none"})
    is_development = _draw_development(sentences, labels, params)
    training, development = (
        [s for s, drawn in zip(sentences, is_development.tolist(), strict=True) if drawn is kept_back]
        for kept_back in (False, True)
    )
    windows = WindowDataset(training)
    if params.augment:
        plain = [aligned.sentence for aligned in training]
        copies = augment_sentences(plain, read_names(NAMES, plain), params.augment, params.seed)
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        windows.extend(align(list(copies), tokenizer, params.max_length, params.stride, labels))
    train(params, base, labels, windows, WindowDataset(development), folder, checkpoints, run_id)


def _draw_development(sentences: Sequence[AlignedSentence], labels: LabelSet, params: Params) -> np.ndarray:
    """Return which of the sentences choose the epoch (sentences,); sentences of one text stay together."""
    texts = DistinctTexts.of([aligned.sentence for aligned in sentences], labels)
    type_counts = csr_array(texts.presence[:, :-1].astype(np.int32))
    if (drawable := count_drawable(type_counts)) < MIN_SENTENCES:
        raise KonerError(
            f"folds: outside a fold there are {drawable} different sentences without a type that only they have; at "
            f"least {MIN_SENTENCES} are needed to train on"
        )
    drawn = np.zeros(len(texts.presence), bool)
    drawn[draw_stratified(type_counts, params.development_share, params.seed)] = True
    in_development: np.ndarray = drawn[texts.groups]
    return in_development
