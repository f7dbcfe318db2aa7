"""The model card: the README.md of a model folder, as the Hugging Face hub reads it, filled from the metrics of a run.

Source: Mitchell et al. 2019, "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993; the metadata block is
that of https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from koner.base_model import MINI, OWN, SCRATCH
from koner.labels import TYPES
from koner.params import PARAMS_FILE, RECIPES, Params, check_params
from koner.sources import SAMPLE, is_hub_id

CARD = "README.md"
KLUE_DATA, KLUE_BASE = "klue/klue", "klue/roberta-base"
_KLUE = (KLUE_DATA, KLUE_BASE)
_LOCAL = "local"
CC_BY, CC_BY_SA, OTHER = "cc-by-4.0", "cc-by-sa-4.0", "other"
_NAME = "koner"
_TASK = "token-classification"
_NONE = "–"
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of `metrics/evaluate.json`: its key there, dots between levels, and how the hub's metadata calls it."""

    key: str
    metric: str
    name: str


FIGURES = (
    Figure("span.precision", "precision", "Precision, exact spans"),
    Figure("span.recall", "recall", "Recall, exact spans"),
    Figure("span.f1", "f1", "F1, exact spans"),
    Figure("span.macro_f1", "f1", "F1, exact spans, mean of types"),
    Figure("wordpiece.precision", "precision", "Precision, tokens"),
    Figure("wordpiece.recall", "recall", "Recall, tokens"),
    Figure("wordpiece.f1", "f1", "F1, tokens"),
    Figure("wordpiece.accuracy", "accuracy", "Accuracy, tokens"),
    Figure("klue.entity_f1", "f1", "Entity F1, KLUE benchmark's count"),
    Figure("klue.char_f1", "f1", "Character F1, KLUE benchmark's count"),
)

# The key of the F1, of the level that precision and recall stand on (None where they have no meaning), and its text.
_PROTOCOLS = (
    ("span.f1", "span", "**exact spans**: start, end and type agree with the annotation; all entities together"),
    ("span.macro_f1", None, "exact spans: mean over the types"),
    ("wordpiece.f1", "wordpiece", "tokens: entities that token tags spell (seqeval), as published KLUE recipes count"),
    ("klue.entity_f1", None, "KLUE's reference code, entities: mean over the types"),
    ("klue.char_f1", None, "KLUE's reference code, characters: mean over the tags"),
)

