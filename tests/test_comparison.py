import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from koner.bootstrap import PairedDifference
from koner.comparison import Change, as_json, compare, load_predictions_of, render
from koner.corpus import parse_inline
from koner.errors import KonerError
from koner.evaluation import wordpiece_scores
from koner.klue_protocol import klue_scores
from koner.labels import tags_of
from koner.predictions import Prediction, write_predictions
from koner.scoring import span_scores
from koner.tagger import ScoredEntity

GOLD = ("<이순신:PS>은 <부산:LC>에", "<세종:PS>은 <서울:LC>에", "<오늘:DT>은", "그는", "<한국은행:OG>은")
# Both wrong in the third sentence, each in its own way; both right in the fourth; both wrong alike in the fifth.
OF_A = ("<이순신:PS>은 부산에", "<세종:PS>은 <서울:LC>에", "오늘은", "그는", "<한국:LC>은행은")
OF_B = ("<이순신:PS>은 <부산:LC>에", "<세종:PS>은 <서울에:LC>", "<오늘은:DT>", "그는", "<한국:LC>은행은")


def predictions(found, gold=GOLD):
    """Predictions with a token to each character."""
    made = []
    for i, (of_gold, of_model) in enumerate(zip(gold, found, strict=True)):
        (text, annotated), (_, entities) = parse_inline(of_gold), parse_inline(of_model)
        scored = tuple(ScoredEntity(e.start, e.end, e.label, 0.5) for e in entities)
        offsets = tuple((k, k + 1) for k in range(len(text)))
        tags = [tuple(tags_of(e, len(text))) for e in (annotated, entities)]
        scores = (0.5,) * len(text)
        made.append(Prediction(f"s{i}", text, None, tuple(annotated), scored, offsets, *tags, scores))
    return made


A, B = predictions(OF_A), predictions(OF_B)


def test_figures_are_those_of_the_evaluation():
    found = compare(A, B, 200)
    assert (found.sentences, sum(found.entities.values()), found.entities["LC"]) == (5, 6, 2)
    for side, part in (("a", A), ("b", B)):
        klue, span = klue_scores(part), span_scores((p.gold, p.predicted) for p in part)
        expected = {
            "wordpiece.f1": wordpiece_scores(part)["f1"],
            "klue.entity_f1": klue["entity_f1"],
            "klue.char_f1": klue["char_f1"],
            "span.f1": span["f1"],
        }
        assert {name: getattr(figure, side) for name, figure in found.figures.items()} == pytest.approx(expected)
        by_type = {type_: row["f1"] for type_, row in span["by_type"].items()}
        assert {type_: getattr(figure, side) for type_, figure in found.by_type.items()} == pytest.approx(by_type)
    # A finds 3 of 6 entities with 4 spans, B 3 with 6.
    span = found.figures["span.f1"]
    assert (span.a, span.b, span.difference) == pytest.approx((6 / 10, 6 / 12, -1 / 10))
    assert span.low < span.difference < span.high


def test_sentences_are_fixed_broken_or_changed_otherwise():
    found = compare(A, B, 10)
    changes = {kind: [c.id for c in getattr(found, kind)] for kind in ("fixed", "broken", "otherwise")}
    assert changes == {"fixed": ["s0"], "broken": ["s1"], "otherwise": ["s2"]}
    assert found.fixed[0] == Change("s0", A[0].text, A[0].gold, A[0].predicted, B[0].predicted)


def test_swapped_order_mirrors():
    there, back = compare(A, B, 200), compare(B, A, 200)
    for name, figure in there.figures.items():
        other = back.figures[name]
        assert (other.a, other.b, other.p_value) == (figure.b, figure.a, figure.p_value)
        mirrored = (-figure.difference, -figure.high, -figure.low)
        assert (other.difference, other.low, other.high) == pytest.approx(mirrored)
    assert [c.id for c in back.fixed] == [c.id for c in there.broken]
    assert [c.id for c in back.broken] == [c.id for c in there.fixed]


def test_the_same_predictions_do_not_differ():
    found = compare(A, A, 200)
    for figure in (*found.figures.values(), *found.by_type.values()):
        assert figure == PairedDifference(figure.a, figure.a, 0, 0, 0, 1)
    assert found.fixed == found.broken == found.otherwise == ()


def test_other_tokens_leave_wordpiece_without_a_figure():
    joined = replace(B[3], offsets=((0, 2),), gold_tags=("O",), predicted_tags=("O",), token_scores=(0.5,))
    found = compare(A, [*B[:3], joined, B[4]], 10)
    note = "not comparable, as 1 of 5 sentences are cut into other tokens"
    assert found.figures == {**compare(A, B, 10).figures, "wordpiece.f1": None}
    assert found.notes == {"wordpiece.f1": note}
    assert f"wordpiece.f1: {note}\n" in render(found, 0)
    assert as_json(found)["figures"]["wordpiece.f1"] == {"note": note}


