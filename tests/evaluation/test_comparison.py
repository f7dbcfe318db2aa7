import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from koner.corpus.inline import parse_inline
from koner.errors import KonerError
from koner.evaluation.bootstrap import PairedDifference
from koner.evaluation.comparison import Change, compare
from koner.evaluation.klue import klue_scores
from koner.evaluation.revisions import load_predictions_of
from koner.evaluation.span import score_spans
from koner.evaluation.wordpiece import score_tokens
from koner.inference.predictions import Prediction, write_predictions
from koner.inference.tagger import ScoredEntity
from koner.labels.bio import entities_to_bio
from koner.labels.klue import KLUE
from koner.release.hashing import file_md5
from koner.report.comparison import render_text, to_json

GOLD = ("<이순신:PS>은 <부산:LC>에", "<세종:PS>은 <서울:LC>에", "<오늘:DT>은", "그는", "<한국은행:OG>은")
# Both wrong in the third sentence, each in its own way; both right in the fourth; both wrong alike in the fifth.
OF_A = ("<이순신:PS>은 부산에", "<세종:PS>은 <서울:LC>에", "오늘은", "그는", "<한국:LC>은행은")
OF_B = ("<이순신:PS>은 <부산:LC>에", "<세종:PS>은 <서울에:LC>", "<오늘은:DT>", "그는", "<한국:LC>은행은")


def predictions(predicted, gold=GOLD):
    """Predictions with a token to each character."""
    made = []
    for i, (of_gold, of_model) in enumerate(zip(gold, predicted, strict=True)):
        (text, annotated), (_, entities) = parse_inline(of_gold), parse_inline(of_model)
        scored = tuple(ScoredEntity(e.start, e.end, e.label, 0.5) for e in entities)
        offsets = tuple((k, k + 1) for k in range(len(text)))
        tags = [tuple(entities_to_bio(e, len(text))) for e in (annotated, entities)]
        scores = (0.5,) * len(text)
        made.append(Prediction(f"s{i}", text, None, tuple(annotated), scored, offsets, *tags, scores))
    return made


A, B = predictions(OF_A), predictions(OF_B)


def test_figures_are_those_of_the_evaluation():
    comparison = compare(A, B, KLUE, 200)
    assert (comparison.sentences, sum(comparison.entities.values()), comparison.entities["LC"]) == (5, 6, 2)
    for side, part in (("a", A), ("b", B)):
        klue, span = klue_scores(part, KLUE), score_spans(part, KLUE)
        expected = {
            "wordpiece.f1": score_tokens(part, KLUE)["f1"],
            "klue.entity_f1": klue["entity_f1"],
            "klue.char_f1": klue["char_f1"],
            "span.f1": span["f1"],
        }
        assert {name: getattr(figure, side) for name, figure in comparison.figures.items()} == pytest.approx(expected)
        by_type = {type_: row["f1"] for type_, row in span["by_type"].items()}
        assert {type_: getattr(figure, side) for type_, figure in comparison.by_type.items()} == pytest.approx(by_type)
    # A finds 3 of 6 entities with 4 spans, B 3 with 6.
    span = comparison.figures["span.f1"]
    assert (span.a, span.b, span.difference) == pytest.approx((6 / 10, 6 / 12, -1 / 10))
    assert span.low < span.difference < span.high


def test_sentences_are_fixed_broken_or_changed_otherwise():
    comparison = compare(A, B, KLUE, 10)
    changes = {kind: [c.id for c in getattr(comparison, kind)] for kind in ("fixed", "broken", "otherwise")}
    assert changes == {"fixed": ["s0"], "broken": ["s1"], "otherwise": ["s2"]}
    assert comparison.fixed[0] == Change("s0", A[0].text, A[0].gold, A[0].predicted, B[0].predicted)


def test_swapped_order_mirrors():
    there, back = compare(A, B, KLUE, 200), compare(B, A, KLUE, 200)
    for name, figure in there.figures.items():
        other = back.figures[name]
        assert (other.a, other.b, other.p_value) == (figure.b, figure.a, figure.p_value)
        mirrored = (-figure.difference, -figure.high, -figure.low)
        assert (other.difference, other.low, other.high) == pytest.approx(mirrored)
    assert [c.id for c in back.fixed] == [c.id for c in there.broken]
    assert [c.id for c in back.broken] == [c.id for c in there.fixed]


