"""Label Studio's labelling configurations, and tasks with predictions.

The formats are described in https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions. Offsets
count code points, as Label Studio's page does since version 1.4
(https://github.com/HumanSignal/label-studio/issues/1347); a test compares them with the page of the version at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from xml.etree import ElementTree

from koner.errors import KonerError
from koner.labels.styles import LabelStyle

_SCORE_DECIMALS = 6


class LabelledSpan(Protocol):
    """An entity: a half-open span in code points and its label. It may also have a `score`."""

    @property
    def start(self) -> int:
        """The first code point."""

    @property
    def end(self) -> int:
        """The code point after the last."""

    @property
    def label(self) -> str:
        """The type."""


@dataclass(frozen=True)
class Control:
    """The tags of a labelling configuration by which the entities of a text are annotated.

    Attributes:
        name: The name of the control tag `<Labels>`.
        to_name: The name of the text tag `<Text>`.
        field: The field of a task's data that holds the text.
        labels: The labels that can be chosen; None if they are not known.
    """

    name: str = "label"
    to_name: str = "text"
    field: str = "text"
    labels: tuple[str, ...] | None = None


DEFAULT_CONTROL = Control()


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree of a document that has no document type declaration.

    Only there can a document declare entities, with which a small file becomes a large one or names another file.
    """

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse the declaration before anything in it is read."""
        raise ValueError("it has a document type declaration")


def write_label_config(styles: Iterable[LabelStyle], control: Control = DEFAULT_CONTROL) -> str:
    """Return the labelling configuration of a label set, as XML.

    Args:
        styles: The labels with their names and colours, in order. The Korean name is shown as a hint.
        control: The names of the tags and of the field; its labels are not used.
    """
    view = ElementTree.Element("View")
    labels = ElementTree.SubElement(view, "Labels", {"name": control.name, "toName": control.to_name})
    for style in styles:
        hint = {} if style.ko == style.label else {"hint": style.ko}
        ElementTree.SubElement(labels, "Label", {"value": style.label, "background": style.light.chip, **hint})
    ElementTree.SubElement(view, "Text", {"name": control.to_name, "value": f"${control.field}"})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def parse_label_config(config: str) -> Control:
    """Return the tags by which a labelling configuration annotates entities: the first `<Labels>` of a `<Text>`.

    Args:
        config: The configuration, as XML. Names of tags may be in any case, as in Label Studio.

    Raises:
        KonerError: If it is not XML without a document type declaration, or has no such tags; the message says which.
    """
    try:
        root = ElementTree.fromstring(config, ElementTree.XMLParser(target=_Builder()))  # noqa: S314 see _Builder
    except (ElementTree.ParseError, ValueError) as error:
        raise KonerError(f"the labelling config is not valid XML: {error}") from None
    tags = [(str(element.tag).lower(), element) for element in root.iter()]
    texts = {text.get("name"): text for tag, text in tags if tag == "text" and text.get("value", "").startswith("$")}
    if not texts:
        raise KonerError('the labelling config has no text tag, such as <Text name="text" value="$text"/>')
    for tag, element in tags:
        names = [name.strip() for name in element.get("toName", "").split(",")] if tag == "labels" else []
        to_name = next((name for name in names if name in texts), None)
        name = element.get("name")
        if to_name is None or not name:
            continue
        text = texts[to_name]
        if text.get("valueType", "text") != "text":
            raise KonerError(f"the text tag '{to_name}' of the labelling config must have the text itself, not its URL")
        return Control(name, to_name, text.get("value", "")[1:], _labels(element))
    raise KonerError(
        "the labelling config has no <Labels> whose toName is the name of its text tag, "
        f"{' or '.join(sorted(map(repr, texts)))}"
    )


def _labels(control: ElementTree.Element) -> tuple[str, ...]:
    """Return the labels of a control tag by the names that annotations have: the alias, or else the value."""
    labels = [e.get("alias") or e.get("value") for e in control.iter() if str(e.tag).lower() == "label"]
    return tuple(dict.fromkeys(label for label in labels if label))


def task(
    text: str,
    entities: Iterable[LabelledSpan],
    *,
    model_version: str,
    control: Control = DEFAULT_CONTROL,
    score: float | None = None,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a task with one prediction, to be imported into Label Studio.

    Args:
        text: The text of the task.
        entities: The entities of the prediction.
        model_version: The name under which Label Studio shows the prediction.
        control: The tags of the project's labelling configuration.
        score: The score of the prediction; see `prediction`.
        data: Further fields of the task's data, such as an id.
    """
    of_model = prediction(text, entities, model_version=model_version, control=control, score=score)
    return task_with_predictions(text, [of_model], control=control, data=data)


def task_with_predictions(
    text: str,
    predictions: Sequence[Mapping[str, Any]],
    *,
    control: Control = DEFAULT_CONTROL,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a task with any number of predictions, for example those of two annotators.

    Args:
        text: The text of the task.
        predictions: The predictions, each made by `prediction` with another `model_version`.
        control: The tags of the project's labelling configuration.
        data: Further fields of the task's data.
    """
    return {"data": {**(data or {}), control.field: text}, "predictions": list(predictions)}


def prediction(
    text: str,
    entities: Iterable[LabelledSpan],
    *,
    model_version: str,
    control: Control = DEFAULT_CONTROL,
    score: float | None = None,
) -> dict[str, Any]:
    """Return a prediction for a text.

    Args:
        text: The text.
        entities: The entities. If they have a `score`, it is stored with each.
        model_version: The name under which Label Studio shows the prediction.
        control: The tags of the project's labelling configuration. Entities whose label is not among its labels are
            left out.
        score: The score of the prediction, by which Label Studio can order tasks; by default the lowest score of its
            entities, None if no entity has one.
    """
    known = [entity for entity in entities if control.labels is None or entity.label in control.labels]
    result = [_region(f"e{i}", text, entity, control) for i, entity in enumerate(known)]
    scores = [region["score"] for region in result if "score" in region]
    lowest = min(scores, default=None) if score is None else round(score, _SCORE_DECIMALS)
    return {"model_version": model_version, "score": lowest, "result": result}


def _region(id_: str, text: str, entity: LabelledSpan, control: Control) -> dict[str, Any]:
    score = getattr(entity, "score", None)
    return {
        "id": id_,
        "from_name": control.name,
        "to_name": control.to_name,
        "type": "labels",
        "value": {
            "start": entity.start,
            "end": entity.end,
            "text": text[entity.start : entity.end],
            "labels": [entity.label],
        },
        **({} if score is None else {"score": round(score, _SCORE_DECIMALS)}),
    }