@pytest.mark.parametrize(
    ("b", "said"),
    [
        ([B[0], replace(B[1], id="t1"), *B[2:]], "sentence 2 is 's1' in main and 't1' in new"),
        ([*B[:3], replace(B[3], text="그녀"), B[4]], "sentence 4 ('s3') is '그는' in main and '그녀' in new"),
        ([*B[:2], replace(B[2], gold=()), *B[3:]], "sentence 3 ('s2') is '<오늘:DT>은' in main and '오늘은' in new"),
        (B[:4], "sentence 5 is 's4' in main and missing in new"),
        ([], "sentence 1 is 's0' in main and missing in new"),
    ],
)
def test_other_test_parts_are_refused(b, said):
    with pytest.raises(KonerError) as error:
        compare(A, b, 10, names=("main", "new"))
    refused = f"main (5 sentences) and new ({len(b)} sentences) were not tested on the same data and can't be compared"
    assert str(error.value) == f"{refused}; {said}"


def test_no_sentences_are_refused():
    with pytest.raises(KonerError, match="there is nothing to compare"):
        compare([], [], 10)


def test_rendered_text():
    found = compare(A, B, 200, 7, ("main", "workspace"))
    text = render(found, 5)
    figure = found.figures["span.f1"]
    assert text.startswith("A: main\nB: workspace\n5 sentences, 6 entities\n")
    assert re.search(
        rf"^span.f1 +0.6000 +0.5000 +-0.1000 +-\d\.\d{{4}} to \+\d\.\d{{4}} +{figure.p_value:.4f}$", text, re.MULTILINE
    )
    assert re.search(r"^TI \(0 in gold\) +0.0000 +0.0000 +\+0.0000 +\+0.0000 to \+0.0000 +1.0000$", text, re.MULTILINE)
    assert "200 resamples by sentence, seed 7" in text
    assert text.endswith(
        """
fixed, B alone is right: 1
  s0
    gold  <이순신:PS>은 <부산:LC>에
    A     <이순신:PS>은 부산에
    B     <이순신:PS>은 <부산:LC>에
broken, A alone is right: 1
  s1
    gold  <세종:PS>은 <서울:LC>에
    A     <세종:PS>은 <서울:LC>에
    B     <세종:PS>은 <서울에:LC>
changed otherwise, neither is right: 1
"""
    )


def test_at_most_so_many_sentences_are_shown():
    gold = ["<서울:LC>"] * 3
    found = compare(predictions(["서울"] * 3, gold), predictions(gold, gold), 10)
    text = render(found, 2)
    assert "fixed, B alone is right: 3\n  s0\n" in text
    assert text.count("    gold  ") == 2
    assert "  … 1 not shown\nbroken, A alone is right: 0\n" in text


def test_json_holds_what_the_text_tells():
    found = compare(A, B, 50, 3, ("main", "workspace"))
    told = json.loads(json.dumps(as_json(found)))
    assert told["figures"]["span.f1"] == asdict(found.figures["span.f1"])
    assert told["by_type"]["OG"]["gold"] == 1
    assert {key: told[key] for key in ("a", "b", "sentences", "entities", "resamples", "seed", "level")} == {
        "a": "main", "b": "workspace", "sentences": 5, "entities": 6, "resamples": 50, "seed": 3, "level": 0.95,
    }  # fmt: skip
    assert told["fixed"] == [{"id": "s0", "gold": GOLD[0], "A": OF_A[0], "B": OF_B[0]}]
    assert [c["id"] for c in told["broken"] + told["otherwise"]] == ["s1", "s2"]


def run(folder, *command):
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def dvc(folder, *arguments):
    run(folder, sys.executable, "-m", "dvc", *arguments)


def commit(folder, message):
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", message)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of DVC: nothing predicted yet, then A's predictions, then B's; an experiment; others on disk."""
    folder = tmp_path_factory.mktemp("project")
    path = folder / "data/predictions.parquet"
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "git", "config", "user.name", "Tester")
    run(folder, "git", "config", "user.email", "tester@example.com")
    dvc(folder, "init", "--quiet")
    commit(folder, "nothing yet")
    run(folder, "git", "tag", "nothing")
    for name, part in (("a", A), ("b", B)):
        write_predictions(path, part)
        dvc(folder, "add", "--quiet", "data/predictions.parquet")
        commit(folder, name)
    run(folder, "git", "tag", "of-b")
    write_predictions(path, A[:2])
    dvc(folder, "add", "--quiet", "data/predictions.parquet")
    dvc(folder, "exp", "save", "--name", "moody-hers")
    run(folder, "git", "checkout", "--quiet", "--force", ".")
    write_predictions(path, A[:1])
    return folder


