"""Random damage to a checkout's lock file and model folder, to reload after.

`python -m tests.app.damage COUNT` reloads in one process, as gunicorn's master does, in the current checkout;
`python -m tests.app.damage COUNT --gunicorn` sends SIGHUP to a service with two workers.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from koner.errors import KonerError
from koner.release.hashing import folder_hash
from tests.app.gunicorn_service import TEXTS, Load, Service, make_checkout, write_lock

LOCKS = [
    "made: 2024-99-99",
    "made: !!int x",
    f"made: {'9' * 5000}",
    "- " * 3000,
    "",
    "\0",
    "stages: {package: {outs: [{path: models/ner, md5: [a]}]}}",
    "stages: {package: {outs: [{path: [models/ner]}]}}",
    "stages: {package: {outs: {path: models/ner}}}",
    "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*{'a' if not i else f'b{i - 1}'}, *a]\n" for i in range(99)),
]
VALUES = [None, True, -1, 0, 10**400, float("nan"), float("inf"), "", "x" * 10_000, [], {}, [[[]]], {"0": "O"}, "../x"]


class Damage:
    """A checkout that can be restored and damaged again and again, each time in another way."""

    def __init__(self, checkout, seed):
        self.checkout, self.good, self.random = checkout, checkout.parent / f"{checkout.name}-good", random.Random(seed)  # noqa: S311
        shutil.copytree(checkout, self.good, ignore=shutil.ignore_patterns("tmp", "std*"))

    def apply(self):
        """Restore the checkout, damage it, and return what was done."""
        self.restore()
        kind = self.random.choice([self._lock, self._lock_bytes, self._bytes, self._json, self._not_a_file])
        return f"{kind.__name__}: {kind()}"

    def restore(self):
        for name in ("models", "dvc.lock"):
            _remove(self.checkout / name)
        shutil.copytree(self.good / "models", self.checkout / "models")
        shutil.copy(self.good / "dvc.lock", self.checkout)

    def _lock(self):
        content = self.random.choice(LOCKS)
        (self.checkout / "dvc.lock").write_text(content)
        return content[:40]

    def _lock_bytes(self):
        return self._spoil(self.checkout / "dvc.lock")

    def _bytes(self):
        return self._pin(self._spoil(self.random.choice(self._files())))

    def _json(self):
        path = self.checkout / "models/ner" / self.random.choice(["config.json", "tokenizer.json"])
        values = json.loads(path.read_text())
        objects = [values]
        for value in objects:
            objects += [inner for inner in value.values() if isinstance(inner, dict)]
        target = self.random.choice([value for value in objects if value])
        key, value = self.random.choice(list(target)), self.random.choice(VALUES)
        target[key] = value
        path.write_text(json.dumps(values))
        return self._pin(f"{path.name}, {key}: {str(value)[:20]}")

    def _not_a_file(self):
        path = self.random.choice([*self._files(), self.checkout / "dvc.lock", self.checkout / "models/ner"])
        _remove(path)
        make = self.random.choice([os.mkfifo, os.mkdir, lambda _: None, lambda path: path.symlink_to(path.name)])
        make(path)
        return self._pin(f"{path.name}, {make}")

    def _files(self):
        return sorted((self.checkout / "models/ner").iterdir())

    def _spoil(self, path):
        content = bytearray(path.read_bytes())
        start = self.random.randrange(len(content))
        end = self.random.choice([start, start + 1, start + 20, len(content)])
        content[start:end] = self.random.randbytes(self.random.choice([0, 1, 20]))
        path.write_bytes(content)
        return f"{path.name}, {start}:{end}"

    def _pin(self, text):
        """Pin the damaged folder, so that it is loaded, unless the lock file is what was damaged."""
        try:
            if (self.checkout / "dvc.lock").is_file():
                write_lock(self.checkout, folder_hash(self.checkout / "models/ner"))
        except (OSError, KonerError):
            pass  # the folder cannot be hashed
        return text


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def reload_in_process(checkout, count, seed=0):
    """Reload `count` times, and return how many of the damaged models were refused."""
    import onnxruntime  # noqa: F401 (so that the processes that are forked need not import it)

    from app.preload import preload_model, reload_model
    from app.settings import load_settings

    damage, scratch, refused = Damage(checkout, seed), checkout / "scratch", 0
    scratch.mkdir()
    previous = preload_model(load_settings(), scratch)
    for _ in range(count):
        text = damage.apply()
        current = reload_model(scratch)
        if current.refusal is None:
            assert current.model.hash == folder_hash(checkout / "models/ner"), text
        else:
            refused += 1
            assert "\n" not in current.refusal, text
            assert len(current.refusal) < 700, (text, current.refusal)
            assert (current.model, current.source) == (previous.model, previous.source), text
        assert current.source.tag(TEXTS[0]) is not None, text
        previous = current
    damage.restore()
    assert reload_model(scratch).refusal is None
    # Nothing stays but the copies of the last two models.
    assert len(list(scratch.iterdir())) <= 2
    return refused


def reload_service(service, damage, count):
    """Send SIGHUP `count` times under load, and return the numbers of refused models and of answers."""
    with Load(service) as load:
        for number in range(1, count + 1):
            text = damage.apply()
            workers = service.worker_pids()
            service.process.send_signal(signal.SIGHUP)
            # At the start one line was logged.
            service.wait(lambda number=number: len(service.find_messages("koner: serving ")) == number + 1)
            service.wait(lambda workers=workers: len(service.worker_pids() - workers) == 2)
            load.wait_for_responses()
            print(f"{number}: {text}".encode("ascii", "replace").decode(), flush=True)
    assert load.failures == []
    assert {status for _, _, status, _, _ in load.responses} == {200}
    return len(service.find_messages("koner: the previous model stays in service: ")), len(load.responses)


if __name__ == "__main__":
    times, checkout_folder = int(sys.argv[1]), make_checkout(Path.cwd() / "checkout")
    start = time.monotonic()
    if sys.argv[2:]:
        with Service(checkout_folder, WORKERS="2") as running:
            print(*reload_service(running, Damage(checkout_folder, seed=0), times), time.monotonic() - start)
    else:
        os.chdir(checkout_folder)
        print(reload_in_process(checkout_folder, times))