def test_the_same_predictions_do_not_differ():
    comparison = compare(A, A, KLUE, 200)
    for figure in (*comparison.figures.values(), *comparison.by_type.values()):
        assert figure == PairedDifference(figure.a, figure.a, 0, 0, 0, 1)
    assert comparison.fixed == comparison.broken == comparison.otherwise == ()


def test_other_tokens_leave_wordpiece_without_a_figure():
    joined = replace(B[3], offsets=((0, 2),), gold_tags=("O",), predicted_tags=("O",), token_scores=(0.5,))
    comparison = compare(A, [*B[:3], joined, B[4]], KLUE, 10)
    note = "not comparable, as 1 of 5 sentences are cut into other tokens"
    assert comparison.figures == {**compare(A, B, KLUE, 10).figures, "wordpiece.f1": None}
    assert comparison.notes == {"wordpiece.f1": note}
    assert f"wordpiece.f1: {note}\n" in render_text(comparison, 0)
    assert to_json(comparison)["figures"]["wordpiece.f1"] == {"note": note}


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
        compare(A, b, KLUE, 10, names=("main", "new"))
    refused = f"main (5 sentences) and new ({len(b)} sentences) were not tested on the same data and can't be compared"
    assert str(error.value) == f"{refused}; {said}"


def test_no_sentences_are_refused():
    with pytest.raises(KonerError, match="there is nothing to compare"):
        compare([], [], KLUE, 10)


def test_rendered_text():
    comparison = compare(A, B, KLUE, 200, 7, ("main", "workspace"))
    text = render_text(comparison, 5)
    figure = comparison.figures["span.f1"]
    assert text.startswith("A: main\nB: workspace\n5 sentences, 6 entities\n")
    assert re.search(
        rf"^span.f1 +0.6000 +0.5000 +-0.1000 +-\d\.\d{{4}} to \+\d\.\d{{4}} +{figure.p_value:.4f}$", text, re.MULTILINE
    )
    assert re.search(r"^TI \(0 in gold\) +0.0000 +0.0000 +\+0.0000 +\+0.0000 to \+0.0000 +1.0000$", text, re.MULTILINE)
    assert "200 resamples by sentence, seed 7" in text
    assert text.endswith(
        """
fixed, only B is right: 1
  s0
    gold  <이순신:PS>은 <부산:LC>에
    A     <이순신:PS>은 부산에
    B     <이순신:PS>은 <부산:LC>에
broken, only A is right: 1
  s1
    gold  <세종:PS>은 <서울:LC>에
    A     <세종:PS>은 <서울:LC>에
    B     <세종:PS>은 <서울에:LC>
changed otherwise, neither is right: 1
"""
    )


def test_a_sentence_cannot_control_the_terminal():
    gold, other = ["<서울:LC>\x1b[2J\r\x9b1m"], ["서울\x1b[2J\r\x9b1m"]
    text = render_text(compare(predictions(other, gold), predictions(gold, gold), KLUE, 10), 1)
    assert text.replace("\n", "").isprintable()
    assert "    gold  <서울:LC>\\x1b[2J\\r\\x9b1m\n" in text


def test_at_most_so_many_sentences_are_shown():
    gold = ["<서울:LC>"] * 3
    comparison = compare(predictions(["서울"] * 3, gold), predictions(gold, gold), KLUE, 10)
    text = render_text(comparison, 2)
    assert "fixed, only B is right: 3\n  s0\n" in text
    assert text.count("    gold  ") == 2
    assert "  … 1 not shown\nbroken, only A is right: 0\n" in text


