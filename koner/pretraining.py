"""Masked-language-model training on packs of raw text, with the tags of its morphemes as a second task."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from koner.base_model import SCRATCH
from koner.labels import IGNORED
from koner.masked_models import hidden_units, read_base, small_model, vocabulary_scores
from koner.memory import keep_memory
from koner.outputs import whole_folder
from koner.packing import NO_TAG, NO_WORD, Packs
from koner.pretrain_params import PretrainParams
from koner.pretraining_data import HELD, TOKENIZER, TRAIN
from koner.skipgram import token_vectors
from koner.training import fingerprint, last_checkpoint, precision_settings, uses_bf16

_TAG_HEAD = "koner_tags"
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "trapezoid": "warmup_stable_decay"}


class WholeWordMasking:
    """Masks whole words of a batch: `share` of them, of which 80 % [MASK], 10 % other tokens, 10 % kept.

    Whole-word masking after Cui et al. 2019; a word is what stands between spaces. Takes `input_ids` and `words`, int64
    (packs, tokens), words counted from 0 in each pack; gives the ids to read, and labels to tell (-100 elsewhere).
    """

    def __init__(self, mask_id: int, vocabulary: int, specials: Sequence[int], share: float) -> None:
        self.mask_id, self.share = mask_id, share
        self.plain = torch.tensor(sorted(set(range(vocabulary)) - set(specials)))

    def __call__(self, input_ids: torch.Tensor, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        device = input_ids.device
        at = words.clamp(min=0)
        # A number a word; there are no more words than tokens.
        masked = (torch.rand(words.shape, device=device) < self.share).gather(1, at) & (words != NO_WORD)
        how = torch.rand(words.shape, device=device).gather(1, at)
        other = self.plain.to(device)[torch.randint(len(self.plain), words.shape, device=device)]
        read = torch.where(masked & (how < 0.8), self.mask_id, input_ids)
        read = torch.where(masked & (how >= 0.9), other, read)
        return read, torch.where(masked, input_ids, IGNORED)


class PretrainingTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose loss is the masked tokens' and, by `tag_weight`, that of both morpheme tags of every token.

    Attention stays within each text of a pack. Only masked positions meet the vocabulary. An evaluation also gives
    the loss of each task, `eval_masked` and `eval_tags`; it masks the same words every time.
    """

    def __init__(self, masking: WholeWordMasking, tag_weight: float, **options: Any) -> None:
        super().__init__(**options)
        self.masking, self.tag_weight = masking, tag_weight
        self._held: dict[str, float] = {}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a batch of packs; with `return_outputs` also that of each task."""
        plain: PreTrainedModel = self.accelerator.unwrap_model(model)
        # Here and not where batches are put together, some steps ahead: a run that goes on has to draw the same words.
        ids, labels = self.masking(inputs["input_ids"], inputs["words"])
        told = labels != IGNORED
        # The forward pass that the Trainer would do this for is not used.
        with self.accelerator.autocast():
            hidden = hidden_units(plain, ids, inputs["documents"])
            scores = vocabulary_scores(plain, hidden[told])
            loss = _mean_loss(scores, labels[told], IGNORED)
            outputs = {"masked": loss.detach()}
            if self.tag_weight:
                tag_scores = getattr(plain, _TAG_HEAD)(hidden).unflatten(-1, (2, NO_TAG))
                tags = torch.stack([inputs["first_tags"], inputs["last_tags"]], -1)
                tagging = _mean_loss(tag_scores.flatten(0, 2), tags.flatten(), NO_TAG)
                loss = loss + self.tag_weight * tagging
                outputs["tags"] = tagging.detach()
        if not model.training:
            for task, value in outputs.items():
                self._held[f"eval_{task}"] += float(value) * len(labels)
        return (loss, outputs) if return_outputs else loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's, with the words that the seed draws, and each task's loss among the metrics."""
        self._held = defaultdict(float)
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed)
            output = super().evaluation_loop(*args, **kwargs)
        output.metrics.update({name: total / output.num_samples for name, total in self._held.items()})
        return output


def _mean_loss(scores: torch.Tensor, labels: torch.Tensor, ignored: int) -> torch.Tensor:
    # A small batch may have nothing to tell; a plain mean would be no number then, and so all weights after it.
    total = cross_entropy(scores.float(), labels, ignore_index=ignored, reduction="sum")
    return total / (labels != ignored).sum().clamp(min=1)


