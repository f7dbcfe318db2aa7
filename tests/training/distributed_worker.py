"""Perform the training runs of runs.json in the working folder, in the processes that the first run asks for."""

import json
import os
import signal
from pathlib import Path

from accelerate import DistributedType, PartialState
from transformers import AutoTokenizer, TrainerCallback

from koner.corpus.checks import RawSentence, check
from koner.errors import KonerError
from koner.labels.klue import KLUE
from koner.params import Params
from koner.tokens.alignment import align
from koner.training import fit as training
from koner.training.dataset import WindowDataset
from koner.training.distributed import check_equal, check_shared_folder, process_group, rank
from koner.training.trainer import WindowTrainer
from stages import run_stage

PEOPLE = ("홍길동", "김철수", "이영희", "박", "남궁민수")
PLACES = ("서울", "부산광역시", "대구", "제주도")


def sentences(count):
    """Yield sentences of several lengths."""
    for i in range(count):
        person, place = PEOPLE[i % len(PEOPLE)], PLACES[i % len(PLACES)]
        line = f"<{person}:PS>이 <{place}:LC>에서 <{i}명:QT>을 만났다." + " 아무도 오지 않았다." * (i % 4)
        yield check(RawSentence("", str(i), annotated=line))


def aligned_parts(params, base):
    """Return 43 training sentences, which no number of processes divides, and 21 development sentences."""
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    return [align(list(sentences(count)), tokenizer, params.max_length, params.stride, KLUE) for count in (43, 21)]


def datasets(params, base):
    """Return the windows of `aligned_parts`."""
    return map(WindowDataset, aligned_parts(params, base))


class StoppedError(Exception):
    """An error that ends a run in all processes."""


class Stop(TrainerCallback):
    """End the run after its first epoch."""

    def on_epoch_begin(self, args, state, control, **kwargs):
        if round(state.epoch or 0) == 1:
            raise StoppedError


class Kill(TrainerCallback):
    """Kill one process after the first epoch."""

    def on_epoch_begin(self, args, state, control, **kwargs):
        if round(state.epoch or 0) == 1 and rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)


CALLBACKS = {"stop": [Stop()], "kill": [Kill()], None: []}


def run(params, base, folder, end=None):
    """Train, resume if `end` stops the run, and return the table of epochs."""
    arguments = (params, base, KLUE, *datasets(params, base), folder / "model", folder / "checkpoints", "run")
    if end == "stop":
        try:
            training.train(*arguments, CALLBACKS[end])
        except StoppedError:
            end = None
    return training.train(*arguments, CALLBACKS[end]).history


class ShardingTrainer(WindowTrainer):
    """A Trainer that shards a model over CPUs: torch can do that, but accelerate allows it only for GPUs."""

    def create_accelerator_and_postprocess(self):
        if self.args.fsdp:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU
        super().create_accelerator_and_postprocess()


def error_message(check, *arguments):
    """Return the message of a check that fails in one process, or None."""
    try:
        check(*arguments)
    except KonerError as error:
        return str(error)


def main():
    runs = [(Params.model_validate(values), end) for values, end in json.loads(Path("runs.json").read_text())]
    training.WindowTrainer = ShardingTrainer
    with process_group(runs[0][0].processes):
        report = {
            "errors": [
                error_message(check_equal, {"seed": 1, "data": rank()}),
                error_message(check_shared_folder, Path(f"machine-{rank()}")),
                error_message(check_equal, {"seed": 1}),
                error_message(check_shared_folder, Path("machine")),
            ],
            "histories": [],
        }
        for i, (params, end) in enumerate(runs):
            report["histories"].append(run(params, Path("base"), Path(str(i)), end))
            Path(f"report-{rank()}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    run_stage(main)
