"""The engine of a cluster: Ray Data hands blocks to actors, each with a model of its own."""

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
from koner.bulk.job import Plan
from koner.bulk.tagging import BlockTagger, Done, ModelChoice
from koner.errors import KonerError

if TYPE_CHECKING:
    from koner.tagger import Tagger

# Blocks that Ray tracks one by one; of more, it gets several at once.
_MOST_TASKS = 20_000
# Blocks that wait at each actor, that being tagged counted in, so that it need not.
_AHEAD = 2
# Deaths of actors over one block, after which it is no accident.
_DEATHS = 3


@contextmanager
def cluster() -> Iterator[Any]:
    """Joins the cluster of RAY_ADDRESS, or the one this machine is a node of, or starts one on this machine alone.

    It is left at the end, but after an error only when the process ends. Raises `KonerError` where Ray isn't installed
    or doesn't answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What Ray warns of at every start, and users can do nothing about.
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
    except Exception as error:  # Ray raises nothing narrower where a node is slow to start
        raise KonerError(f"Ray can't be reached or started: {_first_line(error)}{_token_advice()}") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # Ray tells of dead workers on standard output, until it has ended.
    with redirect_stdout(sys.stderr):
        yield ray
        # Not after an error: shut down amid its work, Ray may end the process before the error is told. When the
        # process ends it shuts itself down.
        ray.shutdown()


def run(
    ray: Any, plan: Plan, blocks: list[Block], address: str, model: ModelChoice, workers: int | None
) -> Iterator[Done]:
    """Tags blocks in up to `workers` actors, as many as the cluster has room for; gives each block as it is done.

    An actor that dies is replaced and its block handed out again. The model goes to the nodes through Ray's object
    store, so that only the driver needs its folder. Raises `KonerError` as the tagging does, and where actors die over
    one block again and again.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0)) if model.device in (None, "cuda") else 0
    device = model.device or ("cuda" if gpus else "cpu")
    count = min(workers or gpus or _room(ray, model.threads), len(blocks))

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    files = ray.put(_packed(model.folder))
    begun = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Begun).remote()
    tasks = ray.data.from_items(
        [{"block": block.to_json()} for block in blocks], override_num_blocks=min(len(blocks), _MOST_TASKS)
    )
    found = tasks.map_batches(
        _Actor,
        batch_size=1,
        # More than one begin as soon as there is room for one; a cluster may grow, or lose nodes.
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=count, initial_size=count, max_tasks_in_flight_per_actor=_AHEAD
        ),
        fn_constructor_args=(replace(plan, blocks=[]), address, replace(model, device=device), files, begun),
        num_cpus=model.threads,
        num_gpus=1 if gpus else 0,
    )
    try:
        for row in found.iter_rows():
            if row["fault"]:
                raise KonerError(row["fault"])
            yield Done(row["number"], row["tagged"], row["rejected"])
    except ray.exceptions.RayTaskError:
        raise  # nobody's mistake but ours: its traceback is wanted
    except ray.exceptions.RayError as error:
        raise KonerError(f"Ray gave the run up: {_first_line(error)}") from None


class _Actor:
    """What an actor runs: `BlockTagger` as a callable class of Ray Data, over rows that hold blocks.

    What a user can put right comes back as a row with the fault: as an exception Ray would wrap it, and log it too.
    """

    def __init__(self, plan: Plan, address: str, model: ModelChoice, files: Any, begun: Any) -> None:
        self._model, self._files, self._begun = model, files, begun
        self._tag = BlockTagger(plan, address, self._load)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        rows = [self._row(Block.from_json(str(block))) for block in batch["block"]]
        return {name: [row[name] for row in rows] for name in ("number", "tagged", "rejected", "fault")}

    def _row(self, block: Block) -> dict[str, Any]:
        import ray

        try:
            if ray.get(self._begun.again.remote(block.number)) > _DEATHS:
                raise KonerError(
                    f"{_DEATHS} actors in turn were killed over {block.name}; is there memory for them "
                    "(--workers, --block-rows)?"
                )
            return asdict(self._tag(block)) | {"fault": ""}
        except KonerError as error:
            return {"number": block.number, "tagged": 0, "rejected": 0, "fault": str(error)}

    def _load(self) -> Tagger:
        import ray

        # Once loaded, the files are no longer needed.
        with TemporaryDirectory() as folder:
            for name, content in ray.get(self._files).items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            try:
                return replace(self._model, folder=Path(folder)).load()
            except KonerError as error:
                raise KonerError(str(error).replace(folder, str(self._model.folder))) from None


class _Begun:
    """Counts how often each block was begun, for all actors: Ray Data itself would hand one out for ever."""

    def __init__(self) -> None:
        self._times: Counter[int] = Counter()

    def again(self, number: int) -> int:
        self._times[number] += 1
        return self._times[number]


def _room(ray: Any, threads: int) -> int:
    """How many actors of so many threads the nodes hold; raises `KonerError` where none holds one."""
    room = sum(int(node["Resources"].get("CPU", 0)) // threads for node in ray.nodes() if node["Alive"])
    if not room:
        raise KonerError(
            f"no node of the Ray cluster has {threads} cores (--threads); if it is to grow, give --workers"
        )
    return room


def _packed(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _token_advice() -> str:
    joined = os.environ.get("RAY_ADDRESS", "local") != "local" and "RAY_AUTH_MODE" not in os.environ
    return "; a cluster that asks for a token needs RAY_AUTH_MODE=token too" if joined else ""
