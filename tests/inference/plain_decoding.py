"""Decoding as in the textbook: one text after the other, and all pairs of labels. What decodes faster must agree."""

import numpy as np

from koner.inference.decoding import ScoredEntity, TaggedText
from koner.labels.bio import OUTSIDE, first_illegal_tag, is_valid_transition
from koner.tokens.spans import tokens_to_entities


def best_path(labels, logits):
    """Return the most likely labels if they are valid, otherwise the path that Viterbi over all pairs finds."""
    greedy = logits.argmax(axis=1).tolist()
    if first_illegal_tag([labels[i] for i in greedy]) is None:
        return greedy
    return viterbi(labels, logits)


def viterbi(labels, logits):
    is_valid = np.array([[is_valid_transition(a, b) for b in labels] for a in labels])
    may_start = np.array([is_valid_transition(OUTSIDE, label) for label in labels])
    scores = np.where(may_start, logits[0].astype(np.float64), -np.inf)
    backpointers = np.empty(logits.shape, np.int64)
    for i in range(1, len(logits)):
        candidates = scores[:, None] + np.where(is_valid, 0.0, -np.inf)
        backpointers[i] = candidates.argmax(axis=0)
        scores = candidates.max(axis=0) + logits[i]
    path = [int(scores.argmax())]
    for i in range(len(logits) - 1, 0, -1):
        path.append(int(backpointers[i, path[-1]]))
    return path[::-1]


def decode(logits, path, labels, offsets, composed, temperature):
    """Return the tagged text for the predicted labels of its tokens."""
    scaled = logits / temperature
    path_logits = np.take_along_axis(scaled, np.array(path, int)[:, None], axis=1)
    probabilities = 1 / np.exp(scaled - path_logits).sum(axis=1)
    tags = [labels[i] for i in path]
    entities, position = [], 0
    for entity, (first, last) in tokens_to_entities(tags, offsets):
        start, end = trim(entity.start, entity.end, composed, position)
        if start < end:
            start, position = composed.original_span(start, end)
            entities.append(ScoredEntity(start, position, entity.label, float(probabilities[first:last].mean())))
    return TaggedText(tuple(entities), tuple(tags), tuple(probabilities.tolist()))


def trim(start, end, composed, position):
    while start < end and (composed.text[start].isspace() or composed.original_span(start, start + 1)[0] < position):
        start += 1
    while start < end and composed.text[end - 1].isspace():
        end -= 1
    return start, end
