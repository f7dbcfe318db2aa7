"""The model card: the README.md of a model folder, as the Hugging Face hub reads it, with the metrics of a run.

Source: Mitchell et al. 2019, "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993. The metadata block
follows https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from koner.corpus.parts import SPLIT_PARTS
from koner.evaluation import protocols
from koner.labels.klue import KLUE
from koner.labels.styles import LabelStyle
from koner.params import CONSULT, MINI, OWN, PARAMS_FILE, RECIPES, SAMPLE, SCRATCH, Params
from koner.storage.hub import is_hub_id
from koner.storage.tables import escape_markdown
from koner.validation import validate

CARD = "README.md"
KLUE_DATA, KLUE_BASE = "klue/klue", "klue/roberta-base"
_KLUE = (KLUE_DATA, KLUE_BASE)
_INCLUDED_CORPORA = {SAMPLE: "koner sample corpus", CONSULT: "koner consultation corpus"}
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
_ENVIRONMENT.filters["markdown"] = escape_markdown


@dataclass(frozen=True, slots=True)
class Part:
    """Data or a model that the model was made from.

    Attributes:
        role: Its role, such as "training data".
        name: A name that is not a path: `local` for files of the user.
        licence: The hub's identifier of its licence; None if unknown.
        hub_id: Its id on the hub, if it is from there.
        revision: Its revision on the hub, if it is from there.
    """

    role: str
    name: str
    licence: str | None = None
    hub_id: str | None = None
    revision: str | None = None


def write_card(
    folder: Path,
    *,
    styles: Sequence[LabelStyle],
    params: dict[str, Any],
    evaluation: dict[str, Any],
    split: dict[str, Any],
    training: dict[str, Any],
) -> None:
    """Write the model card of the model in a folder; figures that are missing in the metrics are left out.

    Args:
        folder: The folder of the model; the card is its README.md.
        styles: The types of the model, in the order to show them.
        params: The values of `params.yaml`.
        evaluation: The metrics of the stage evaluate.
        split: The metrics of the stage split.
        training: The metrics of the stage train.

    Raises:
        KonerError: If the parameters are invalid.
    """
    checked = validate(params, PARAMS_FILE, Params)
    parts = _parts(checked)
    data, base = parts["source"], parts.get("base_model")
    metadata = _metadata(checked, parts, evaluation)
    text = _ENVIRONMENT.get_template("model_card.md.j2").render(
        metadata=metadata.to_yaml(),
        licence=_licence_text(parts.values()),
        data=data,
        base=base,
        params=checked,
        has_klue_types={style.label for style in styles} == set(KLUE.types),
        shown_types=[(style.label, style.en, style.ko) for style in styles],
        included=checked.source if checked.source in _INCLUDED_CORPORA else None,
        is_klue=data.hub_id == KLUE_DATA,
        recipe=checked.recipe if checked.recipe in RECIPES else None,
        parameters=_parameter_rows(checked, parts),
        uses_local_files=any(part.name == _LOCAL for part in parts.values()),
        sentences={part: _count(split, f"sentences.{part}") for part in SPLIT_PARTS},
        removed=(_number(split, "removed.of_test") or 0) + (_number(split, "removed.of_development") or 0),
        substituted=_number(training, "sentences.substituted"),
        best_epoch=_number(training, "best_epoch"),
        epochs=_number(training, "epochs"),
        development_f1=_number(training, "best.f1"),
        protocols=_protocol_rows(evaluation),
        types=_type_rows(styles, evaluation, split),
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
    """Return the parts of the model by parameter, without random weights and without a tokenizer of its own."""
    data = _part("training data", params.source, params.source_revision)
    if params.source in _INCLUDED_CORPORA:
        data = Part("training data", _INCLUDED_CORPORA[params.source], CC_BY)
    parts = {"source": data}
    if params.base_model == MINI:
        parts["base_model"] = Part("base model", MINI, CC_BY_SA)
    elif params.base_model != SCRATCH:
        parts["base_model"] = _part("base model", params.base_model, params.base_model_revision)
    elif params.tokenizer != OWN:
        parts["tokenizer"] = Part("tokenizer", _LOCAL)
    return parts


def _part(role: str, name: str, revision: str | None) -> Part:
    if not _is_on_hub(name, revision):
        return Part(role, _LOCAL)
    return Part(role, name, CC_BY_SA if name in _KLUE else None, name, revision)


def _is_on_hub(name: str, revision: str | None) -> bool:
    """Return whether a name is a hub id and not a folder, whose relative path may look like an id."""
    # Parameters give no revision for a folder, so a folder that was moved since is not taken for a hub id.
    pinned = revision is not None or name in _KLUE
    return pinned and is_hub_id(name) and not os.path.exists(name)


def _licence(parts: Iterable[Part]) -> str:
    """Return the hub's identifier of the model's licence: share-alike if any part has it, else unknown licences."""
    licences = {part.licence for part in parts}
    if CC_BY_SA in licences:
        return CC_BY_SA
    return OTHER if None in licences else CC_BY


def _licence_text(parts: Collection[Part]) -> str:
    unknown = " and ".join(f"the {part.role}" for part in parts if part.licence is None)
    licence = _licence(parts)
    if licence == OTHER:
        return f"The licence follows that of {unknown}, which is unknown here; ask the author of the model."
    text = {
        CC_BY: "CC BY 4.0, like the corpus that the model was trained on.",
        CC_BY_SA: "CC BY-SA 4.0, like the data and models of KLUE, and koner-mini.",
    }[licence]
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
            metric_name=figure.card_name,
            metric_value=value,
        )
        for protocol in _card_protocols()
        for figure in protocol.figures
        if (value := _number(evaluation, protocol.path(figure))) is not None
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
    """Return name, value and meaning of the parameters that had an effect on this model."""
    names = {key: part.name for key, part in parts.items()}
    rows = [
        ("source", names["source"], "training data"),
        ("base_model", names.get("base_model", SCRATCH), "model that is fine-tuned"),
    ]
    unused: set[str] = {"development_share"} if params.protocol == "official" else set()
    if "base_model" in parts:
        unused |= {"vocab_min_count", "layers", "hidden_size", "heads"}
    else:
        rows.append(("tokenizer", names.get("tokenizer", OWN), "source of the tokens"))
    if "tokenizer" in parts:
        unused.add("vocab_min_count")
    values = params.model_dump()
    unused |= {key for key in ("labels", "label_map") if values[key] is None}
    titles = {key: field.title for key, field in Params.model_fields.items() if field.title and key not in unused}
    return rows + [(key, _parameter_value(values[key]), title) for key, title in titles.items()]


def _parameter_value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return escape_markdown(text)


def _card_protocols() -> list[protocols.Protocol]:
    """Return the protocols with exact spans first, since these are what users get."""
    return sorted(protocols.PROTOCOLS, key=lambda protocol: protocol.name != protocols.SPAN.name)


def _protocol_rows(evaluation: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return for each listed figure its meaning, precision, recall, value and confidence interval, formatted."""
    rows: list[tuple[str, ...]] = []
    for protocol in _card_protocols():
        for figure in protocol.figures:
            value = _number(evaluation, protocol.path(figure))
            if figure.meaning is None or value is None:
                continue
            # Precision and recall belong to the micro average only.
            level = protocol.name if figure.key == "f1" else None
            precision, recall = (_number(evaluation, f"{level}.{name}") for name in ("precision", "recall"))
            bounds = (evaluation.get("intervals") or {}).get(protocol.path(figure))
            low, high = _number(bounds, "low"), _number(bounds, "high")
            interval = _NONE if low is None or high is None else f"{low:.4f} to {high:.4f}"
            rows.append((figure.meaning, _formatted(precision), _formatted(recall), _formatted(value), interval))
    return rows


def _type_rows(
    styles: Sequence[LabelStyle], evaluation: Mapping[str, Any], split: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """Return the types with exact-span precision, recall, F1, and numbers of test and training entities, formatted."""
    scores = _value(evaluation, "span.by_type") or {}
    training = _value(split, "entities.train") or {}
    return [
        (
            escape_markdown(type_),
            *(_formatted(_number(scores[type_], name)) for name in ("precision", "recall", "f1")),
            _count(scores[type_], "gold"),
            _NONE if type_ not in training else f"{training[type_]:,}",
        )
        for type_ in sorted(style.label for style in styles)
        if _number(scores.get(type_), "f1") is not None
    ]


def _number(metrics: Any, key: str) -> float | None:
    """Return the finite number at a path such as `span.f1`; None if there is none."""
    value = _value(metrics, key)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _value(metrics: Any, key: str) -> Any:
    for name in key.split("."):
        metrics = metrics.get(name) if isinstance(metrics, dict) else None
    return metrics


def _formatted(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}"


def _count(metrics: Mapping[str, Any], key: str) -> str:
    value = _number(metrics, key)
    return _NONE if value is None else f"{value:,}"
