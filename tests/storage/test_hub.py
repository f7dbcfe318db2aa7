import pytest

from koner.storage.hub import is_hub_id


@pytest.mark.parametrize("name", ["klue/klue", "klue/roberta-base", "bert-base", "owner_1/name.v2"])
def test_a_repository_id_is_recognized(name):
    assert is_hub_id(name)


@pytest.mark.parametrize("name", ["", "./folder", "a/b/c", "/folder", "no space", "owner/", ".hidden/name"])
def test_a_path_is_not_a_repository_id(name):
    assert not is_hub_id(name)
