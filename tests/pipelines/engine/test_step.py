"""A recipe that cannot run is refused with a sentence when it is built."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy_steps as toy
from toy_steps import ToyConfig

from components.errors import ConfigError
from pipelines.engine.step import Artifact, Recipe, Resources, Step, ordered


@pytest.fixture
def recipe() -> Recipe:
    return Recipe("toy")


def test_a_step_is_named_after_its_function_and_takes_the_version_of_its_module(recipe: Recipe):
    recipe.step(toy.source, ToyConfig())
    assert [(step.name, step.version) for step in recipe.steps] == [("source", toy.VERSION)]


def test_two_steps_of_one_name_are_refused(recipe: Recipe):
    recipe.step(toy.source, ToyConfig())
    with pytest.raises(ConfigError, match="Two steps are named source"):
        recipe.step(toy.source, ToyConfig())


def test_a_missing_input_is_named(recipe: Recipe):
    with pytest.raises(ConfigError, match="join misses its input left"):
        recipe.step(toy.join, ToyConfig())


def test_an_optional_input_may_be_left_out(recipe: Recipe):
    recipe.step(toy.join, ToyConfig(), left=recipe.step(toy.source, ToyConfig()))
    assert recipe.steps[1].producers == ("source",)


def test_a_misspelt_input_gets_the_nearest_name(recipe: Recipe):
    with pytest.raises(ConfigError) as caught:
        recipe.step(toy.join, ToyConfig(), lefd=recipe.step(toy.source, ToyConfig()))
    assert caught.value.fix == "did you mean left?"


def test_a_path_is_no_artifact(recipe: Recipe):
    with pytest.raises(ConfigError, match="Input left is a str"):
        recipe.step(toy.join, ToyConfig(), left="/some/path")  # type: ignore[arg-type]


def test_a_function_inside_another_is_refused(recipe: Recipe):
    def local(ctx, config):
        return {}

    with pytest.raises(ConfigError, match="not at the top of a module"):
        recipe.step(local, ToyConfig())


def test_a_config_that_is_no_dataclass_is_refused(recipe: Recipe):
    with pytest.raises(ConfigError, match="config of source is a dict"):
        recipe.step(toy.source, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Clean", "a-b", "../up", "1st", "-"])
def test_names_that_are_unfit_for_paths_are_refused(recipe: Recipe, name: str):
    with pytest.raises(ConfigError, match="is no step name"):
        recipe.step(toy.source, ToyConfig(), name=name)


def test_a_circle_is_told_step_by_step():
    one = Step("one", toy.join, ToyConfig(), 1, {"left": Artifact("two")})
    two = Step("two", toy.join, ToyConfig(), 1, {"left": Artifact("one")})
    with pytest.raises(ConfigError, match=r"circle: (one -> two -> one|two -> one -> two)\."):
        ordered([one, two])


def test_an_input_nobody_makes_is_refused():
    with pytest.raises(ConfigError, match="comes from ghost, which is no step"):
        ordered([Step("one", toy.join, ToyConfig(), 1, {"left": Artifact("ghost")})])


def test_producers_come_before_their_readers():
    late = Step("late", toy.join, ToyConfig(), 1, {"left": Artifact("early")})
    early = Step("early", toy.source, ToyConfig(), 1)
    assert [step.name for step in ordered([late, early])] == ["early", "late"]


def test_an_external_file_is_known_by_its_content_alone(recipe: Recipe, tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    assert recipe.file(tmp_path / "a", "corpus").digest == recipe.file(tmp_path / "b", "corpus").digest


def test_an_external_file_that_is_not_there_is_named(recipe: Recipe, tmp_path: Path):
    with pytest.raises(ConfigError, match="There is no corpus at"):
        recipe.file(tmp_path / "ghost", "corpus")


def test_ranks_multiply_what_each_of_them_needs():
    assert Resources(cpus=2, gpus=1, ranks=4).total_cpus == 8
    assert Resources(cpus=2, gpus=1, ranks=4).total_gpus == 4
