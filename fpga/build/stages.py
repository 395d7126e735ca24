"""Steps of a build that are kept: a step whose inputs are unchanged is taken over.

A step works in a folder of its own. Its outputs are moved into the build's folder, each as a whole,
when all of them are there; only then is the step noted as done. So a build that was interrupted
goes on with the step in which that happened, and no half-written file is ever taken for a whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vta_hw.spec import cache
from vta_hw.spec.errors import VtaKitError

LOGS = "log"
_NOTES = ".stages"
_WORK = ".work"
_LOCK = ".lock"
_CHUNK_BYTES = 1 << 20


class BuildError(VtaKitError):
    """A build that cannot be done, or has a result that it must not have."""


@dataclass(frozen=True)
class Stage:
    """One step.

    `given` is all that its outputs depend on besides the contents of the files `reads`, for example
    options and versions of tools. `make(work, log)` finds those files in the folder `work` and
    leaves the files `writes` there; what a tool says belongs in the file `log`. All names are
    relative to the build's folder, without folders of their own.
    """

    name: str
    title: str
    given: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    make: Callable[[Path, Path], None]


@dataclass(frozen=True)
class Done:
    """What became of a step: the seconds that it took, whenever that was."""

    name: str
    title: str
    seconds: float
    taken_over: bool


Tell = Callable[[str], None]
"""Is told what begins."""


class BuildFolder:
    """The folder of one build, used by one process at a time."""

    def __init__(self, path: str | Path) -> None:
        """Makes the folder if there is none yet."""
        self.path = Path(path)
        with self._writing():
            (self.path / LOGS).mkdir(parents=True, exist_ok=True)
            (self.path / _NOTES).mkdir(exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other builds out of the folder, and say so to a build that is kept out."""
        with self._writing():
            stream = (self.path / _LOCK).open("w")
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BuildError(
                    f"another build works in the folder {str(self.path)!r}; wait for its end or "
                    f"name another folder"
                ) from None
            yield

    def run(self, stage: Stage, tell: Tell) -> Done:
        """Do `stage`, unless it was done with the same inputs and its outputs are still there."""
        key = self._key(stage)
        former = self._former(stage, key)
        if former is not None:
            return Done(stage.name, stage.title, former, True)
        tell(stage.title)
        note, work = self._note(stage), self.path / _WORK
        begin = time.monotonic()
        with self._writing():
            note.unlink(missing_ok=True)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
        try:
            for name in stage.reads:
                _link(self.path / name, work / name)
            stage.make(work, self.log(stage.name))
            seconds = round(time.monotonic() - begin, 1)
            digests = {name: _digest(work / name) for name in stage.writes}
            with self._writing():
                for name in stage.writes:
                    os.replace(work / name, self.path / name)
                record = {"key": key, "seconds": seconds, "outputs": digests}
                cache.replace_file(note, json.dumps(record).encode())
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return Done(stage.name, stage.title, seconds, False)

    def log(self, stage: str) -> Path:
        """The file with what the tool of a stage said."""
        return (self.path / LOGS / f"{stage}.log").absolute()

    def write(self, name: str, text: str) -> Path:
        """Write a file that is no output of a step, as a whole."""
        with self._writing():
            cache.replace_file(self.path / name, text.encode())
        return self.path / name

    def _note(self, stage: Stage) -> Path:
        return self.path / _NOTES / f"{stage.name}.json"

    def _key(self, stage: Stage) -> str:
        contents = [_digest(self.path / name) for name in stage.reads]
        return cache.content_key(stage.name, *stage.given, *stage.reads, *contents, *stage.writes)

    def _former(self, stage: Stage, key: str) -> float | None:
        """The seconds that the stage took when it was done with this key, else None."""
        try:
            record = json.loads(self._note(stage).read_text())
            same = record["key"] == key and all(
                _digest(self.path / name) == digest for name, digest in record["outputs"].items()
            )
            return float(record["seconds"]) if same else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # No note, a damaged one, or an output that is gone: the stage is done again.
            return None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BuildError(
                f"folder {str(self.path)!r} cannot be written: {error.strerror or error}; name "
                f"another one"
            ) from error


def _link(source: Path, target: Path) -> None:
    """The same file in another folder; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
