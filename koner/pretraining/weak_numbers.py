"""Rules for dates (DT), times (TI) and quantities (QT) in Korean text, by KLUE-NER's guidelines: with their units."""

from __future__ import annotations

import re
from collections.abc import Iterator

from koner.labels.bio import Entity


def any_of(words: str) -> str:
    """Return a pattern that matches any of the words, or patterns, between the whitespace of a text."""
    return "|".join(words.split())


# A digit inside of a name (MP3, 24K) or of a longer number begins no entity.
_BEFORE_DIGITS = r"(?<![A-Za-z\d])(?<!\d[.,])"
_BEFORE_WORD = r"(?<![가-힣A-Za-z])"
_WORD_END = r"(?![가-힣])"

_NUMBER = r"\d+(?:[.,]\d+)*"
_SCALES = r"(?:[십백천만억조]+여?|여)"
# 6만2천891, 1억 5천만
_LARGE = rf"{_NUMBER}(?:{_SCALES}\s?{_NUMBER}(?=[십백천만억조])|{_SCALES}{_NUMBER})*{_SCALES}?"
_TO = r"\s?[~∼〜-]\s?"
_NATIVE_MANY = any_of(
    r"""
    한두 두세 두어 서너 너댓 몇 두 세 네 석 넉 다섯 여섯 일곱 여덟 아홉 열한 열두 열 스무 스물 서른 마흔 쉰
    수십 수백 수천 수만
    """
)
_NATIVE = f"{_NATIVE_MANY}|한"

_RELATIVE = any_of(
    r"""
    지난해 올해 작년 내년 재작년 지난달 지난\s달 다음달 다음\s달 내달 이달 지난주 지난\s주 다음주 다음\s주
    이번\s주 저번주 지난 올 매년
    """
)
_PART = any_of(
    r"""
    초반 중반 후반 중순 하순 상순 초순 말 초 상반기 하반기 봄 여름 가을 겨울
    """
)
_DATE_UNIT = (
    rf"{_NUMBER}(?:{_TO}{_NUMBER})?(?:여\s?)?\s?"
    r"(?:년대|년도|년생|년|개월|주년|주일|주(?=간|동안|째|[\s가]|만)|세기|분기|월(?!드)|일(?![본번등반부보]|일)|일(?=부터))"
)
_LENGTH = r"(?:동안|간|째|전|후|뒤|\s동안|\s?시절)(?![가-힣]{3})"
_DATE = (
    rf"(?:{_BEFORE_WORD}(?:{_RELATIVE})\s?)?{_BEFORE_DIGITS}{_DATE_UNIT}(?:{_TO}{_DATE_UNIT}|\s?{_DATE_UNIT})*"
    rf"(?:\s?(?:{_PART}){_WORD_END}|\s?(?:{_PART})(?=부터|까지|에|의|이|쯤|께)|{_LENGTH})*"
)
_YEAR = r"(?<![\d.,])(?:19[3-9]\d|20[0-2]\d)(?![\d.,]|\s?[가-힣%])|(?<=[(\s])20[0-2]\d(?=\s(?!만|억|원|명|개)[가-힣])"
_DAYS = any_of(
    r"""
    이날 이\s날 전날 이튿날 다음날 다음\s날 오늘 내일 어제 모레 주말 하루 이틀 사흘 나흘 닷새 엿새 열흘 보름
    일주일 크리스마스 추석 설날 광복절 어린이날 [월화수목금토일]요일 지난해 올해 작년 내년 재작년 지난달
    지난\s달 다음달 다음\s달 내달 이달 지난주 지난\s주 다음주 다음\s주 이번\s주 저번주 이듬해 올\s시즌 초여름
    한여름 일년 한\s해 동계 하계
    """
)
_DATE_WORD = rf"{_BEFORE_WORD}(?:{_DAYS})(?!나)(?:\s?(?:{_PART}){_WORD_END}|동안|간|\s동안)*"
_SEASON = rf"{_BEFORE_WORD}(?:올\s)?(?:봄|여름|가을|겨울)(?=[에\s이철])"
_NATIVE_DATE = rf"{_BEFORE_WORD}(?:{_NATIVE})\s?(?:달|해|주)(?=[\s간동만전뒤후째]|에\s)(?:간|\s?동안)?"
_AGE = r"(?:초딩|중딩|고딩|학창|유년|어린|고교|중학|대학)\s?시절"

