"""Every text is there in Chinese too, with the same fields, and is told in the language wanted."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from hotspare.domain.errors import GiveUp
from hotspare.domain.messages import Text, areas, catalogue, language, language_of, text_of
from hotspare.domain.rule_states import CHINESE

CHINESE_AREAS = areas("hotspare.domain.messages.zh")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;:!?]|[,;!?][\u4e00-\u9fff]")
_FULL_STOP = re.compile(r"[.,;:]$")


def fields(text: Text) -> set[str]:
    return {name for part in (text.message, text.remedy)
            for _, name, _, _ in Formatter().parse(part) if name is not None}


def test_every_text_is_translated_in_the_module_of_the_same_name() -> None:
    missing = {area: sorted(set(texts) - set(CHINESE_AREAS.get(area, {})))
               for area, texts in areas().items()}
    assert not {area: codes for area, codes in missing.items() if codes}


def test_no_translation_is_without_its_text() -> None:
    unused = {area: sorted(set(texts) - set(areas().get(area, {})))
              for area, texts in CHINESE_AREAS.items()}
    assert not {area: codes for area, codes in unused.items() if codes}


def test_a_translation_has_the_same_fields() -> None:
    differing = {code: fields(catalogue()[code]) ^ fields(text)
                 for texts in CHINESE_AREAS.values() for code, text in texts.items()
                 if code in catalogue() and fields(catalogue()[code]) != fields(text)}
    assert not differing


def test_a_translation_is_chinese_and_says_the_remedy_too() -> None:
    for texts in CHINESE_AREAS.values():
        for code, text in texts.items():
            english = catalogue().get(code)
            if english is None:
                continue
            assert bool(text.remedy) == bool(english.remedy), code
            for part, other in ((text.message, english.message), (text.remedy, english.remedy)):
                plain = re.sub(r"{[^}]*}", "", part)
                assert not plain or _HAN.search(plain), code
                assert not _HALF_WIDTH.search(part), f"{code}: half-width punctuation in {part}"
                assert not (part and _FULL_STOP.search(part)), f"{code}: {part}"
                if other.endswith(".") and not other.endswith(" NAME."):
                    assert part.endswith(("。", "）", "}")), f"{code}: {part}"


def test_words_of_ours_are_told_in_chinese() -> None:
    assert text_of("task.ended", {"outcome": "failed"}, "zh-CN").message == "任务结束：失败。"
    assert text_of("rule.busy", {"kind": "replicate"}, "zh-CN").message == (
        "该规则有任务正在进行（复制）。")
    for state, word in CHINESE.items():
        assert word in text_of("rule.illegal-transition", {"state": state.value, "event": "x"},
                               "zh-CN").message
    # a value that is no word of ours stays
    assert "xyz" in text_of("storage.type", {"storage": "s", "kind": "xyz", "usable": ""},
                            "zh-CN").message


def test_a_cause_or_a_reason_that_is_a_code_is_told_as_its_text() -> None:
    error = GiveUp("vm.unprotectable", vm="web", reason="as it was", cause="disk.shareable",
                   help="as it was", disk="vda")
    assert "The disk vda is shareable" in str(error)
    token = language.set("zh-CN")
    try:
        assert "磁盘 vda 是共享磁盘" in error.as_dict()["message"]
        assert "去掉 <shareable/>" in error.as_dict()["remedy"]
    finally:
        language.reset(token)
    # without the fields that the cause's text needs, what was said when it was raised stays
    del error.fields["disk"]
    assert "as it was" in str(error)
    assert "（raw 磁盘没有存放变化块列表的位置，因此要比较其全部数据）" in text_of(
        "replicate.compare", {"disk": "vda", "reason": "tracking.raw"}, "zh-CN").message
    assert "disk.shareable" in text_of("platform.failed", {"reason": "disk.shareable"}).message


def test_an_unknown_code_and_a_missing_field_are_shown() -> None:
    assert text_of("no.such-code", {"a": 1}, "zh-CN").message == "no.such-code {'a': 1}"
    assert "<vm>" in text_of("vm.unprotectable", {}, "zh-CN").message


def test_exit_codes_are_those_of_the_english_text() -> None:
    assert all(text_of(code, {}, "zh-CN").exit == text.exit
               for code, text in catalogue().items())


@pytest.mark.parametrize(("tag", "found"), [
    (None, "en"), ("", "en"), ("zh", "zh-CN"), ("zh-CN", "zh-CN"), ("zh_CN.UTF-8", "zh-CN"),
    ("zh-Hans-CN,zh;q=0.9,en;q=0.8", "zh-CN"), ("en-US,en;q=0.9,zh;q=0.8", "en"),
    ("de-DE, zh;q=0.2", "zh-CN"), ("fr,*;q=0.5", "en"), ("en;q=0.1, zh;q=0.9", "zh-CN"),
    ("zha", "en"), ("zh;q=x", "en"), ("zh;q=0", "en"), ("C.UTF-8", "en"), (",;=,\x00", "en"),
])
def test_the_language_is_found_in_a_header_or_a_locale(tag: str | None, found: str) -> None:
    assert language_of(tag) == found
