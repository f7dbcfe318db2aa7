"""The Trainer of pretraining, with its three losses."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, Trainer

from koner.labels.bio import IGNORE_INDEX
from koner.labels.klue import KLUE
from koner.pretraining.masking import WholeWordMasking
from koner.pretraining.models import LABEL_HEAD, hidden_states, vocabulary_logits
from koner.pretraining.packing import NO_TAG

_TAG_HEAD = "koner_tags"


def add_heads(model: PreTrainedModel) -> None:
    """Add two heads with random weights.

    One predicts the morpheme tags of each token's first and last character, the other, unless the model has it already,
    the named entities' tag of each token.
    """
    setattr(model, _TAG_HEAD, nn.Linear(model.config.hidden_size, 2 * NO_TAG))
    if not hasattr(model, LABEL_HEAD):
        setattr(model, LABEL_HEAD, nn.Linear(model.config.hidden_size, len(KLUE.tags)))


def remove_heads(model: PreTrainedModel, keep_labels: bool) -> None:
    """Remove the heads that `add_heads` added.

    Args:
        model: The model.
        keep_labels: Whether to keep the head of the named entities' tags, and name the tags in the configuration.
    """
    delattr(model, _TAG_HEAD)
    if keep_labels:
        model.config.id2label = KLUE.id_to_tag
        model.config.label2id = KLUE.tag_to_id
    else:
        delattr(model, LABEL_HEAD)


class PretrainingTrainer(Trainer):  # type: ignore[misc]
    """A Trainer for masked language modelling on packs, with morpheme tagging and weak labels as further tasks.

    Tokens attend to those of their own document only. Vocabulary logits are computed for masked tokens alone. The
    weak label of a masked token has to be told from its context. An evaluation masks the same words every time, and
    reports the loss of each task as `eval_masked`, `eval_tags` and `eval_weak`.

    Args:
        masking: The masking of words.
        tag_weight: The weight of the loss of morpheme tagging; 0 leaves the task out.
        weak_weight: The weight of the loss of the weak labels; 0 leaves the task out.
        **options: The arguments of the Trainer.
    """

    def __init__(self, masking: WholeWordMasking, tag_weight: float, weak_weight: float, **options: Any) -> None:
        super().__init__(**options)
        self.masking, self.tag_weight, self.weak_weight = masking, tag_weight, weak_weight
        self._evaluation_losses: dict[str, float] = {}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss of a batch of packs; with `return_outputs` also return the loss of each task."""
        unwrapped: PreTrainedModel = self.accelerator.unwrap_model(model)
        # The collator prepares some batches ahead. Words are masked here, so that a resumed run draws the same words.
        input_ids, labels = self.masking(inputs["input_ids"], inputs["words"])
        # The Trainer enters autocast in the forward pass of the wrapped model, which is not used.
        with self.accelerator.autocast():
            hidden = hidden_states(unwrapped, input_ids, inputs["documents"])
            is_masked = labels != IGNORE_INDEX
            loss = _mean_loss(vocabulary_logits(unwrapped, hidden[is_masked]), labels[is_masked], IGNORE_INDEX)
            losses = {"masked": loss.detach()}
            if self.tag_weight:
                tag_logits = getattr(unwrapped, _TAG_HEAD)(hidden).unflatten(-1, (2, NO_TAG))
                tags = torch.stack([inputs["first_tags"], inputs["last_tags"]], -1)
                tag_loss = _mean_loss(tag_logits.flatten(0, 2), tags.flatten(), NO_TAG)
                loss = loss + self.tag_weight * tag_loss
                losses["tags"] = tag_loss.detach()
            if self.weak_weight:
                label_logits = getattr(unwrapped, LABEL_HEAD)(hidden)
                weak_loss = _mean_loss(label_logits.flatten(0, 1), inputs["weak_labels"].flatten(), IGNORE_INDEX)
                loss = loss + self.weak_weight * weak_loss
                losses["weak"] = weak_loss.detach()
        if not model.training:
            for task, value in losses.items():
                self._evaluation_losses[f"eval_{task}"] += float(value) * len(labels)
        return (loss, losses) if return_outputs else loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate with the words that the seed masks, and add the loss of each task to the metrics."""
        self._evaluation_losses = defaultdict(float)
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed)
            output = super().evaluation_loop(*args, **kwargs)
        means = {name: total / output.num_samples for name, total in self._evaluation_losses.items()}
        output.metrics.update(means)
        return output


def _mean_loss(logits: torch.Tensor, labels: torch.Tensor, ignored: int) -> torch.Tensor:
    # A small batch may have no label at all. The mean would be NaN then, and with it all weights after the update.
    total = cross_entropy(logits.float(), labels, ignore_index=ignored, reduction="sum")
    return total / (labels != ignored).sum().clamp(min=1)
