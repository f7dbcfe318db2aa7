"""Reading a corpus in blocks, for the tests."""

from koner.bulk.addresses import absolute_address
from koner.bulk.folder import Folder
from koner.bulk.plan import prepare_plan


def read_corpus(source, output, **settings):
    """Return the plan of a corpus, and the batches of each block."""
    plan = prepare_plan(str(source), Folder(absolute_address(str(output))), "hash", **settings)
    return plan, [[batch for piece in block.pieces for batch in plan.read(piece)] for block in plan.blocks]


def texts_of(blocks):
    return [[text for batch in block for text in batch.texts] for block in blocks]


def rejected_of(blocks):
    return [(r.number, r.reason, r.row) for block in blocks for batch in block for r in batch.rejected]
