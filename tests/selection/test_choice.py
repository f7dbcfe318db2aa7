from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from koner.errors import KonerError
from koner.selection.candidates import Candidate, fingerprint, word_pairs
from koner.selection.choice import REPETITION, CandidateHeap, choose, value


def candidate(text, uncertainty=1.0, tokens=4):
    return Candidate(text, (), tokens, uncertainty, word_pairs(text), fingerprint(text))


def random_candidates(count):
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(list("가나다라마바사"), 5)) + f" {chr(0xAC00 + i)}" for i in range(count)]
    return [candidate(text, draw.random(), 3 + i % 40) for i, text in enumerate(texts)]


def choose_plainly(candidates, budget):
    """The choice without the queue: the gain of every candidate is computed in each step."""
    chosen = []
    while len(chosen) < budget:
        seen = Counter(pair for c in chosen for pair in c.pairs)
        gains = [
            (value(c) * np.mean([REPETITION ** seen[pair] for pair in c.pairs]), -i)
            for i, c in enumerate(candidates)
            if c not in chosen
        ]
        chosen.append(candidates[-max(gains)[1]])
    return chosen


def test_the_choice_maximizes_what_each_step_adds():
    candidates = random_candidates(60)
    assert choose(candidates, 40) == choose_plainly(candidates, 40)


def test_a_batch_is_not_many_times_the_same_sentence():
    names = ["김영희", "박철수", "이민호", "최지우", "정하나", "강두리", "조세호", "윤네모", "장다섯", "임여섯"]
    same = [candidate(f"어제 밤에 {name} 선수가 넣은 골로 이겼다", 2.0) for name in names]
    others = [candidate(text, 1.5) for text in ("비가 온다", "정부는 말했다", "서울로 간다")]
    chosen = choose([*same, *others], 5)
    assert chosen[0] is same[0]
    assert {c.text for c in others} <= {c.text for c in chosen}


def test_a_budget_above_the_number_of_candidates_is_refused():
    with pytest.raises(KonerError, match="--budget: 4 is more than the 3 texts to choose from"):
        choose(random_candidates(3), 4)


def test_the_heap_keeps_the_highest_values_of_a_stream():
    candidates = [candidate(f"{chr(0xAC00 + i)}{i} 낱말", c.uncertainty) for i, c in enumerate(random_candidates(200))]
    candidates = [replace(c, pairs=(i,)) for i, c in enumerate(candidates)]
    heap = CandidateHeap(20)
    for start in range(0, 200, 7):
        heap.add(candidates[start : start + 7])
        assert len(heap) <= 20
    assert heap.candidates() == sorted(candidates, key=lambda c: -value(c))[:20]


def test_texts_of_one_pattern_do_not_crowd_out_the_others():
    lines = [f"사용자 {chr(0xAC00 + i)}{chr(0xAC00 + i)} 님이 방에 들어왔다" for i in range(3000)]
    others = [f"{chr(0xB000 + i)}{chr(0xB000 + i)} {chr(0xB400 + i)}{chr(0xB400 + i)}" for i in range(300)]
    heap = CandidateHeap(1000)
    heap.add(candidate(text, 2.0) for text in lines[:1500])
    heap.add(candidate(text, 1.5) for text in others)
    heap.add(candidate(text, 2.0) for text in lines[1500:])
    assert {*others} <= {c.text for c in heap.candidates()}
    assert len(heap) == 1000


def test_the_heap_forgets_the_pairs_of_texts_that_left():
    heap = CandidateHeap(10)
    heap.add(random_candidates(100))
    assert heap._pairs == Counter(pair for c in heap.candidates() for pair in c.pairs)


def test_duplicates_and_annotated_texts_are_left_out():
    texts = ["주문 1234는  3시에 왔다", "주문 99는 3시에 왔다", "주문은 왔다", "아직 안 왔다"]
    heap = CandidateHeap(10, frozenset([fingerprint("주문은 왔다\n")]))
    heap.add(candidate(text) for text in texts)
    assert [c.text for c in heap.candidates()] == [texts[0], texts[3]]
    assert (heap.duplicates, heap.annotated) == (1, 1)


def test_a_text_that_left_the_heap_stays_out_when_it_comes_again():
    low, high = candidate("낮다", 0.1), [candidate(f"높다 {c}") for c in "가나"]
    heap = CandidateHeap(2)
    heap.add([low, *high, low])
    assert heap.candidates() == high
    assert heap.duplicates == 0
