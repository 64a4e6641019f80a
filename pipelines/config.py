"""One configuration for a run: Hydra composes it, frozen dataclasses check it, plain values go to the steps.

Every step's dataclass in components is a field of `Settings`; Hydra sees a writable twin of that tree as its schema, so
names and types are checked while it composes, and the dataclasses' own `__post_init__` checks the values afterwards.
Everything here is light on purpose: a refusal comes in well under two seconds, before Ray or torch is imported.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.augment.config import AugmentConfig
from components.card.config import CardConfig
from components.classify.config import ClassifyConfig, EvaluateClassifierConfig
from components.clean.config import CleanConfig
from components.configuring import require, require_choice, runtime
from components.crawl.config import CrawlConfig
from components.decontaminate.config import DecontaminateConfig
from components.dedup.config import DedupConfig
from components.errors import ConfigError
from components.evaluate.config import EvaluateBaseConfig, EvaluateConfig
from components.extract.config import ExtractConfig
from components.ingest.config import IngestFilesConfig, IngestWarcConfig
from components.instructions.config import InstructionsConfig
from components.labelled.config import LabelledConfig
from components.pack.config import PackConfig
from components.pairs.config import PairsConfig
from components.ppo.config import PpoConfig
from components.preferences.config import PreferencesConfig
from components.pretrain.config import PretrainConfig
from components.quality.config import QualityConfig
from components.reward.config import RewardConfig
from components.sample.config import SampleConfig
from components.scaling.config import ScalingConfig
from components.score.config import ScoreConfig
from components.sft.config import SftConfig
from components.shards.config import TokensConfig
from components.sketch.config import SketchConfig
from components.tokenizer.config import TokenizerConfig
from components.translate.config import EvaluateTranslationConfig, TranslateConfig
from pipelines import tables
from pipelines.engine.cluster import ClusterConfig
from pipelines.tracking.config import TrackingConfig

DEFAULT_WORKSPACE = ".headwater"
"""Where runs are when artifacts are not in a folder."""

CONF = Path(__file__).resolve().parent.parent / "conf"


SOURCES = ("sample", "crawl", "warc", "files")
RECIPES = ("chat", "data", "pretrain", "encoder", "translate", "scaling")
_FILES = ("opt_out", "rules", "toxic", "synonyms", "instructions", "preferences", "labelled", "pairs")
_FILES_OF = {"chat": ("instructions", "preferences"), "encoder": ("labelled",)}
"""What a recipe wants of a source that is not the sample."""
_FILES_OR_FOLDERS = ("positives", "negatives", "benchmarks")


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """Where the text comes from, and the files that go with it.

    A file enters the key of the step that reads it by its content. `previous_crawl` and `previous_dedup` name an
    artifact (STEP of the newest run, STEP@KEY, RUN:STEP, a folder), or are "newest": the newest one of the store, or
    none where there is none.

    Attributes:
        kind: "sample" builds a website out of installed packages and crawls it on loopback; "crawl" crawls the seeds;
            "warc" reads WARC files; "files" reads JSONL, Parquet and text files.
        seeds: URLs the crawl starts from (kind "crawl").
        paths: Files, folders, globs or URLs of an object store (kinds "warc" and "files").
        previous_crawl: Crawl to go on from: pages that have not changed are not sent again.
        previous_dedup: Deduplication to go on from, made with `dedup.keep_memory=true`.
        opt_out: File of hosts and URL prefixes, one a line, whose pages are neither fetched nor kept; unset, it is
            `opt_out.txt` of the workspace, which `headwater data forget` writes, where there is one.
        rules: YAML file of the rules of `clean`; unset, it is the package's own.
        toxic: File of words, one a line, that `score` counts and `clean.max_toxicity` limits.
        quality: Train a quality classifier and let it score every document (`clean.min_quality` drops by it).
        positives: JSONL or text file of good examples for it; unset, it learns from what the rules keep and drop.
        negatives: The same of bad ones.
        benchmarks: JSONL file or folder of evaluation items that no document may contain.
        augment: Vary the dialogues for SFT (recipe "chat"), see the settings `augment`.
        synonyms: File of synonyms for that.
        instructions: JSONL file of dialogues for SFT (recipe "chat"); the sample brings its own.
        preferences: JSONL file of preference pairs for the reward model (recipe "chat"); the sample brings its own.
        labelled: JSONL file of labelled texts (recipe "encoder"); the sample brings its own.
        pairs: JSONL file of sources and targets (recipe "translate"); unset, they are the sample's.
    """

    kind: str = "sample"
    seeds: tuple[str, ...] = ("http://sample.headwater.test/",)
    paths: tuple[str, ...] = ()
    previous_crawl: str | None = None
    previous_dedup: str | None = None
    opt_out: str | None = None
    rules: str | None = None
    toxic: str | None = None
    quality: bool = False
    positives: str | None = None
    negatives: str | None = None
    benchmarks: str | None = None
    augment: bool = False
    synonyms: str | None = None
    instructions: str | None = None
    preferences: str | None = None
    labelled: str | None = None
    pairs: str | None = None

    def __post_init__(self) -> None:
        require_choice("source.kind", self.kind, SOURCES)
        require(len(self.seeds) > 0, "source.seeds", list(self.seeds), "names no page", "'source.seeds=[https://...]'")
        if self.kind in ("warc", "files"):
            require(len(self.paths) > 0, "source.paths", list(self.paths), "names no file", "'source.paths=[folder]'")
        for key in _FILES:
            path = getattr(self, key)
            sound = path is None or Path(path).is_file()
            require(sound, f"source.{key}", path, "is not a file", f"source.{key}=path to a file")
        for key in _FILES_OR_FOLDERS:
            path = getattr(self, key)
            require(path is None or Path(path).exists(), f"source.{key}", path, "does not exist", f"source.{key}=null")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The whole configuration of a run; one field per step, named as the step.

    Attributes:
        recipe: The DAG to run: "chat"; "data", the data path alone; "pretrain", which ends with the base model;
            "encoder", which labels texts; "translate", which writes one text of another;
            "scaling", which fits a law to the losses of many small models.
        preset: Name of the preset the values came from, for the record.
        seed: Root of all randomness.
        store: Folder of artifacts, runs and schedules.
        code: What a change of code does to artifacts that are there: "step" leaves it to each step, "rerun" builds
            them again, "warn" keeps them and says so, "fail" refuses the run. It changes no key.
    """

    recipe: str = "chat"
    preset: str = "tiny"
    seed: int = 17
    store: str = runtime(".headwater")
    workspace: str | None = runtime(None)
    code: str = runtime("step")
    source: SourceConfig = dataclasses.field(default_factory=SourceConfig)
    site: SampleConfig = dataclasses.field(default_factory=SampleConfig)
    crawl: CrawlConfig = dataclasses.field(default_factory=CrawlConfig)
    ingest_warc: IngestWarcConfig = dataclasses.field(default_factory=IngestWarcConfig)
    ingest_files: IngestFilesConfig = dataclasses.field(default_factory=IngestFilesConfig)
    extract: ExtractConfig = dataclasses.field(default_factory=ExtractConfig)
    score: ScoreConfig = dataclasses.field(default_factory=ScoreConfig)
    quality: QualityConfig = dataclasses.field(default_factory=QualityConfig)
    clean: CleanConfig = dataclasses.field(default_factory=CleanConfig)
    sketch: SketchConfig = dataclasses.field(default_factory=SketchConfig)
    dedup: DedupConfig = dataclasses.field(default_factory=DedupConfig)
    decontaminate: DecontaminateConfig = dataclasses.field(default_factory=DecontaminateConfig)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
    tokens: TokensConfig = dataclasses.field(default_factory=TokensConfig)
    pack: PackConfig = dataclasses.field(default_factory=PackConfig)
    card: CardConfig = dataclasses.field(default_factory=CardConfig)
    instructions: InstructionsConfig = dataclasses.field(default_factory=InstructionsConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    preferences: PreferencesConfig = dataclasses.field(default_factory=PreferencesConfig)
    pretrain: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)
    sft: SftConfig = dataclasses.field(default_factory=SftConfig)
    reward: RewardConfig = dataclasses.field(default_factory=RewardConfig)
    ppo: PpoConfig = dataclasses.field(default_factory=PpoConfig)
    evaluate: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)
    evaluate_base: EvaluateBaseConfig = dataclasses.field(default_factory=EvaluateBaseConfig)
    labelled: LabelledConfig = dataclasses.field(default_factory=LabelledConfig)
    classify: ClassifyConfig = dataclasses.field(default_factory=ClassifyConfig)
    evaluate_classifier: EvaluateClassifierConfig = dataclasses.field(default_factory=EvaluateClassifierConfig)
    pairs: PairsConfig = dataclasses.field(default_factory=PairsConfig)
    translate: TranslateConfig = dataclasses.field(default_factory=TranslateConfig)
    evaluate_translation: EvaluateTranslationConfig = dataclasses.field(default_factory=EvaluateTranslationConfig)
    scaling: ScalingConfig = dataclasses.field(default_factory=ScalingConfig)
    cluster: ClusterConfig = dataclasses.field(default_factory=ClusterConfig)
    tracking: TrackingConfig = dataclasses.field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        require_choice("recipe", self.recipe, RECIPES)
        require_choice("code", self.code, ("step", "rerun", "warn", "fail"))
        wanted = _FILES_OF.get(self.recipe, ()) if self.source.kind != "sample" else ()
        for key in wanted:
            path = getattr(self.source, key)
            require(path is not None, f"source.{key}", path, "names no file", f"source.{key}=path/to/{key}.jsonl")
        self._check_objective()

    @property
    def folder(self) -> Path:
        """The workspace: where runs, scratch, schedules and the embedded tracking database are."""
        return Path(self.workspace or self.store)

    def _check_objective(self) -> None:
        """What a recipe with pretraining asks of its model and of its tokenizer."""
        config, tokens = self.pretrain, self.tokenizer
        if self.recipe in ("chat", "encoder"):
            wanted = "masked" if self.recipe == "encoder" else "next-token"
            rule, fix = f"is not what recipe={self.recipe} builds on", f"pretrain.objective={wanted}"
            require(config.objective == wanted, "pretrain.objective", config.objective, rule, fix)
        if self.recipe in ("chat", "pretrain", "encoder") and tokens.path is None:
            rule = f"are fewer than pretrain.objective={config.objective} hides with"
            fix = f"tokenizer.masks={config.num_masks}"
            require(tokens.masks >= config.num_masks, "tokenizer.masks", tokens.masks, rule, fix)


