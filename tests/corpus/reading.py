"""Reading of a source, and of the message with which it is refused."""

import pytest

from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError


def read(source, config="ner"):
    return read_checked(read_source(str(source), config, None))


def refusal(source, config="ner"):
    with pytest.raises(KonerError) as error:
        read(source, config)
    return str(error.value)
