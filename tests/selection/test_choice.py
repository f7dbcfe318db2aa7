import numpy as np
import pytest

from koner.errors import KonerError
from koner.selection.candidates import Candidate, fingerprint
from koner.selection.choice import DISCOUNT, LENGTH_POWER, CandidateHeap, choose, value


def candidate(text, tokens=4, **words):
    ordered = tuple(sorted(words.items(), key=lambda item: -item[1]))
    return Candidate(text, (), tokens, ordered, fingerprint(text))


def random_candidates(count):
    draw = np.random.default_rng(0)
    uncertainties = [dict(zip(draw.permutation(list("abcdefgh")), draw.random(3), strict=False)) for _ in range(count)]
    return [candidate(f"문장 {chr(0xAC00 + i)}", 3 + i % 40, **words) for i, words in enumerate(uncertainties)]


def choose_plainly(candidates, budget):
    """The choice without the queue: the gain of every candidate is computed in each step."""
    chosen, seen = [], dict.fromkeys("abcdefgh", 0)
    while len(chosen) < budget:
        gains = [
            (sum(u * DISCOUNT ** seen[w] for w, u in c.words) / c.tokens**LENGTH_POWER, -i)
            for i, c in enumerate(candidates)
            if c not in chosen
        ]
        best = candidates[-max(gains)[1]]
        chosen.append(best)
        for word, _ in best.words:
            seen[word] += 1
    return chosen


def test_the_choice_maximizes_what_each_step_adds():
    candidates = random_candidates(60)
    assert choose(candidates, 40) == choose_plainly(candidates, 40)


def test_a_batch_is_not_many_times_the_same_sentence():
    same = [candidate(f"홍길동은 {place}에 갔다", 홍길=2.0) for place in "가나다라마바사아자차"]
    others = [candidate(f"다른 {name}", **{name: 1.5}) for name in ("김철", "이영", "박민")]
    chosen = choose([*same, *others], 6)
    assert chosen[0] is same[0]
    assert {c.text for c in others} <= {c.text for c in chosen}


def test_a_budget_above_the_number_of_candidates_is_refused():
    with pytest.raises(KonerError, match="--budget: 4 is more than the 3 texts to choose from"):
        choose(random_candidates(3), 4)


def test_the_heap_keeps_the_highest_values_of_a_stream():
    candidates = random_candidates(200)
    heap = CandidateHeap(20)
    for start in range(0, 200, 7):
        heap.add(candidates[start : start + 7])
        assert len(heap) <= 20
    assert heap.candidates() == sorted(candidates, key=lambda c: -value(c))[:20]


def test_duplicates_and_annotated_texts_are_left_out():
    texts = ["주문 1234는  3시에 왔다", "주문 99는 3시에 왔다", "주문은 왔다", "아직 안 왔다"]
    heap = CandidateHeap(10, frozenset([fingerprint("주문은 왔다\n")]))
    heap.add(candidate(text, 주문=1.0) for text in texts)
    assert [c.text for c in heap.candidates()] == [texts[0], texts[3]]
    assert (heap.duplicates, heap.annotated) == (1, 1)


def test_a_text_that_left_the_heap_stays_out_when_it_comes_again():
    low, high = candidate("낮다", 낮다=0.1), [candidate(f"높다 {c}", **{c: 1.0}) for c in "가나"]
    heap = CandidateHeap(2)
    heap.add([low, *high, low])
    assert heap.candidates() == high
    assert heap.duplicates == 0