def load_settings(overrides: Sequence[str]) -> Settings:
    """Composes and checks the configuration.

    Args:
        overrides: Hydra overrides as typed after a verb: "preset=small", "clean.min_chars=200".

    Raises:
        ConfigError: For an unknown key (naming the nearest valid one), a wrong type, or an impossible value.
    """
    return settings_from(compose(overrides))


def settings_from(values: dict[str, object]) -> Settings:
    """Builds and checks settings out of plain values, such as those a run wrote down.

    Processes of a run have other working folders: store and workspace become absolute places here.

    Raises:
        ConfigError: As `load_settings`.
    """
    settings: Settings = build(Settings, values, "")
    local = "://" not in settings.store or settings.store.startswith(("file://", "local://"))
    store = settings.store.partition("://")[2] if local and "://" in settings.store else settings.store
    store = os.path.abspath(os.path.expanduser(store)) if local else store
    workspace = settings.workspace or (store if local else DEFAULT_WORKSPACE)
    return dataclasses.replace(settings, store=store, workspace=os.path.abspath(os.path.expanduser(workspace)))


def compose(overrides: Sequence[str]) -> dict[str, object]:
    """Lets Hydra compose `conf/` with the overrides; returns plain, resolved, type-checked values."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _store_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        check_names(overrides)
        others, entries = tables.split_off(overrides, all_tables())
        try:
            composed = hydra_compose("config", overrides=others)
            container = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise _refusal(error, overrides) from error
    values = typing.cast(dict[str, object], container)
    tables.put(values, entries)
    return values


@functools.cache
def _store_schema() -> None:
    """Gives Hydra the twin of the settings, once in a process: that takes as long as a composition."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=_writable_twin(Settings))


