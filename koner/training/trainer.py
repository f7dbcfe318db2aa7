"""A Trainer whose processes perform the same optimizer updates as a single process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler, SequentialSampler
from transformers import Trainer

from koner.labels.bio import IGNORE_INDEX
from koner.params import Params
from koner.training.arguments import EVAL_BATCH_FACTOR
from koner.training.collator import PackingCollator
from koner.training.distributed import barrier


class FullBatchSampler(BatchSampler):
    """Batches of window indices that all have the same size: None, a blank window, fills up the last one.

    Accelerate splits only full batches exactly; it would fill up the last one with copies of other windows.
    """

    def __iter__(self) -> Iterator[list[int | None]]:  # type: ignore[override]
        for batch in super().__iter__():
            yield batch + [None] * (self.batch_size - len(batch))


class WindowTrainer(Trainer):  # type: ignore[misc]
    """A Trainer of token classifiers that packs windows, and splits each batch between the processes.

    By default, the Trainer would give every process a batch of its own.
    """

    def __init__(self, params: Params, **options: Any) -> None:
        """Create a Trainer; `options` are its own arguments."""
        super().__init__(**options)
        self.params = params
        if self.args.world_size > 1:
            self.compute_loss_func = self._split_batch_loss

    def get_train_dataloader(self) -> Any:
        """Return the training windows in random order, packed if the parameter `batching` says so."""
        collator = self.data_collator
        if self.params.batching == "packed":
            collator = PackingCollator(self.accelerator.unwrap_model(self.model))
        return self._loader(self.train_dataset, RandomSampler(self.train_dataset), self.params.batch_size, collator)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return the development windows in order; they are padded, since the metrics are computed by window."""
        batch_size = EVAL_BATCH_FACTOR * self.params.batch_size
        return self._loader(self.eval_dataset, SequentialSampler(self.eval_dataset), batch_size, self.data_collator)

    def _loader(self, windows: Dataset[Any], sampler: Sampler[int], batch_size: int, collator: Any) -> Any:
        batch_sampler = FullBatchSampler if self.args.world_size > 1 else BatchSampler
        loader = DataLoader(
            windows,
            batch_sampler=batch_sampler(sampler, batch_size, drop_last=False),
            collate_fn=collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def _split_batch_loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        """Return the part of the mean loss over a whole batch that this process's windows contribute.

        The Trainer multiplies it by the number of processes, over which gradients are averaged.
        """
        total = cross_entropy(
            outputs.logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
        )
        loss = total / num_items_in_batch.clamp(min=1)
        # Each window of an evaluated batch is reported with the loss of the batch, as in a single process.
        return loss if torch.is_grad_enabled() else self.accelerator.reduce(loss, "mean")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; create the folder even if the model is sharded."""
        super().save_model(output_dir, _internal_call)
        if self.is_fsdp_enabled:
            # Each process checks whether the folder exists to decide if this is the best checkpoint; all must agree.
            Path(output_dir or self.args.output_dir).mkdir(parents=True, exist_ok=True)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # Every process writes its own state; next, rank 0 writes the file that marks the checkpoint as complete.
        barrier()
