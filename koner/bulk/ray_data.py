"""The engine for a cluster: Ray Data assigns blocks to actors, each with its own model."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from koner.bulk.blocks import Block
from koner.bulk.folder import Folder
from koner.bulk.plan import Plan
from koner.bulk.tagging import BlockResult, BlockTagger, ModelSpec
from koner.errors import KonerError, first_line

if TYPE_CHECKING:
    from koner.inference.tagger import Tagger

# Tasks that Ray tracks; with more blocks than this, a task has several.
_MAX_TASKS = 20_000
# Blocks assigned per actor, so that an actor that finishes one has the next at once.
_BLOCKS_PER_ACTOR = 2
# Deaths of actors over the same block that end the run.
_MAX_DEATHS = 3


@contextmanager
def connect() -> Iterator[Any]:
    """Connect to a Ray cluster, and yield the `ray` module.

    The cluster is the one of RAY_ADDRESS, or the one that this machine is a node of, or a new one on this machine only.
    On success it is left at the end; after an error, when the process ends.

    Raises:
        KonerError: If Ray is not installed or does not respond.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Suppress warnings at every start that users can do nothing about.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise KonerError(
            "--engine ray needs Ray: pip install 'koner[ray]' (--engine local does the same on one machine)"
        ) from None
    try:
        ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray raises nothing more specific if a node is slow to start
        raise KonerError(f"Ray can't be reached or started: {first_line(error)}{_token_hint()}") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # Ray reports dead workers on standard output, until it has shut down.
    with redirect_stdout(sys.stderr):
        yield ray
        # Not after an error: if it is shut down during its work, Ray may end the process before the error is
        # reported. At the end of the process it shuts itself down.
        ray.shutdown()


def run(
    ray: Any, plan: Plan, blocks: list[Block], folder: Folder, model: ModelSpec, workers: int | None
) -> Iterator[BlockResult]:
    """Tag blocks in Ray actors, and yield each block's result when it is finished.

    An actor that dies is replaced, and its blocks are assigned again. The nodes receive the model through Ray's object
    store, so only the driver needs its folder.

    Args:
        ray: The `ray` module, connected to a cluster.
        plan: The plan of the run.
        blocks: The blocks to tag.
        folder: The output folder.
        model: The model that each actor loads.
        workers: The maximum number of actors; None for as many as the cluster has room for.

    Raises:
        KonerError: If the input can't be read or the output can't be written, no node has room for an actor, actors
            die over the same block again and again, or Ray ends the run.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0)) if model.device in (None, "cuda") else 0
    model = replace(model, device=model.device or ("cuda" if gpus else "cpu"))
    actors = min(workers or gpus or _count_actor_slots(ray, model.threads), len(blocks))
    results = _submit(ray, replace(plan, blocks=[]), blocks, folder, model, actors, gpus_per_actor=1 if gpus else 0)
    try:
        for row in results.iter_rows():
            if row["error"]:
                raise KonerError(row["error"])
            yield BlockResult(row["number"], row["tagged"], row["rejected"])
    except ray.exceptions.RayTaskError:
        raise  # an error in this program, whose traceback is needed
    except ray.exceptions.RayError as error:
        raise KonerError(f"Ray ended the run: {first_line(error)}") from None


def _submit(
    ray: Any, plan: Plan, blocks: list[Block], folder: Folder, model: ModelSpec, actors: int, gpus_per_actor: int
) -> Any:
    """Return a lazy data set of result rows, which runs the actors when it is read."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    files = ray.put(_read_files(model.folder))
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_AttemptCounter).remote()
    tasks = ray.data.from_items(
        [{"block": block.to_json()} for block in blocks], override_num_blocks=min(len(blocks), _MAX_TASKS)
    )
    return tasks.map_batches(
        _Actor,
        batch_size=1,
        # The run starts as soon as there is room for one actor, because a cluster may grow or lose nodes.
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=_BLOCKS_PER_ACTOR
        ),
        fn_constructor_args=(plan, folder, model, files, attempts),
        num_cpus=model.threads,
        num_gpus=gpus_per_actor,
    )


class _Actor:
    """A `BlockTagger` as a callable class of Ray Data, which maps rows with blocks to rows with results.

    A `KonerError` is returned as a row with its message, because Ray would wrap and log an exception.
    """

    def __init__(self, plan: Plan, folder: Folder, model: ModelSpec, files: Any, attempts: Any) -> None:
        self._model, self._files, self._attempts = model, files, attempts
        self._tag = BlockTagger(plan, folder, self._load)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        rows = [self._tag_block(Block.from_json(str(block))) for block in batch["block"]]
        return {name: [row[name] for row in rows] for name in ("number", "tagged", "rejected", "error")}

    def _tag_block(self, block: Block) -> dict[str, Any]:
        import ray

        try:
            if ray.get(self._attempts.increment.remote(block.number)) > _MAX_DEATHS:
                raise KonerError(
                    f"{_MAX_DEATHS} actors in a row were killed over {block.name}; is there memory for them "
                    "(--workers, --block-rows)?"
                )
            return asdict(self._tag(block)) | {"error": ""}
        except KonerError as error:
            return {"number": block.number, "tagged": 0, "rejected": 0, "error": str(error)}

    def _load(self) -> Tagger:
        import ray

        # A loaded model no longer needs its files.
        with TemporaryDirectory() as folder:
            for name, content in ray.get(self._files).items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            try:
                return replace(self._model, folder=Path(folder)).load()
            except KonerError as error:
                raise KonerError(str(error).replace(folder, str(self._model.folder))) from None


class _AttemptCounter:
    """A counter, shared by all actors, of the attempts at each block: Ray Data itself would retry without end."""

    def __init__(self) -> None:
        self._attempts: Counter[int] = Counter()

    def increment(self, number: int) -> int:
        """Count an attempt at a block, and return the number of attempts so far."""
        self._attempts[number] += 1
        return self._attempts[number]


def _count_actor_slots(ray: Any, threads: int) -> int:
    """Return the number of actors with `threads` cores each that the nodes have room for.

    Raises:
        KonerError: If no node has room for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = sum(int(resources.get("CPU", 0)) // threads for resources in nodes)
    if not slots:
        raise KonerError(
            f"no node of the Ray cluster has {threads} cores (--threads); if the cluster will grow, give --workers"
        )
    return slots


def _read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _token_hint() -> str:
    needs_hint = os.environ.get("RAY_ADDRESS", "local") != "local" and "RAY_AUTH_MODE" not in os.environ
    return "; a cluster that requires a token also needs RAY_AUTH_MODE=token" if needs_hint else ""