def test_json_holds_what_the_text_tells():
    comparison = compare(A, B, KLUE, 50, 3, ("main", "workspace"))
    values = json.loads(json.dumps(to_json(comparison)))
    assert values["figures"]["span.f1"] == asdict(comparison.figures["span.f1"])
    assert values["by_type"]["OG"]["gold"] == 1
    assert {key: values[key] for key in ("a", "b", "sentences", "entities", "resamples", "seed", "level")} == {
        "a": "main", "b": "workspace", "sentences": 5, "entities": 6, "resamples": 50, "seed": 3, "level": 0.95,
    }  # fmt: skip
    assert values["fixed"] == [{"id": "s0", "gold": GOLD[0], "A": OF_A[0], "B": OF_B[0]}]
    assert [c["id"] for c in values["broken"] + values["otherwise"]] == ["s1", "s2"]


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
        write_predictions(path, part, KLUE)
        dvc(folder, "add", "--quiet", "data/predictions.parquet")
        commit(folder, name)
    run(folder, "git", "tag", "of-b")
    write_predictions(path, A[:2], KLUE)
    dvc(folder, "add", "--quiet", "data/predictions.parquet")
    dvc(folder, "exp", "save", "--name", "moody-hers")
    run(folder, "git", "checkout", "--quiet", "--force", ".")
    write_predictions(path, A[:1], KLUE)
    return folder


@pytest.mark.parametrize(
    ("revision", "expected"),
    [("main", B), ("HEAD~1", A), ("of-b", B), ("moody-hers", A[:2]), ("workspace", A[:1])],
)
def test_predictions_of_a_revision(project, revision, expected):
    assert load_predictions_of(revision, project) == (expected, KLUE)


def test_predictions_of_a_short_hash(project):
    assert load_predictions_of(run(project, "git", "rev-parse", "--short", "HEAD~1"), project) == (A, KLUE)


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
        ("", "the name of the revision is empty; name a commit, a branch, a tag or a DVC experiment"),
        ("HEAD^{tree}", "'HEAD^{tree}' is not a commit; name a commit, a branch, a tag or a DVC experiment"),
        ("HEAD:.dvc/config", "'HEAD:.dvc/config' is not a commit; name a commit, a branch, a tag or a DVC experiment"),
        ("--all", "unknown Git revision '--all'; `git log` and `dvc exp show` list what can be named"),
        ("HEAD\n", "'HEAD\\n' cannot name a revision: a name has at most 250 characters, all printable"),
        ("\udc80", "'\\udc80' cannot name a revision: a name has at most 250 characters, all printable"),
        ("x" * 5000, f"'{'x' * 40}' cannot name a revision: a name has at most 250 characters, all printable"),
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
    assert load_predictions_of("main", copy) == (B, KLUE)


def test_damaged_predictions_are_refused(copy):
    dvc(copy, "checkout", "--quiet", "--force")
    (path,) = (copy / ".dvc/cache/files/md5").glob(f"*/{file_md5(copy / 'data/predictions.parquet')[2:]}")
    # DVC takes a write-protected object for right.
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    path.chmod(0o444)
    with pytest.raises(KonerError, match=r"^main: data/predictions\.parquet is damaged in DVC's cache or remote: "):
        load_predictions_of("main", copy)


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


CP949 = {"PYTHONIOENCODING": "cp949"}
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def koner_compare(folder, *arguments, **variables):
    command = [sys.executable, "-c", "from koner.cli.main import main; main()", "compare", "main", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"} | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


# click prints UTF-8 where Python would print ASCII.
@pytest.mark.parametrize(
    ("variables", "encoding", "emoji"), [(CP949, "cp949", "\\U0001f600"), (ASCII, "utf-8", "😀")], ids=["cp949", "C"]
)
def test_a_comparison_is_printed_on_a_console_without_all_characters(copy, variables, encoding, emoji):
    for part, message in ((B, "with emoji"), (A, None)):
        write_predictions(copy / "data/predictions.parquet", [replace(p, id=f"{p.id}😀") for p in part], KLUE)
        if message:
            dvc(copy, "add", "--quiet", "data/predictions.parquet")
            commit(copy, message)
    table = koner_compare(copy, "workspace", **variables)
    assert table.returncode == 0, table.stderr
    assert f"  s1{emoji}\n" in table.stdout.decode(encoding)
    # JSON is UTF-8 in any locale.
    as_json = koner_compare(copy, "workspace", "--json", **variables)
    assert json.loads(as_json.stdout.decode("utf-8"))["fixed"][0]["id"] == "s1😀"


def test_a_cache_of_dvc_that_cannot_be_written_is_named(project):
    process = koner_compare(project, "workspace", DVC_SITE_CACHE_DIR="/dev/null/cache")
    assert process.stderr.decode() == "koner: main can't be read: /dev/null/cache: Not a directory\n"
