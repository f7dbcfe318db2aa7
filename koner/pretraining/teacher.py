"""A fine-tuned model as a second voice of the weak labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from koner.errors import KonerError
from koner.inference.model_folder import CONFIG_FILE
from koner.inference.tagger import Tagger
from koner.labels.bio import Entity, entities_to_bio
from koner.labels.klue import KLUE


class Teacher:
    """A model that koner fine-tuned, as a labeller of raw text.

    Args:
        folder: The model folder.

    Raises:
        KonerError: If the folder holds no such model, or if its labels are not those of KLUE-NER.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / CONFIG_FILE).is_file():
            raise KonerError(
                f"weak_teacher: {folder} holds no model; copy the files of an exported model (models/exported) there, "
                "or set weak_teacher to false"
            )
        self._tagger = Tagger.load(folder)
        types = set(self._tagger.label_set.types)
        if types != set(KLUE.types):
            raise KonerError(
                f"weak_teacher: the labels of the model in {folder} are {', '.join(sorted(types))}; "
                f"expected {', '.join(sorted(KLUE.types))}"
            )

    def tag_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the id of a BIO tag for each character of each text, int8, as `weak_tag_ids` does."""
        return [
            _to_ids([Entity(e.start, e.end, e.label) for e in tagged.entities], len(text))
            for text, tagged in zip(texts, self._tagger.tag_all(texts), strict=True)
        ]


def _to_ids(entities: Sequence[Entity], length: int) -> np.ndarray:
    return np.array([KLUE.tag_to_id[tag] for tag in entities_to_bio(entities, length)], np.int8)
