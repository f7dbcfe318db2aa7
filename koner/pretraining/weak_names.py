"""Rules for names of persons (PS), places (LC) and organisations (OG) in Korean text, by KLUE-NER's guidelines.

Kiwi finds the proper nouns. A list of names tells the type of each, or mecab-ko-dic, if it has a name with that very
span. Rules then find the names that proper nouns are a part of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from koner.errors import KonerError
from koner.labels.bio import Entity
from koner.pretraining.weak_numbers import any_of
from koner.resources import NAMES
from koner.text.morphemes import TAGS, AnalysedText

# Nouns and what belongs to a compound noun. The tags of Kiwi.
_NOUN_TAGS = frozenset(
    TAGS.index(tag) for tag in ("NNG", "NNP", "NNB", "NR", "SL", "SH", "SN", "XPN", "XSN", "XR", "UN")
)
_PROPER, _FOREIGN, _HANJA = (TAGS.index(tag) for tag in ("NNP", "SL", "SH"))
_SEMANTIC_CLASSES = {"인명": "PS", "지명": "LC"}

# The ends of names of organisations, and words that are organisations by themselves.
_ORGANISATION_ENDS = any_of(
    r"""
    경찰서 경찰청 검찰청 지검 고검 대검 지법 고법 법원 재판소 교도소 구치소 은행 증권 캐피탈 생명 화재 전자
    건설 제약 중공업 자동차 항공 해운 통신 텔레콤 엔터테인먼트 엔터 그룹 홀딩스 컴퍼니 대학교 대학 대학원 학원
    고등학교 중학교 초등학교 여고 외대 교대 의대 학과 연구소 연구원 연구팀 위원회 협의회 협회 학회 연맹 연합회
    연합 재단 공사 공단 본부 당국 정부 의회 신문 일보 방송 뉴스 투데이 타임스 구단 노조 노총 연대 조합 의료원
    교육청 소방서 시청 구청 군청 도청 세청 기상청 사관학교 대표팀 축구팀 야구팀 대사관 영사관 사무소 사업소
    수사대 수사팀 기념사업회 교구 거래소 경비단 사령부 사단 공군 해군 육군 국토부 교육부 외교부 국방부 환경부
    법무부 통일부 복지부 고용부 노동부 문화부 문체부 산업부 기재부 안행부 행자부 행안부 미래부 농식품부 해수부
    여가부 가족부 재정부 관광부 교통부 보건부 통상부 자원부 국무부 재무부 상무부 내무부 민주당 공화당 공산당
    노동당 한국당 누리당 통합당 진보당 정의당 자민당 타이거즈 베어스 트윈스 라이온즈 이글스 다이노스 히어로즈
    유나이티드 보험 카드 식품 물산 상사 백화점 시네마 닷컴 네트웍스 미디어 소프트 게임즈 픽쳐스 스튜디오
    """
)
_ORGANISATIONS = any_of(
    r"""
    경찰 검찰 정부 국회 청와대 해경 대검 대법원 헌법재판소 헌재 국정원 금감원 금융위 공정위 선관위 방통위
    권익위 감사원 국세청 코레일 연합뉴스 새누리당 민주당 경찰청 유엔 대검찰청 검찰청 특검 전경련 한은 한전
    한수원 민주노총 한국노총 전교조 참여연대 소방당국 보건당국 군당국
    """
)
_ORGANISATION = re.compile(rf"(?:\S.*(?:{_ORGANISATION_ENDS})|{_ORGANISATIONS})")
# What may stand after an organisation, with a space, and belong to its name.
_SPACED_ORGANISATION_END = re.compile(
    rf"\S{{0,6}}(?:{_ORGANISATION_ENDS}|노조|총회|지청|지원|지부|지점|강력부|형사과|수사과|이사회|사무국|보도국"
    "|연구실|연구부)"
)
# Words that a dictionary or rule would take for names, but that mostly are none in KLUE-NER.
_NO_NAME = re.compile(
    any_of(
        """
        이상 이하 제시 지지 공유 부처 여자친구 애니 다음 대상 타임 세월호 페이스북 트위터 인스타그램 유튜브
        카카오톡 아이폰 기자 경기 강진 지구 보이스 하원 상원 배우 알바 정의 포스터 스페셜 라이브 로맨스 판타지
        강추 비추 감동 연기 액션 코믹 스릴러 멜로 개봉 케미 고대 현대 근대 항공사 메이저리그 내부 외부 예산
        선전 동경 고양
        """
    )
)
# Common nouns with such an end.
_NO_ORGANISATION = re.compile(
    any_of(
        """
        신용카드 교통카드 체크카드 생방송 재방송 본방송 국가대표팀 건강보험 사회보험 고용보험 사생명 인생명
        새생명 소생명 영화학과 걸그룹 보이그룹 아이돌그룹 재판부 하수처리장 대형마트 공립대학교 전국위원회
        위원회 협의회 연합회 선거사무소 전담수사팀 수사본부 대책본부 국립대학 사립대학 온라인뉴스 경찰공무원
        """
    )
)
_PLACE_ENDS = any_of(
    r"""
    특별시 광역시 자치구 자치도 자치주 공항 공원 광장 경기장 해수욕장 터미널 시장 호텔 극장 대교 사거리 반도
    아파트 체육관 야구장 축구장 미술관 박물관 도서관 해변 항구 계곡 폭포 마을 타워 지구 광역 대륙 고원 사막
    분기점 나들목 고속도로 국제공항 월드컵경기장 종합운동장 운동장 휴게소 대공원 리조트 산간 내륙 시내 신도시
    """
)
_SHORT_PLACE_ENDS = any_of(
    r"""
    시 도 군 구 읍 면 동 리 역 산 강 섬 해 항 로 길 주 성 현 만 천 호 궁 사 교
    """
)
_GLUED_PLACE_END = re.compile(f"{_PLACE_ENDS}|{_SHORT_PLACE_ENDS}")
_SPACED_PLACE_END = re.compile(rf"[가-힣]{{0,4}}(?!시장|시내)(?:{_PLACE_ENDS})|주|섬|현|성")
_UNKNOWN_PLACE = re.compile(
    r"[가-힣]{2,}(?:해수욕장|분기점|나들목|국제공항|미술관|박물관|대교|산맥|고속도로|근린공원|경기장|초등학교)"
)
_TITLES = any_of(
    r"""
    감독 배우 기자 교수 의원 대표 회장 부회장 사장 부사장 대통령 총리 장관 차관 선수 작가 판사 검사 변호사 총장
    팀장 과장 부장 국장 실장 위원장 위원 시장 지사 총재 경위 경사 경감 순경 박사 원장 이사장 코치 해설위원
    아나운서 앵커 소장 대령 중령 소령 대위 중위 병장 상병 일병 할머니 할아버지 여사 후보 전무 상무 비서관 형사
    """
)
_TITLED_FAMILY = re.compile(
    r"(?<![가-힣A-Za-z])(?P<family>[가-힣])"
    rf"(?:\s?(?:씨|모\s?씨|모\s?\()|\s(?:군|양|{_TITLES})(?![가-힣]{{3}})|\s전\s(?:{_TITLES}))"
    r"|(?<![가-힣A-Za-z])(?P<letter>[A-Z])\s?(?:씨|양|군|모\s?씨|\(\d)(?![가-힣]{2})"
)
# Syllables that are family names, but mostly other words before a noun.
_AMBIGUOUS_FAMILIES = frozenset("전여두동이한남주인고신현성구국금")


@dataclass(frozen=True, slots=True)
class _Part:
    """A name, or nouns without a type, in a text.

    Attributes:
        start: The start of its span.
        end: The end of its span.
        label: Its type, or None.
        is_bare: Whether a space follows: no particle.
        is_proper: Whether it is a single proper noun.
    """

    start: int
    end: int
    label: str | None
    is_bare: bool
    is_proper: bool = False


@cache
def _mecab() -> Any:
    try:
        from mecab import MeCab
    except ModuleNotFoundError:
        raise KonerError(
            "weak_weight: python-mecab-ko is not installed; pip install 'koner[pretrain]', or set it to 0"
        ) from None
    return MeCab()


@cache
def _names(file: str) -> frozenset[str]:
    return frozenset((NAMES / f"{file}.txt").read_text(encoding="utf-8").splitlines())


@cache
def _listed_types() -> dict[str, str]:
    """Return the type of each listed name of two or more characters; a name in several lists is a place."""
    return {name: type_ for type_ in ("PS", "OG", "LC") for name in _names(type_) if len(name) > 1}


def find_names(analysed: AnalysedText) -> tuple[list[Entity], list[tuple[int, int]]]:
    """Find the persons, places and organisations of a text.

    Returns:
        The names, in order, and the spans of other words that Kiwi or mecab-ko-dic take for names.
    """
    text = analysed.text
    classes = _semantic_classes(text)
    parts: list[_Part] = []
    doubtful = [(start, end) for (start, end), type_ in classes.items() if end - start > 1]
    for run in _noun_runs(analysed):
        parts += _read_run(text, run, classes)
        proper = {_PROPER, _FOREIGN, _HANJA}
        doubtful += [(start, end) for start, end, tag in run if tag in proper and end - start > 1]
    names = _join(text, parts)
    return sorted(names + _titled_families(text, names)), doubtful


def _semantic_classes(text: str) -> dict[tuple[int, int], str]:
    """Return the types of the spans that mecab-ko-dic calls names of persons or places; neighbours of a type join."""
    classes: dict[tuple[int, int], str] = {}
    start = end = 0
    last = None
    for morpheme in _mecab().parse(text):
        type_ = _SEMANTIC_CLASSES.get(morpheme.feature.semantic)
        if type_:
            first = start if type_ == last and text[end : morpheme.span.start].strip() == "" else morpheme.span.start
            classes[(morpheme.span.start, morpheme.span.end)] = type_
            classes[(first, morpheme.span.end)] = type_
            start, end = first, morpheme.span.end
        last = type_
    return classes


def _noun_runs(analysed: AnalysedText) -> Iterator[list[tuple[int, int, int]]]:
    """Yield the sequences of nouns without a space between them, as (start, end, tag)."""
    run: list[tuple[int, int, int]] = []
    for start, length, tag in analysed.morphemes:
        if run and (tag not in _NOUN_TAGS or start != run[-1][1]):
            yield run
            run = []
        if tag in _NOUN_TAGS and length:
            run.append((start, start + length, tag))
    if run:
        yield run


def _read_run(text: str, run: Sequence[tuple[int, int, int]], classes: dict[tuple[int, int], str]) -> Iterator[_Part]:
    """Yield the names in a run of nouns, or the run itself as a part without a type."""
    start, end = run[0][0], run[-1][1]
    is_bare = text[end : end + 1] == " "
    surface = text[start:end]
    if _NO_NAME.fullmatch(surface):
        return
    if listed := _listed_types().get(surface):
        yield _Part(start, end, listed, is_bare)
        return
    if not surface[0].isdigit() and not _NO_ORGANISATION.fullmatch(surface) and _ORGANISATION.fullmatch(surface):
        yield _Part(start, end, "OG", is_bare)
        return
    if _UNKNOWN_PLACE.fullmatch(surface):
        yield _Part(start, end, "LC", is_bare)
        return
    typed = [
        (*token[:2], _type_of(text[token[0] : token[1]], classes.get(token[:2])) if token[2] == _PROPER else None)
        for token in run
    ]
    found = False
    for label, group in groupby(typed, key=lambda token: token[2]):
        tokens = list(group)
        if label is None:
            continue
        stop = tokens[-1][1]
        if label == "LC" and stop < end and _GLUED_PLACE_END.fullmatch(text[stop:end]):
            stop = end
        yield _Part(tokens[0][0], stop, label, is_bare and stop == end)
        found = True
        if stop == end:
            return
    if not found:
        yield _Part(start, end, None, is_bare, len(run) == 1 and run[0][2] == _PROPER)


def _type_of(form: str, semantic_class: str | None) -> str | None:
    """Return the type of a proper noun by the lists, or else by its semantic class; None if it is in neither."""
    is_name = len(form) > 1 and not _NO_NAME.fullmatch(form)
    return _listed_types().get(form, semantic_class) if is_name else None


def _join(text: str, parts: Sequence[_Part]) -> list[Entity]:
    """Return the names of parts; neighbours that are one name are joined: 서울 마포구, 부산 동래경찰서, 브래드 피트."""
    names: list[Entity] = []
    last: _Part | None = None
    for part in parts:
        label = None
        if last and last.is_bare and text[last.end : part.start] == " ":
            label = _joined_label(text, last, part)
        if label and last:
            if last.label:
                names.pop()
            part = _Part(last.start, part.end, label, part.is_bare)
        if part.label:
            names.append(Entity(part.start, part.end, part.label))
        last = part
    return names


def _joined_label(text: str, left: _Part, right: _Part) -> str | None:
    """Return the type of the name that two neighbours are together, or None if they are not one name."""
    surface = text[right.start : right.end]
    if left.label == "LC" and (right.label == "LC" or (right.label is None and _SPACED_PLACE_END.fullmatch(surface))):
        return "LC"
    if left.label in ("LC", "OG") and right.label == "OG":
        return "OG"
    if left.label == "OG" and right.label is None and _SPACED_ORGANISATION_END.fullmatch(surface):
        return "OG"
    if left.label == "PS" and (right.label == "PS" or (right.label is None and right.is_proper)):
        return None if any(_is_korean(text[part.start : part.end]) for part in (left, right)) else "PS"
    return None


def _is_korean(name: str) -> bool:
    """Return whether a name is a Korean family name and given name."""
    return name[:1] in _names("PS.family") and name[1:] in _names("PS.given")


def _titled_families(text: str, names: Sequence[Entity]) -> list[Entity]:
    """Return the family names and letters that stand before a title: 김 씨, 박 대통령, A씨."""
    taken = {i for name in names for i in range(name.start, name.end)}
    found = []
    for match in _TITLED_FAMILY.finditer(text):
        family = match["family"]
        is_short_title = text[match.start() + 1 : match.end()].strip()[0] in "씨모"
        is_name = not family or (
            family in _names("PS.family") and (is_short_title or family not in _AMBIGUOUS_FAMILIES)
        )
        if is_name and match.start() not in taken:
            found.append(Entity(match.start(), match.start() + 1, "PS"))
    return found
