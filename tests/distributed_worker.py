"""Trains in the working folder what its runs.json lists, in the processes that the first of these asks for."""

import json
import os
import signal
from pathlib import Path

from accelerate import DistributedType, PartialState
from transformers import AutoTokenizer, TrainerCallback

from koner import training
from koner.alignment import retag
from koner.corpus import RawSentence, check
from koner.distributed import joined, must_agree, must_share, rank
from koner.errors import KonerError, told_plainly
from koner.params import Params
from koner.sharing import SharingTrainer
from koner.windows import WindowDataset

PEOPLE = ("홍길동", "김철수", "이영희", "박", "남궁민수")
PLACES = ("서울", "부산광역시", "대구", "제주도")


def sentences(count):
    """Sentences of several lengths."""
    for i in range(count):
        person, place = PEOPLE[i % len(PEOPLE)], PLACES[i % len(PLACES)]
        line = f"<{person}:PS>이 <{place}:LC>에서 <{i}명:QT>을 만났다." + " 아무도 오지 않았다." * (i % 4)
        yield check(RawSentence("", str(i), annotated=line))


def retagged(params, base):
    """43 training sentences, which no number of processes divides, and 21 of development."""
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    return [
        retag(list(sentences(count)), tokenizer, params.max_length, params.stride, params.boundaries)
        for count in (43, 21)
    ]


def parts(params, base):
    """The windows of `retagged`."""
    return map(WindowDataset, retagged(params, base))


class StoppedError(Exception):
    """Stands for whatever ends a run in all processes."""


class Stop(TrainerCallback):
    """Ends the run after its first epoch."""

    def on_epoch_begin(self, args, state, control, **kwargs):
        if round(state.epoch or 0) == 1:
            raise StoppedError


class Kill(TrainerCallback):
    """Kills one process outright after the first epoch."""

    def on_epoch_begin(self, args, state, control, **kwargs):
        if round(state.epoch or 0) == 1 and rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)


CALLBACKS = {"stop": [Stop()], "kill": [Kill()], None: []}


def run(params, base, folder, end=None):
    """One training run, gone on with where `end` stops it; gives its table of epochs."""
    arguments = (params, base, *parts(params, base), folder / "model", folder / "checkpoints", "run")
    if end == "stop":
        try:
            training.train(*arguments, CALLBACKS[end])
        except StoppedError:
            end = None
    return training.train(*arguments, CALLBACKS[end]).history


class TrainerOfGpus(SharingTrainer):
    """Accelerate shards a model over GPUs only; torch does over CPUs too."""

    def create_accelerator_and_postprocess(self):
        if self.args.fsdp:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU
        super().create_accelerator_and_postprocess()


def refusal(check, *arguments):
    """What a check says that one process fails."""
    try:
        check(*arguments)
    except KonerError as error:
        return str(error)


def main():
    runs = [(Params.model_validate(values), end) for values, end in json.loads(Path("runs.json").read_text())]
    training.SharingTrainer = TrainerOfGpus
    with joined(runs[0][0].processes):
        told = {
            "refused": [
                refusal(must_agree, {"seed": 1, "data": rank()}),
                refusal(must_share, Path(f"machine-{rank()}")),
                refusal(must_agree, {"seed": 1}),
                refusal(must_share, Path("machine")),
            ],
            "histories": [],
        }
        for i, (params, end) in enumerate(runs):
            told["histories"].append(run(params, Path("base"), Path(str(i)), end))
            Path(f"told-{rank()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    with told_plainly():
        main()