# What the card tells of the parameters; the others have no part in the model, or may hold a path.
_MEANINGS = {
    "vocab_min_count": "occurrences that make a morpheme a token",
    "layers": "transformer layers",
    "hidden_size": "units a layer",
    "heads": "attention heads",
    "isolate_unspelt": "whether characters that the vocabulary can't spell were read as words of their own",
    "drop_crossing": "whether pieces that cross entities' edges were taken out of the vocabulary",
    "max_length": "tokens a window",
    "stride": "tokens that neighbouring windows share",
    "boundaries": "whether labels say where inside a token its entity ends",
    "protocol": "how development and test are chosen",
    "development_share": "share of the training sentences that go to development",
    "augment": "copies of each training sentence with other names and numbers",
    "seed": "of the weights, the order and the split",
    "lr": "highest learning rate, falling linearly to 0",
    "batch_size": "windows a step",
    "batching": "how windows are put into a batch",
    "epochs": "at most",
    "patience": "epochs without a better F1 before training stops; 0 = never",
    "weight_decay": "of AdamW",
    "dropout": "on hidden units and attention",
    "warmup_share": "share of the steps in which the learning rate rises",
    "label_smoothing": "share of a label's weight that is spread over all",
    "layer_decay": "a layer's learning rate as a share of the next one's",
    "precision": "of the arithmetic in training",
    "legal": "whether decoding keeps the rules of BIO",
    "outside_bias": "whether a bias on O was fitted on development",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A thing the model is made from: what it is, a name that is no path, its licence, and its place on the hub.

    What is not from the hub has no `hub_id` and `revision`, and is named `local` where it is a user's own. `licence` is
    None where it can't be known.
    """

    what: str
    name: str
    licence: str | None = None
    hub_id: str | None = None
    revision: str | None = None


def write_card(
    folder: Path,
    *,
    params: dict[str, Any],
    evaluation: dict[str, Any],
    split: dict[str, Any],
    training: dict[str, Any],
) -> None:
    """Writes the card of the model in `folder` to its README.md.

    `params` are the values of `params.yaml`; the others are the metrics that the stages evaluate, split and train
    wrote. A figure that a stage did not write is left out. Raises `KonerError` for parameters that are not valid.
    """
    checked = check_params(params, PARAMS_FILE, Params)
    parts = _parts(checked)
    data, base = parts["source"], parts.get("base_model")
    metadata = _metadata(checked, parts, evaluation)
    text = _ENVIRONMENT.get_template("model_card.md.j2").render(
        metadata=metadata.to_yaml(),
        licence=_licence_text(parts.values()),
        data=data,
        base=base,
        params=checked,
        is_sample=checked.source == SAMPLE,
        is_klue=data.hub_id == KLUE_DATA,
        recipe=checked.recipe if checked.recipe in RECIPES else None,
        parameters=_parameter_rows(checked, parts),
        uses_local_files=any(part.name == _LOCAL for part in parts.values()),
        sentences={part: _count(split, f"sentences.{part}") for part in ("train", "development", "test")},
        removed=(_number(split, "removed.of_test") or 0) + (_number(split, "removed.of_development") or 0),
        substituted=_number(training, "sentences.substituted"),
        best_epoch=_number(training, "best_epoch"),
        epochs=_number(training, "epochs"),
        development_f1=_number(training, "best.f1"),
        protocols=_protocol_rows(evaluation),
        types=_type_rows(evaluation, split),
        tested={key: _count(evaluation, key) for key in ("sentences", "entities")},
        f1=_number(evaluation, "span.f1"),
        accuracy=_number(evaluation, "wordpiece.accuracy"),
        temperature=_number(evaluation, "calibration.temperature"),
        errors={
            when: _number(evaluation, f"calibration.expected_calibration_error.{when}") for when in ("before", "after")
        },
    )
    ModelCard(text).save(folder / CARD)


def _parts(params: Params) -> dict[str, Part]:
    """What the model was made from, by parameter; random weights and a tokenizer made here are no parts."""
    data = _part("training data", params.source, params.source_revision)
    parts = {"source": Part("training data", "koner sample corpus", CC_BY) if params.source == SAMPLE else data}
    if params.base_model == MINI:
        parts["base_model"] = Part("base model", MINI, CC_BY_SA)
    elif params.base_model != SCRATCH:
        parts["base_model"] = _part("base model", params.base_model, params.base_model_revision)
    elif params.tokenizer != OWN:
        parts["tokenizer"] = Part("tokenizer", _LOCAL)
    return parts


def _part(what: str, name: str, revision: str | None) -> Part:
    if not _is_on_hub(name, revision):
        return Part(what, _LOCAL)
    return Part(what, name, CC_BY_SA if name in _KLUE else None, name, revision)


def _is_on_hub(name: str, revision: str | None) -> bool:
    """Tells a hub id from a folder; the relative path of a folder may have the form of an id."""
    # By the parameters' convention what lies on disk has no revision: a folder that was since moved away is told by it.
    pinned = revision is not None or name in _KLUE
    return pinned and is_hub_id(name) and not Path(name).exists()


def _licence(parts: Iterable[Part]) -> str:
    """The hub's identifier of the licence that the parts leave to the model; share-alike wins, then the unknown."""
    licences = {part.licence for part in parts}
    if CC_BY_SA in licences:
        return CC_BY_SA
    return OTHER if None in licences else CC_BY


def _licence_text(parts: Collection[Part]) -> str:
    unknown = " and ".join(f"the {part.what}" for part in parts if part.licence is None)
    found = _licence(parts)
    if found == OTHER:
        return f"The licence follows that of {unknown}, which this card can't know: ask whoever trained the model."
    text = {
        CC_BY: "CC BY 4.0, as the sample corpus that the model was trained on.",
        CC_BY_SA: "CC BY-SA 4.0, as KLUE's data and models, and koner-mini.",
    }[found]
    return f"{text} The terms of {unknown} apply as well." if unknown else text


def _metadata(params: Params, parts: Mapping[str, Part], evaluation: Mapping[str, Any]) -> ModelCardData:
    data, base = parts["source"], parts.get("base_model")
    results = [
        EvalResult(
            task_type=_TASK,
            task_name="Named entity recognition",
            dataset_type=data.hub_id or data.name.replace(" ", "-"),
            dataset_name="KLUE-NER" if data.hub_id == KLUE_DATA else data.name,
            dataset_config=params.source_config if data.hub_id else None,
            dataset_split="validation",
            dataset_revision=data.revision,
            metric_type=figure.metric,
            metric_name=figure.name,
            metric_value=value,
        )
        for figure in FIGURES
        if (value := _number(evaluation, figure.key)) is not None
    ]
    return ModelCardData(
        language="ko",
        license=_licence(parts.values()),
        library_name="transformers",
        pipeline_tag=_TASK,
        tags=["named-entity-recognition", "ner", "korean", _NAME],
        datasets=[data.hub_id] if data.hub_id else None,
        base_model=base.hub_id if base else None,
        base_model_relation="finetune" if base and base.hub_id else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=_NAME if results else None,
        eval_results=results or None,
    )


def _parameter_rows(params: Params, parts: Mapping[str, Part]) -> list[tuple[str, str, str]]:
    """The parameters that made this model, as (name, value, meaning); those without an effect are left out."""
    names = {key: part.name for key, part in parts.items()}
    rows = [
        ("source", names["source"], "training data"),
        ("base_model", names.get("base_model", SCRATCH), "what is fine-tuned"),
    ]
    idle: set[str] = {"development_share"} if params.protocol == "official" else set()
    if "base_model" in parts:
        idle |= {"vocab_min_count", "layers", "hidden_size", "heads"}
    else:
        rows.append(("tokenizer", names.get("tokenizer", OWN), "where its tokens come from"))
    if "tokenizer" in parts:
        idle.add("vocab_min_count")
    values = params.model_dump()
    return rows + [(key, str(values[key]), text) for key, text in _MEANINGS.items() if key not in idle]


def _protocol_rows(evaluation: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """For each protocol with an F1: its text, precision, recall, F1 and the interval of the F1, as shown."""
    rows: list[tuple[str, ...]] = []
    for key, level, text in _PROTOCOLS:
        f1 = _number(evaluation, key)
        if f1 is None:
            continue
        precision, recall = (_number(evaluation, f"{level}.{name}") for name in ("precision", "recall"))
        bounds = (evaluation.get("intervals") or {}).get(key)
        low, high = _number(bounds, "low"), _number(bounds, "high")
        interval = _NONE if low is None or high is None else f"{low:.4f} to {high:.4f}"
        rows.append((text, _shown(precision), _shown(recall), _shown(f1), interval))
    return rows


def _type_rows(evaluation: Mapping[str, Any], split: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """For each type that was scored on exact spans: precision, recall, F1, test and training entities, as shown."""
    return [
        (
            type_,
            *(_shown(_number(evaluation, f"span.by_type.{type_}.{name}")) for name in ("precision", "recall", "f1")),
            _count(evaluation, f"span.by_type.{type_}.gold"),
            _count(split, f"entities.train.{type_}"),
        )
        for type_ in TYPES
        if _number(evaluation, f"span.by_type.{type_}.f1") is not None
    ]


def _number(metrics: Any, key: str) -> float | None:
    """The number at a key with dots between levels; None where there is none."""
    for name in key.split("."):
        metrics = metrics.get(name) if isinstance(metrics, dict) else None
    return metrics if isinstance(metrics, int | float) and math.isfinite(metrics) else None


def _shown(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}"


def _count(metrics: Mapping[str, Any], key: str) -> str:
    value = _number(metrics, key)
    return _NONE if value is None else f"{value:,}"