def check_names(overrides: Sequence[str]) -> None:
    """Refuses overrides whose key or option does not exist, naming the nearest that does."""
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise ConfigError(
                f"'{override}' is not an override.", where="command line", fix="write KEY=VALUE, such as preset=small"
            )
        key = key.lstrip("+~")
        options = group_options(key)
        if options and value not in options:
            raise ConfigError(
                f"there is no {key} '{value}'.",
                where=f"{override} (command line)",
                fix=f"one of {', '.join(f'{key}={option}' for option in options)}",
            )
        if not options and key not in set(all_keys()) and not tables.table_of(key, all_tables()):
            raise ConfigError(
                f"there is no setting '{key}'.", where=f"{override} (command line)", fix=_suggest(key, override)
            )


def group_options(group: str) -> list[str]:
    """The files of a config group; empty for anything that is not a group."""
    folder = CONF / group
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() and group else []


def all_keys() -> Iterator[str]:
    """Every dotted key a user can set, in the order of the dataclasses."""
    yield from _keys(Settings, "")


@functools.cache
def all_tables() -> tuple[str, ...]:
    """The dotted keys of the settings that are tables."""
    return tuple(_tables(Settings, ""))


def build(kind: type, values: dict[str, object], prefix: str) -> typing.Any:  # noqa: ANN401
    """Builds a frozen config dataclass, nested ones first, out of plain values.

    Raises:
        ConfigError: From the dataclass's own checks, or for a field it does not have.
    """
    hints = typing.get_type_hints(kind)
    arguments: dict[str, object] = {}
    for name, value in values.items():
        hint = hints.get(name)
        if hint is None:
            raise ConfigError(f"there is no setting '{prefix}{name}'.", where="conf/", fix=_suggest(prefix + name, ""))
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            value = build(typing.cast(type, hint), value, f"{prefix}{name}.")
        elif isinstance(value, list):
            value = tuple(value)
        arguments[name] = value
    try:
        return kind(**arguments)
    except ConfigError as error:
        raise _with_full_keys(error, prefix) from error


