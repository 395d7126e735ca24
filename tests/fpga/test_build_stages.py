"""Steps of a build: what is taken over, what is done again, what an interruption leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fpga.build.stages import BuildError, BuildFolder, Stage


class Kitchen:
    """Two steps: `dough` of what is given, `bread` of dough; counts how often each is done."""

    def __init__(self, folder: Path) -> None:
        self.folder = BuildFolder(folder)
        self.flour = "wheat"
        self.oven = "hot"
        self.done: list[str] = []
        self.interrupt = ""

    def stages(self) -> list[Stage]:
        def knead(work: Path, log: Path) -> None:
            self._do("dough", work, f"dough of {self.flour}")

        def bake(work: Path, log: Path) -> None:
            dough = (work / "dough").read_text()
            log.write_text("it smells good")
            self._do("bread", work, f"bread of {dough}, {self.oven}")

        return [
            Stage("dough", "kneading", (self.flour,), (), ("dough",), knead),
            Stage("bread", "baking", (self.oven,), ("dough",), ("bread", "crumbs"), bake),
        ]

    def _do(self, name: str, work: Path, text: str) -> None:
        self.done.append(name)
        (work / name).write_text(text)
        if self.interrupt == name:
            raise KeyboardInterrupt
        if name == "bread":
            (work / "crumbs").write_text("few")

    def run(self) -> list[bool]:
        """Do all; whether each step was taken over."""
        self.done.clear()
        with self.folder.locked():
            return [self.folder.run(stage, lambda text: None).taken_over for stage in self.stages()]

    def files(self) -> dict[str, str]:
        return {p.name: p.read_text() for p in self.folder.path.iterdir() if p.is_file()}


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path / "kitchen")


def test_nothing_is_done_twice(kitchen: Kitchen):
    assert kitchen.run() == [False, False]
    assert kitchen.run() == [True, True]
    assert kitchen.done == []
    files = kitchen.files()
    assert files["bread"] == "bread of dough of wheat, hot"
    assert kitchen.folder.log("bread").read_text() == "it smells good"


def test_what_depends_on_a_change_is_done_again(kitchen: Kitchen):
    kitchen.run()
    kitchen.oven = "cool"
    assert kitchen.run() == [True, False]
    kitchen.flour = "rye"
    assert kitchen.run() == [False, False]
    assert kitchen.files()["bread"] == "bread of dough of rye, cool"
    # What was made before is not remembered: only the last state is kept.
    kitchen.flour = "wheat"
    assert kitchen.run() == [False, False]


def test_a_step_with_the_same_output_as_before_changes_nothing_behind_it(kitchen: Kitchen):
    kitchen.run()
    (kitchen.folder.path / "dough").unlink()
    assert kitchen.run() == [False, True]


def test_damage_is_noticed(kitchen: Kitchen):
    kitchen.run()
    (kitchen.folder.path / "crumbs").write_text("ma")
    assert kitchen.run() == [True, False]
    note = kitchen.folder.path / ".stages" / "bread.json"
    note.write_text(note.read_text()[:-5])
    assert kitchen.run() == [True, False]
    note.write_text(json.dumps([1, 2]))
    assert kitchen.run() == [True, False]


def test_an_interrupted_step_leaves_nothing_and_is_where_it_goes_on(kitchen: Kitchen):
    kitchen.interrupt = "bread"
    with pytest.raises(KeyboardInterrupt):
        kitchen.run()
    assert set(kitchen.files()) - {".lock"} == {"dough"}
    assert not (kitchen.folder.path / ".work").exists()
    kitchen.interrupt = ""
    assert kitchen.run() == [True, False]
    assert kitchen.done == ["bread"]


def test_an_interruption_leaves_the_former_output_whole_but_not_valid(kitchen: Kitchen):
    kitchen.run()
    kitchen.oven, kitchen.interrupt = "cool", "bread"
    with pytest.raises(KeyboardInterrupt):
        kitchen.run()
    assert kitchen.files()["bread"] == "bread of dough of wheat, hot"
    # Not even with the former inputs: it is not known how far the last one came.
    kitchen.oven, kitchen.interrupt = "hot", ""
    assert kitchen.run() == [True, False]


def test_one_build_at_a_time(kitchen: Kitchen):
    with kitchen.folder.locked(), pytest.raises(BuildError, match="another build works in"):
        kitchen.run()


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="cannot be written: Not a directory; name another one"):
        BuildFolder(tmp_path / "file" / "build")
