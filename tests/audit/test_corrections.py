import json

import pytest

from koner.audit.corpus_files import find_corpus_files
from koner.audit.corrections import make_patch, read_corrections
from koner.audit.fingerprints import fingerprint
from koner.corpus.source_report import Rules
from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError
from koner.labels.bio import Entity
from tests.audit.corpus import git, sentences, write_repository

LINES = ["<홍길동:PS>은 <서울:LC>에 갔다.", "<정부:OG>는 & 말했다.", "🎉 <부산:OG>도 좋다.", "아무도 없다."]
CORRECTED = {"3": (Entity(2, 4, "LC"),), "4": (Entity(0, 2, "PS"),)}


def region(text, entity):
    value = {"start": entity.start, "end": entity.end, "labels": [entity.label]}
    return {"type": "labels", "value": {**value, "text": text[entity.start : entity.end]}}


def write_export(folder, corpus, corrected, **annotation):
    """Write an export in which every task has an annotation, some of them corrected."""
    tasks = []
    for number, sentence in enumerate(corpus, start=1):
        entities = corrected.get(sentence.id, sentence.entities)
        data = {"id": sentence.id, "text": sentence.text, "audited": fingerprint(sentence.text, sentence.entities)}
        result = [region(sentence.text, entity) for entity in entities]
        annotations = [{"id": number, "completed_by": 1, "result": result, **annotation}]
        tasks.append({"id": number, "data": data, "annotations": annotations})
    (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    return folder / "export.json"


def patch_of(path, export, **options):
    files = find_corpus_files(str(path.parent), "auto", "utf-8")
    return make_patch(read_corrections(export), files, Rules(), **options)


def read(path):
    return read_checked(read_source(str(path.parent), "ner", None))["train"]


@pytest.mark.parametrize("format_", ["klue", "inline", "doccano", "spans", "tokens"])
def test_git_applies_the_patch_in_every_format_of_lines(tmp_path, format_):
    path = write_repository(tmp_path, format_, sentences(*LINES))
    corpus = read(path)
    corrected = {corpus[2].id: CORRECTED["3"], corpus[3].id: CORRECTED["4"]}
    patch = patch_of(path, write_export(tmp_path, corpus, corrected))
    assert (patch.sentences, patch.files, patch.changed) == (2, 1, [])
    (tmp_path / "c.patch").write_bytes(patch.diff)
    git(tmp_path, "apply", "c.patch")
    assert [s.entities for s in read(path)] == [corpus[0].entities, corpus[1].entities, *CORRECTED.values()]
    # What is corrected already is no change.
    again = patch_of(path, tmp_path / "export.json")
    assert (again.diff, again.sentences, again.changed) == (b"", 0, [])


def test_a_file_in_another_encoding_stays_in_it(tmp_path):
    path = write_repository(tmp_path, "klue", sentences(*LINES[:2]))
    content = path.read_text(encoding="utf-8")
    path.write_bytes(content.encode("cp949"))
    (file,) = find_corpus_files(str(path), "auto", "cp949")
    corpus = [sentence for _, sentence in file.read(Rules())]
    export = write_export(tmp_path, corpus, {"2": ()})
    (tmp_path / "c.patch").write_bytes(make_patch(read_corrections(export), [file], Rules()).diff)
    git(tmp_path, "apply", "c.patch")
    assert "<정부:OG>" not in path.read_bytes().decode("cp949")


def test_a_sentence_that_changed_meanwhile_is_refused_or_left_out(tmp_path):
    path = write_repository(tmp_path, "klue", sentences(*LINES))
    export = write_export(tmp_path, read(path), CORRECTED)
    changed = [*LINES[:2], "🎉 <부산도:OG> 좋다.", LINES[3]]
    write_again(path, sentences(*changed))
    with pytest.raises(KonerError, match=r"^1 of the 4 sentences in the export changed in the corpus .* \(3\); audit"):
        patch_of(path, export)
    patch = patch_of(path, export, skip_changed=True)
    assert (patch.sentences, patch.changed) == (1, ["3"])
    # A sentence that is gone has changed, too.
    write_again(path, sentences(*LINES[:2]))
    with pytest.raises(KonerError, match=r"^2 of the 4 sentences .* \(3, 4\)"):
        patch_of(path, export)


def write_again(path, annotated):
    from koner.corpus.formats.klue_tsv import write_tsv

    write_tsv(path, annotated)


# With a field that koner does not write.
DOCCANO = '{"id": 1, "text": "서울에 갔다.", "label": [[0, 2, "LC"]], "meta": {}}\n'


@pytest.mark.parametrize(
    ("format_", "content", "message"),
    [
        ("doccano", DOCCANO, "is not written as koner writes doccano"),
        ("conll", None, "is in the format conll, which a patch can't change"),
        ("label-studio", None, "is in the format label-studio, which a patch can't change"),
    ],
)
def test_what_a_patch_cannot_change_is_one_sentence(tmp_path, format_, content, message):
    path = write_repository(tmp_path, format_, sentences("<서울:LC>에 갔다."))
    if content:
        path.write_text(content, encoding="utf-8")
    corpus = read(path)
    with pytest.raises(KonerError, match=f"(?:{message}).*; write the corpus with `koner convert`"):
        patch_of(path, write_export(tmp_path, corpus, {corpus[0].id: ()}))


def test_the_included_corpora_can_be_corrected():
    files = find_corpus_files("consult", "auto", "utf-8")
    file = next(file for file in files if file.path.name.startswith("train"))
    where, sentence = next((w, s) for w, s in file.read(Rules()) if s.entities)
    content = file.path.read_text(encoding="utf-8")
    without = sentence.__class__(sentence.id, sentence.text, None, ("O",) * len(sentence.text), ())
    replaced = file.replace(content, where, sentence, without)
    assert len(content) > len(replaced)
    assert sum(a != b for a, b in zip(content.split("\n"), replaced.split("\n"), strict=True)) == 1


def add_annotation(tasks):
    tasks[0]["annotations"].append({**tasks[0]["annotations"][0], "completed_by": 2})


def remove_fingerprint(tasks):
    del tasks[1]["data"]["audited"]


def escape_text(tasks):
    tasks[1]["data"]["text"] = tasks[1]["data"]["text"].replace("&", "&amp;")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (add_annotation, r"task 1 has annotations of several people \(1, 2\); name the person .* by --annotator"),
        (remove_fingerprint, r"export.json, item 2: it is no task of an audit: its data has no 'id' and 'audited'"),
        (escape_text, r"1 of the 4 sentences in the export changed in the corpus after the audit \(2\)"),
    ],
)
def test_a_bad_export_is_one_sentence(tmp_path, damage, message):
    path = write_repository(tmp_path, "klue", sentences(*LINES))
    export = write_export(tmp_path, read(path), CORRECTED)
    tasks = json.loads(export.read_text(encoding="utf-8"))
    damage(tasks)
    export.write_text(json.dumps(tasks), encoding="utf-8")
    with pytest.raises(KonerError, match=message):
        patch_of(path, export)


def test_one_of_two_people_is_chosen(tmp_path):
    path = write_repository(tmp_path, "klue", sentences(*LINES))
    export = write_export(tmp_path, read(path), CORRECTED)
    tasks = json.loads(export.read_text(encoding="utf-8"))
    add_annotation(tasks)
    tasks[0]["annotations"][1]["result"] = []
    export.write_text(json.dumps(tasks), encoding="utf-8")
    (correction,) = read_corrections(export, "2")
    assert (correction.id, correction.sentence.entities) == ("1", ())
