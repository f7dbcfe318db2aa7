"""Writing of a file, reading of its sentences, and the message with which it is refused."""

import pytest

from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, rules=None, report=None, **options):
    return read_checked(read_source(str(path), "ner", None, report=report, **options), rules, report)


def pairs(sentences):
    return [(sentence.text, sentence.entities) for sentence in sentences]


def refusal(path, rules=None, **options):
    with pytest.raises(KonerError) as error:
        read(path, rules, **options)
    return str(error.value)