@pytest.mark.parametrize(
    ("revision", "expected"),
    [("main", B), ("HEAD~1", A), ("of-b", B), ("moody-hers", A[:2]), ("workspace", A[:1])],
)
def test_predictions_of_a_revision(project, revision, expected):
    assert load_predictions_of(revision, project) == expected


def test_predictions_of_a_short_hash(project):
    assert load_predictions_of(run(project, "git", "rev-parse", "--short", "HEAD~1"), project) == A


def test_reading_a_revision_leaves_the_project_as_it_is(project):
    before = run(project, "git", "status", "--porcelain"), (project / "data/predictions.parquet").read_bytes()
    load_predictions_of("HEAD~1", project)
    assert (run(project, "git", "status", "--porcelain"), (project / "data/predictions.parquet").read_bytes()) == before


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("nowhere", "unknown Git revision 'nowhere'; `git log` and `dvc exp show` list what can be named"),
        ("HEAD~9", "unknown Git revision 'HEAD~9'; `git log` and `dvc exp show` list what can be named"),
        ("nothing", "nothing has no data/predictions.parquet; check it out and run `dvc repro`"),
        ("", "the revision's name is empty; name a Git revision or a DVC experiment"),
    ],
)
def test_a_revision_that_holds_no_predictions_is_one_sentence(project, revision, said):
    with pytest.raises(KonerError) as error:
        load_predictions_of(revision, project)
    assert str(error.value) == said


@pytest.fixture
def copy(project, tmp_path):
    """A copy of the project, to be spoilt."""
    return shutil.copytree(project, tmp_path / "copy")


@pytest.mark.parametrize(
    ("remote", "said"),
    [
        (None, "neither the cache nor a remote that answers has data/predictions.parquet"),
        ("http://127.0.0.1:1/x", "neither the cache nor a remote that answers has data/predictions.parquet"),
        # A kind of remote that this environment has no client for.
        ("oss://x", "the remote of data/predictions.parquet can't be read (oss is supported, but requires 'dvc-oss'"),
    ],
)
def test_data_out_of_reach_is_one_sentence(copy, remote, said):
    shutil.rmtree(copy / ".dvc/cache/files")
    if remote:
        dvc(copy, "remote", "add", "--quiet", "--default", "far", remote)
        commit(copy, "a remote")
    with pytest.raises(KonerError) as error:
        load_predictions_of("main", copy)
    assert str(error.value).startswith(f"main: {said}")
    assert str(error.value).endswith("; run `dvc pull`, or check the revision out and run `dvc repro`")


def test_what_the_cache_lacks_comes_from_the_remote(copy, tmp_path):
    dvc(copy, "remote", "add", "--quiet", "--default", "near", str(tmp_path / "remote"))
    commit(copy, "a remote")
    dvc(copy, "push", "--quiet", "--all-commits")
    shutil.rmtree(copy / ".dvc/cache/files")
    assert load_predictions_of("main", copy) == B


def test_a_stage_that_never_ran_has_no_predictions(copy):
    run(copy, "git", "rm", "--quiet", "--force", "data/predictions.parquet.dvc")
    (copy / "dvc.yaml").write_text("stages: {evaluate: {cmd: 'true', outs: [data/predictions.parquet]}}\n")
    commit(copy, "a stage")
    with pytest.raises(KonerError) as error:
        load_predictions_of("main", copy)
    assert str(error.value) == "main has no data/predictions.parquet; check it out and run `dvc repro`"


def test_another_file_of_that_name_is_refused(copy):
    (copy / "data/predictions.parquet").write_text("no parquet")
    dvc(copy, "add", "--quiet", "data/predictions.parquet")
    commit(copy, "something else")
    with pytest.raises(KonerError) as error:
        load_predictions_of("main", copy)
    assert str(error.value) == "main: data/predictions.parquet holds no predictions of the evaluate stage"


@pytest.mark.parametrize(
    ("revision", "said"),
    [("main", "^main can't be read: .* is not a git repository$"), ("workspace", " is missing; run `dvc repro`$")],
)
def test_an_empty_folder_is_one_sentence(tmp_path, revision, said):
    with pytest.raises(KonerError, match=said):
        load_predictions_of(revision, tmp_path)