def pretrain(
    params: PretrainParams, packs: Path, folder: Path, checkpoints: Path, callbacks: Sequence[TrainerCallback] = ()
) -> dict[str, Any]:
    """Trains on the packs in `packs/train` and writes encoder, head and tokenizer to `folder`; gives the figures.

    Weights are written in 16 bits. The loss is measured on `packs/held` before and after, and every `evaluate_every`
    steps, at which a checkpoint is kept too: a run that was killed goes on from its last one below `checkpoints`,
    from where those of other runs are removed. Raises `KonerError` where the base model can't be read or pretrained,
    or gensim is missing.
    """
    keep_memory()
    own_checkpoints = checkpoints / fingerprint(params, [packs])  # type: ignore[arg-type]
    if checkpoints.is_dir():
        for other in checkpoints.iterdir():
            if other != own_checkpoints:
                shutil.rmtree(other)
    resumed = last_checkpoint(own_checkpoints)
    if resumed and _steps(resumed) == params.steps:
        # From the last step the Trainer would take one more.
        shutil.rmtree(resumed)
        resumed = last_checkpoint(own_checkpoints)
    training, held = Packs(packs / TRAIN, params.length), Packs(packs / HELD, params.length)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(packs / TOKENIZER, local_files_only=True)
    if params.base_model == SCRATCH:
        model = small_model(params, tokenizer)
        if params.skipgram_epochs and not resumed:
            _embed(model, params, tokenizer, training)
    else:
        model, _ = read_base(params)
    setattr(model, _TAG_HEAD, nn.Linear(model.config.hidden_size, 2 * NO_TAG))
    trainer = PretrainingTrainer(
        WholeWordMasking(tokenizer.mask_token_id, len(tokenizer), tokenizer.all_special_ids, params.mask_share),
        params.tag_weight,
        model=model,
        args=_arguments(params, own_checkpoints, resumed),
        train_dataset=training,
        eval_dataset=held,
        callbacks=list(callbacks),
    )
    if resumed:
        print(f"pretrain: goes on from {resumed}", flush=True)
    seconds = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None).metrics["train_runtime"]
    delattr(model, _TAG_HEAD)
    tokenizer.model_max_length = params.length
    with whole_folder(folder) as draft:
        model.half().save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    shutil.rmtree(own_checkpoints)
    evaluations = [row for row in trainer.state.log_history if "eval_loss" in row]
    steps = params.steps - (_steps(resumed) if resumed else 0)
    return {
        "parameters": sum(p.numel() for p in model.base_model.parameters()),
        "packs": {TRAIN: len(training), HELD: len(held)},
        "tokens": params.steps * params.batch_size * params.length,
        "passes": params.steps * params.batch_size / len(training),
        "held_loss": {"before": _losses(evaluations[0]), "after": _losses(evaluations[-1])},
        "bf16": uses_bf16(params.precision),
        "tokens_per_second": steps * params.batch_size * params.length / seconds,
    }


def _steps(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _losses(row: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix("eval_"): row[name] for name in ("eval_loss", "eval_masked", "eval_tags") if name in row}


def _embed(model: PreTrainedModel, params: PretrainParams, tokenizer: PreTrainedTokenizerBase, training: Packs) -> None:
    """Puts skip-gram vectors of the training text into the model's token embeddings."""
    vectors = token_vectors(
        training.fields["input_ids"],
        tokenizer.sep_token_id,
        tokenizer.all_special_ids,
        params.hidden_size,
        params.skipgram_epochs,
        params.seed,
    )
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[list(vectors)] = torch.stack([torch.from_numpy(v) for v in vectors.values()])


def _arguments(params: PretrainParams, checkpoints: Path, resumed: Path | None) -> TrainingArguments:
    decay = {"num_decay_steps": params.decay_steps, "decay_type": "linear"}
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=2 * params.batch_size,
        max_steps=params.steps,
        learning_rate=params.lr,
        weight_decay=params.weight_decay,
        adam_beta2=0.98,
        warmup_steps=params.warmup_steps,
        lr_scheduler_type=_SCHEDULES[params.schedule],
        lr_scheduler_kwargs=decay if params.schedule == "trapezoid" else {},
        **precision_settings(params.precision),
        optim="adamw_torch_fused",
        seed=params.seed,
        eval_strategy="steps",
        eval_steps=params.evaluate_every,
        eval_on_start=resumed is None,
        save_steps=params.evaluate_every,
        save_total_limit=2,
        logging_steps=min(50, params.evaluate_every),
        prediction_loss_only=True,
        remove_unused_columns=False,
        # Without these the Trainer would measure no loss.
        label_names=["input_ids"],
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
