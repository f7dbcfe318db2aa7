"""The folder of the base model, which the pipeline starts from."""

from __future__ import annotations

from collections.abc import Iterable, Set
from pathlib import Path

import torch
from transformers import (
    AutoModel,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from koner.corpus.sentences import Sentence
from koner.encoder.loading import check_fits, has_label_head, load_model, load_tokenizer, resolve_model_folder
from koner.encoder.pruning import BoundaryWord, boundary_words, prune_crossing_pieces
from koner.encoder.scratch import scratch_model, scratch_tokenizer
from koner.encoder.unknown_characters import isolate_unknown_characters
from koner.labels.label_set import LabelSet
from koner.params import SCRATCH, Params
from koner.storage.outputs import atomic_directory


def prepare_base_model(
    params: Params,
    training: Iterable[Sentence],
    folder: Path,
    words: Set[BoundaryWord] | None = None,
    labels: LabelSet | None = None,
) -> list[str]:
    """Write the base model's configuration, weights (safetensors) and tokenizer to `folder`.

    A head over the tags of `labels` is kept, so that fine-tuning starts from it; other heads are left out.

    Args:
        params: The parameters of the pipeline.
        training: The training sentences, iterated over several times. They are needed for a tokenizer of our own, and
            with `drop_crossing`.
        folder: The folder to write; it is not changed if an error is raised.
        words: The `boundary_words` of the training sentences, if the caller has them.
        labels: The label set of the corpus; None if no head is to be kept.

    Returns:
        The pieces that were removed from the vocabulary because of `drop_crossing`.

    Raises:
        KonerError: If the model or the tokenizer does not exist, can't be downloaded, or can't be read safely.
    """
    with atomic_directory(folder) as draft:
        model, tokenizer = _load_or_create(params, training, labels)
        model.save_pretrained(draft)
        if params.isolate_unspelt:
            tokenizer = _isolate_unknown_characters(tokenizer)
        tokenizer.save_pretrained(draft)
        if not params.drop_crossing:
            return []
        words = boundary_words(training) if words is None else words
        pruned, removed = prune_crossing_pieces(tokenizer.backend_tokenizer, words)
        pruned.save(str(draft / "tokenizer.json"))
        return removed


def _load_or_create(
    params: Params, training: Iterable[Sentence], labels: LabelSet | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if params.base_model == SCRATCH:
        tokenizer = scratch_tokenizer(params, (sentence.text for sentence in training))
        return scratch_model(params, tokenizer), tokenizer
    path = resolve_model_folder(params.base_model, params.base_model_revision)
    # If the weights of the head are missing after all, they are random.
    torch.manual_seed(params.seed)
    keeps_head = labels is not None and has_label_head(path, labels)
    auto_class = AutoModelForTokenClassification if keeps_head else AutoModel
    model, tokenizer = load_model(path, auto_class), load_tokenizer(path, "base_model")
    check_fits(model, tokenizer, params.max_length, "max_length", path)
    if hasattr(model, "pooler"):
        model.pooler = None
    return model, tokenizer


def _isolate_unknown_characters(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    backend = isolate_unknown_characters(tokenizer.backend_tokenizer)
    if backend is tokenizer.backend_tokenizer:
        return tokenizer
    # The tokenizer classes of model families, such as BertTokenizer, replace the pre-tokenizer by their own.
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        **tokenizer.special_tokens_map,
    )