_CLOCK = any_of(
    r"""
    오전 오후 새벽 아침 대낮 낮 저녁 밤 전반 후반
    """
)
_TIME_UNIT = (
    rf"{_NUMBER}(?:{_TO}{_NUMBER})?(?:여\s?)?\s?"
    r"(?:시간(?:\s?반)?|시(?![리장민즌작절점상])(?:\s?반)?|분(?![기야량류의])|초(?![등중반]))"
)
_TIME = (
    rf"(?:{_BEFORE_WORD}(?:늦은\s)?(?:{_CLOCK})\s?)?{_BEFORE_DIGITS}{_TIME_UNIT}"
    rf"(?:{_TO}(?:(?:{_CLOCK})\s?)?{_TIME_UNIT}|\s?{_TIME_UNIT})*(?:동안|간|\s동안|후)?"
)
_COLON_TIME = r"(?<![\d:])\d{1,2}:\d\d(?::\d\d)?(?![\d:])"
_TIME_WORD = (
    rf"{_BEFORE_WORD}(?:늦은\s)?(?:오전|오후|새벽|아침|저녁|정오|자정|대낮|한낮|낮|밤|어젯밤)(?=[\s에,.까부]|과|와|$)"
)
_NATIVE_TIME = rf"{_BEFORE_WORD}(?:{_NATIVE})\s?시간(?:\s?반)?"

_UNIT = any_of(
    r"""
    퍼센트포인트 퍼센트 프로 %p %포인트 % 달러 유로 파운드 위안 엔 원 명 사람 개국 개 가지 마리 번째 번홀 번
    회차 회 차례 차전 차 위 등급 등 점 살 세대 세(?!기) 인치 인자 인 편 권 대\s\d+ 대(?!회) 곳 건 배 부작 부
    기(?!자) 표 장 층 호선 호차 호 골 연승 연패 승 패 무 라운드 학년 학번 급 쪽 줄 잔 병(?!원) 톤 t kg km cm mm
    m ㎞ ㎏ ㎝ ㎜ ㎡ g mg ha 도 ℃ 평(?!점) 미터 킬로미터 킬로그램 그램 킬로 센티미터 센티 마일 가구 석 척 발 통
    종 쌍 팀 과목 단계 단 박자 경기 세트 이닝 타수 안타 홈런 타점 주기 선(?!수) 역 군데 쿼터 집 탄 심 자리 자
    화소 화 강 판 국 성급 성 범 항 조 형 루 구 人 D d 포인트 글자 컷 막 촌
    """
)
_UNITS = rf"(?:\s?(?:{_UNIT})(?!\s?{_NUMBER}년)(?![A-Za-z])(?:째)?)"
_QUANTITY = (
    rf"(?:{_BEFORE_WORD}제\s?)?{_BEFORE_DIGITS}{_LARGE}(?:\s?[~∼〜:·/-]\s?{_LARGE}|\s대\s{_LARGE}(?=\s?[으로승])|분의\s?{_NUMBER})*"
    rf"(?:{_UNITS}|(?=[^A-Za-z]|$))"
)
_NATIVE_UNIT = any_of(
    r"""
    번째 번 명 사람 개 가지 마리 차례 편(?!안|하|으로) 살 배(?!우) 줄 마디 장(?!면) 잔 표 권 건 곳 점 대 군데
    쌍 팀 병 회 송이 채 배우 남자 여자 주인공 딸 아들 남녀 영화 작품 손 골 발 방(?!에|울)
    """
)
_NATIVE_QUANTITY = (
    rf"{_BEFORE_WORD}(?:한(?=\s?(?:번|명|개|가지|마디|줄|편의|회|사람|건|표|장|마리))|{_NATIVE_MANY}|첫)"
    rf"\s?(?:{_NATIVE_UNIT})"
)
_COUNT_WORD = rf"{_BEFORE_WORD}(?:하나|둘|첫째|둘째|셋째)(?=[\s도만를은는이가의,.로와]|$)"

_PATTERNS = tuple(
    (label, re.compile(pattern))
    for label, patterns in (
        ("TI", (_TIME, _COLON_TIME, _NATIVE_TIME, _TIME_WORD)),
        ("DT", (_DATE, _YEAR, _NATIVE_DATE, _DATE_WORD, _SEASON, _AGE)),
        ("QT", (_QUANTITY, _NATIVE_QUANTITY, _COUNT_WORD)),
    )
    for pattern in patterns
)


def find_numbers(text: str) -> Iterator[Entity]:
    """Yield the dates, times and quantities of a text, in order; where two rules match, the longer match is taken."""
    matches = [(m.start(), -m.end(), i, label) for i, (label, p) in enumerate(_PATTERNS) for m in p.finditer(text)]
    end = 0
    for start, negative_end, _, label in sorted(matches):
        if start >= end:
            end = -negative_end
            yield Entity(start, start + len(text[start:end].rstrip()), label)
