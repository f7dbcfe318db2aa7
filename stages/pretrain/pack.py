"""Reads the raw text once: a tokenizer, and packs of tokens with their words and morphemes."""

from pathlib import Path

from koner.base_model import SCRATCH
from koner.errors import told_plainly
from koner.masked_models import read_base
from koner.outputs import whole_folder
from koner.pretrain_params import load_pretrain_params
from koner.pretraining_data import prepare_packs

PACKS = Path("data/packs")


def main() -> None:
    params = load_pretrain_params()
    tokenizer = None if params.base_model == SCRATCH else read_base(params)[1]
    with whole_folder(PACKS) as folder:
        packed = prepare_packs(params, tokenizer, folder)
    print(
        f"pack: {sum(packed.texts)} texts, {packed.tokens} tokens; {packed.packs['train']} packs of {params.length} to "
        f"train on, {packed.packs['held']} held out",
        flush=True,
    )


if __name__ == "__main__":
    with told_plainly():
        main()
