import subprocess
import sys

import pytest

import koner
from koner.inference.decoding import ScoredEntity
from koner.inference.tagger import Tagger
from koner.labels.bio import Entity


def test_the_package_exports_its_public_names():
    assert (koner.Entity, koner.ScoredEntity, koner.Tagger) == (Entity, ScoredEntity, Tagger)
    assert koner.__all__ == ["Entity", "ScoredEntity", "Tagger"]


def test_an_unknown_name_raises_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'koner' has no attribute 'Reader'"):
        _ = koner.Reader


def test_importing_the_package_imports_none_of_its_modules(root):
    program = "import koner, sys; print([name for name in sys.modules if name.startswith('koner.')])"
    process = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"
