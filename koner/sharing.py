"""A Trainer whose processes share each batch, and take the steps that one process alone would take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler

from koner.batches import PackingCollator
from koner.distributed import rank, wait, world
from koner.regularization import RegularizedTrainer


class EpochBatches(BatchSampler):
    """Batches of `batch_size` of what a sampler draws, the last one smaller; hands the epoch on to the sampler."""

    def __init__(self, sampler: Sampler[int], batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)

    def set_epoch(self, epoch: int) -> None:
        """Called before an epoch, counted from 0."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


class BatchShares(Sampler[list[int | None]]):
    """This process's share of each batch, of as many windows as every other's share: None fills up what is missing.

    The batches are those that one process alone would draw; every process has to draw the same. Every n-th window is a
    share, so that where a batch goes from short to long windows, all processes have about as many tokens.
    """

    def __init__(self, batches: Sampler[list[int]]) -> None:
        # The Trainer looks for `set_epoch` here.
        self.batch_sampler = batches

    def __len__(self) -> int:
        return len(self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int | None]]:
        count = world()
        for batch in self.batch_sampler:
            share: list[int | None] = list(batch[rank() :: count])
            yield share + [None] * (-(-len(batch) // count) - len(share))


class SharingTrainer(RegularizedTrainer):
    """A Trainer that batches windows by the parameter `batching`; several processes read a share of each batch.

    Its own way would be a batch for each process, and copies of windows where they don't come out even.
    """

    data_collator: Any

    def get_train_dataloader(self) -> Any:
        """The training windows in batches of `batch_size`, or this process's shares of these."""
        # Only these are packed: the development part's scores are counted window by window.
        padding = self.data_collator
        if self.params.batching == "packed":
            self.data_collator = PackingCollator(self.accelerator.unwrap_model(self.model))
        try:
            if self.args.world_size == 1:
                return super().get_train_dataloader()
            # By seed and epoch alone, so alike in every process.
            drawn = SeedableRandomSampler(self.train_dataset, data_seed=self.args.seed)
            # Not prepared by accelerate, which would share the shares out again.
            return self._shares(self.train_dataset, EpochBatches(drawn, self.params.batch_size))
        finally:
            self.data_collator = padding

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The development windows in larger batches, or this process's shares of these."""
        if self.args.world_size == 1:
            return super().get_eval_dataloader(eval_dataset)
        return self._shares(
            self.eval_dataset, EpochBatches(SequentialSampler(self.eval_dataset), self._evaluated_together())
        )

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch, kept while evaluating."""
        given = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.args.world_size > 1 and not model.training:
            self._evaluated.append((given[0] if return_outputs else given).detach())
        return given

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's; the loss is that of all processes' shares, each batch weighted by its windows."""
        self._evaluated: list[torch.Tensor] = []
        output = super().evaluation_loop(*args, **kwargs)
        if self._evaluated:
            losses = self.accelerator.reduce(torch.stack(self._evaluated), "mean")
            weights = torch.full_like(losses, self._evaluated_together())
            weights[-1] = len(self.eval_dataset) - weights[:-1].sum()
            output.metrics["eval_loss"] = float(losses @ weights / weights.sum())
        return output

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the Trainer's; the folder is there afterwards, for a model that is sharded too."""
        super().save_model(output_dir, _internal_call)
        if self.is_fsdp_enabled:
            # By whether it is there each process decides if it is the best checkpoint, and they have to agree.
            Path(output_dir or self.args.output_dir).mkdir(parents=True, exist_ok=True)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # Each process writes its own; the file by which a checkpoint counts as whole is written next.
        wait()

    def _evaluated_together(self) -> int:
        return 4 * self.params.batch_size

    def _shares(self, windows: Any, batches: Any) -> Any:
        return DataLoader(
            windows,
            batch_sampler=BatchShares(batches),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