def _with_full_keys(error: ConfigError, prefix: str) -> ConfigError:
    """A nested config knows its keys as `training.steps`; the user types `pretrain.training.steps`."""
    parent, _, name = prefix.rstrip(".").rpartition(".")
    if not parent:
        return error
    parts = [re.sub(rf"(?<![\w.]){name}\.", prefix, part) for part in (error.what, error.where, error.fix)]
    return ConfigError(*parts)


def _keys(kind: type, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        yield prefix + field.name
        if dataclasses.is_dataclass(hint):
            yield from _keys(typing.cast(type, hint), f"{prefix}{field.name}.")


def _tables(kind: type, prefix: str) -> Iterator[str]:
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from _tables(typing.cast(type, hint), f"{prefix}{name}.")
        elif typing.get_origin(hint) is dict:
            yield prefix + name


def _suggest(key: str, override: str) -> str:
    keys = list(all_keys())
    tail = key.rpartition(".")[2]
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6) or [
        candidate for candidate in keys if candidate.rpartition(".")[2] == tail
    ]
    if not near:
        return "headwater config show lists every setting"
    value = override.partition("=")[2]
    return f"did you mean {near[0]}{'=' + value if value else ''}?"


def _refusal(error: Exception, overrides: Sequence[str]) -> ConfigError:
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    lines = [line.strip() for link in chain for line in str(link).splitlines() if line.strip()]
    key = next((line.partition(": ")[2] for line in lines if line.startswith("full_key: ")), "")
    typed = next((override for override in overrides if override.partition("=")[0] == key), "")
    where = f"{typed} (command line)" if typed else key or "conf/"
    reason = str(chain[-1]).splitlines()[0].rstrip(".")
    return ConfigError(f"the configuration is refused: {reason}.", where=where, fix="headwater config show")


def _writable_twin(kind: type, defaults: object | None = None) -> type:
    """A dataclass with the same fields that is not frozen: Hydra must write into its schema.

    Args:
        kind: The frozen config dataclass.
        defaults: An instance whose values become the twin's defaults; the dataclass's own where it is None.
    """
    hints = typing.get_type_hints(kind)
    values = kind() if defaults is None else defaults
    twins: list[tuple[str, typing.Any, typing.Any]] = []
    for field in dataclasses.fields(kind):
        hint, value = hints[field.name], getattr(values, field.name)
        if dataclasses.is_dataclass(hint):
            hint = _writable_twin(typing.cast(type, hint), value)
            twins.append((field.name, hint, dataclasses.field(default_factory=hint)))
        elif isinstance(value, tuple | dict):
            copy = list if isinstance(value, tuple) else dict
            twins.append((field.name, hint, dataclasses.field(default_factory=functools.partial(copy, value))))
        else:
            twins.append((field.name, hint, dataclasses.field(default=value)))
    return dataclasses.make_dataclass(kind.__name__, twins)
