"""Templates: saved from a rule or from settings, used for new rules and groups."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.errors import HotspareError
from hotspare.domain.schedule import Schedule
from hotspare.services.rule_settings import SHARED, read
from hotspare.store import schema
from unit.service_rig import ADMIN, OPERATOR, VIEWER, Rig, prepared, rig, wait_until

SETTINGS: dict[str, Any] = {
    "networks": {"default": "lan"}, "retention": 9, "quiesce": "off", "fast_transfer": False,
    "delete_replica": True, "time_zone": "Asia/Shanghai", "rpo_s": 7200,
    "temp_dir": "/var/tmp", "schedule": Schedule("interval", 3600)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("template"))


@pytest.fixture
def here(tmp_path: Path, template: Path) -> Iterator[Rig]:
    shutil.copytree(template, tmp_path / "state")
    with rig(tmp_path / "state") as made:
        yield made


def use(here: Rig, template: str | None, **given: Any) -> Any:
    filled = here.services.templates.filled(OPERATOR, template, given)
    return here.services.rules.create(OPERATOR, read(filled))


def test_a_rule_is_made_like_another(here: Rig) -> None:
    first = here.services.rules.get(VIEWER, here.rule("first", **SETTINGS))
    saved = here.services.templates.save(OPERATOR, "daily", rule="first")
    assert set(saved.settings) == set(SHARED)
    assert not {"name", "vm", "replica_name"} & set(saved.settings)
    assert (saved.source_name, saved.target_name) == ("src", "dst")
    made = use(here, "DAILY", name="second", vm="web1")
    for field in SHARED:
        assert getattr(made, field) == getattr(first, field), field
    made = use(here, "daily", name="third", vm="web2", retention=2, schedule=None)
    assert (made.retention, made.schedule, made.quiesce) == (2, None, "off")    # given wins


def test_settings_alone_make_a_template(here: Rig) -> None:
    here.services.templates.save(OPERATOR, "t", settings={"retention": 5, "target": "DST"})
    with pytest.raises(HotspareError) as caught:
        use(here, "t", name="r", vm="web0")
    assert caught.value.code == "rule.fields"
    assert {"source", "storage"} <= set(caught.value.fields)
    assert "target" not in caught.value.fields
    assert use(here, "t", name="r", vm="web0", source="src", storage="default").retention == 5


def test_list_show_delete_and_names(here: Rig) -> None:
    templates = here.services.templates
    for name in ("b", "A"):
        templates.save(OPERATOR, name, settings={})
    assert [t.name for t in templates.list(VIEWER).items] == ["A", "b"]
    with pytest.raises(HotspareError) as caught:
        templates.save(OPERATOR, "a", settings={})
    assert caught.value.code == "template.exists"
    templates.delete(OPERATOR, "a")
    with pytest.raises(HotspareError) as caught:
        templates.get(VIEWER, "a")
    assert caught.value.code == "template.not-found"
    for call in (lambda: templates.save(VIEWER, "x", settings={}),
                 lambda: templates.delete(VIEWER, "b")):
        with pytest.raises(HotspareError) as caught:
            call()
        assert caught.value.code == "auth.role"
    assert [a.action for a in here.services.users.audit(ADMIN, 3).items] == [
        "template.delete", "template.save", "template.save"]


def test_what_vanished_is_a_fault_of_its_field(here: Rig) -> None:
    here.rule("first", networks={"default": "lan"})
    here.services.templates.save(OPERATOR, "t", rule="first")
    p = schema.platform
    with here.services.context.change() as change:
        change.conn.execute(sa.update(p).where(p.c.name == "dst").values(places=[]))
    with pytest.raises(HotspareError) as caught:
        use(here, "t", name="second", vm="web1")
    assert {"storage", "networks"} <= set(caught.value.fields)
    here.services.templates.save(OPERATOR, "m", settings={
        "source": "src", "target": "dst", "storage": "default", "machine": "gone",
        "host": "h9"})
    with pytest.raises(HotspareError) as caught:
        use(here, "m", name="second", vm="web1")
    assert {"machine", "host"} <= set(caught.value.fields)
    here.ended(here.services.rules.delete(OPERATOR, "first"))
    here.services.platforms.remove(ADMIN, "dst")
    with pytest.raises(HotspareError) as caught:
        use(here, "t", name="second", vm="web1")
    assert (caught.value.code, caught.value.fields["field"], caught.value.fields["name"]) == (
        "platform.not-found", "target", "dst")
    # a platform that was registered anew takes the place of the old one
    here.services.platforms.add(ADMIN, name="dst", kind="libvirt",
                                uri="qemu+ssh://target/system")
    wait_until(lambda: here.services.platforms.get(VIEWER, "dst").refreshed_at)
    assert use(here, "t", name="second", vm="web1").target_name == "dst"
    # one that was renamed is the same
    here.ended(here.services.rules.delete(OPERATOR, "second"))
    here.services.templates.save(OPERATOR, "u", settings={"source": "src", "target": "dst",
                                                          "storage": "default"})
    here.services.platforms.edit(ADMIN, "dst", {"name": "renamed"})
    assert use(here, "u", name="second", vm="web1").target_name == "renamed"
