"""`KONER_FEEDBACK` under gunicorn: texts with low scores are kept, and answers do not depend on it."""

import json

from click.testing import CliRunner

from app.feedback import Feedback
from koner.cli.main import main
from koner.inference.decoding import TaggedText
from tests.app.gunicorn_service import TEXTS, Service, make_checkout

MESSAGE = "this worker keeps no texts in KONER_FEEDBACK for now"


def read_rows(folder):
    return [
        json.loads(line) for path in sorted(folder.glob("feedback-*.jsonl")) for line in path.open(encoding="utf-8")
    ]


def tagged(score):
    return TaggedText((), ("O", "O"), (score, score))


def make_feedback(folder, max_bytes=100_000, share=1.0):
    return Feedback(folder, max_score=0.5, share=share, max_bytes=max_bytes, model="hash")


def test_workers_keep_texts_that_koner_select_reads(tmp_path):
    folder = tmp_path / "feedback"
    settings = {"WORKERS": "2", "KONER_FEEDBACK": str(folder), "KONER_FEEDBACK_SCORE": "1", "KONER_FEEDBACK_SHARE": "1"}
    with Service(make_checkout(tmp_path), **settings) as service:
        service.wait(lambda: len(service.worker_pids()) == 2)
        first, second = service.worker_pids()
        answers = [service.infer(text) for text in TEXTS[:10]]
        with service.suspended(first):
            answers += [service.infer(text) for text in TEXTS[10:20]]
        with service.suspended(second):
            answers += [service.infer(text) for text in TEXTS[20:30]]
        assert {response.status for response, _ in answers} == {200}
        # Before it stops, too.
        service.wait(lambda: read_rows(folder))
        assert service.stop() == 0
        # Texts are in no log.
        logs = service.stdout.read_text(encoding="utf-8") + service.stderr.read_text(encoding="utf-8")
        assert not service.find_messages("Traceback|ERROR")
        assert not any(text in logs or json.dumps(text) in logs for text in TEXTS[:30])
    rows = read_rows(folder)
    assert sorted(row["text"] for row in rows) == sorted(TEXTS[:30])
    assert all(set(row) == {"text", "score", "time", "model"} and row["score"] < 1 for row in rows)
    assert {path.name.split("-")[2] for path in folder.iterdir()} == {f"{first}.jsonl", f"{second}.jsonl"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    arguments = ["select", str(folder), "--budget", "30", "--format", "jsonl", "--workers", "1"]
    result = CliRunner().invoke(main, [*arguments, "--model", str(tmp_path / "models/ner")])
    assert result.exit_code == 0, result.output
    assert sorted(json.loads(line)["text"] for line in result.stdout.splitlines()) == sorted(TEXTS[:30])


def test_a_folder_that_cannot_be_written_breaks_no_answer(tmp_path):
    # `test_full_disk.py` fills the disk.
    folder = tmp_path / "feedback"
    folder.touch()
    settings = {"KONER_FEEDBACK": str(folder), "KONER_FEEDBACK_SCORE": "1", "KONER_FEEDBACK_SHARE": "1"}
    with Service(make_checkout(tmp_path), **settings) as service:
        assert service.infer(TEXTS[0])[0].status == 200
        service.wait(lambda: service.find_messages(MESSAGE))
        assert service.infer(TEXTS[1])[0].status == 200
        assert service.stop() == 0
        assert len(service.find_messages(MESSAGE)) == 1
        assert not service.find_messages("Traceback")


def test_only_texts_with_low_scores_are_kept(tmp_path):
    feedback = make_feedback(tmp_path)
    feedback.record(["낮다", "높다", "비었다"], [tagged(0.4), tagged(0.6), TaggedText((), (), ())])
    feedback.close()
    assert [(row["text"], row["score"], row["model"]) for row in read_rows(tmp_path)] == [("낮다", 0.4, "hash")]


def test_a_share_is_drawn(tmp_path):
    feedback = make_feedback(tmp_path, share=0.5)
    feedback.record([str(i) for i in range(200)], [tagged(0.1)] * 200)
    feedback.close()
    assert 50 < len(read_rows(tmp_path)) < 150


def test_the_oldest_texts_are_dropped(tmp_path):
    for number in range(30):
        feedback = make_feedback(tmp_path)
        # Without the thread: two files may not be written within its two seconds.
        feedback.close()
        feedback._write(feedback._line(f"{number} " + "가" * 3000, 0.1))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100_000
    numbers = [int(row["text"].split()[0]) for row in read_rows(tmp_path)]
    assert numbers == list(range(30 - len(numbers), 30))
    assert len(numbers) > 8


def test_a_file_is_complete_whenever_it_is_read(tmp_path):
    feedback = make_feedback(tmp_path)
    feedback.close()
    for number in range(20):
        feedback._write(feedback._line(str(number), 0.1))
        assert [row["text"] for row in read_rows(tmp_path)] == [str(n) for n in range(number + 1)]
    assert len(list(tmp_path.iterdir())) == 1
