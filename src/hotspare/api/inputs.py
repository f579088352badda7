"""What the API takes. Every field has a type and a limit; an unknown field is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import Field, StringConstraints

from ..domain.proof import Checklist
from ..services.failback import NewHome
from .base import NO_NUL, PLAIN, Input, Named
from .schedule_inputs import BandwidthRanges, ScheduleInput, Zone

LARGEST_ID = 2**53

Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PLAIN)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=PLAIN)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=16384, pattern=NO_NUL)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]
OptionKey = Annotated[str, StringConstraints(max_length=32, pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
OptionValue = Annotated[str, StringConstraints(max_length=1024, pattern=PLAIN)]
NO_OTHER: dict[str, Any] = {"additionalProperties": False}
"""Says what a pattern of a map's names means."""
Options = Annotated[dict[OptionKey, OptionValue], Field(max_length=32, json_schema_extra=NO_OTHER)]
Networks = Annotated[dict[Text, Text], Field(max_length=64, json_schema_extra=NO_OTHER)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=PLAIN)]
Folder = Annotated[str, StringConstraints(max_length=1024, pattern=PLAIN)]
Place = Annotated[str, StringConstraints(max_length=255, pattern=PLAIN)]

Point = Annotated[int, Field(ge=1, le=2**31 - 1)]

Ref = Annotated[Named, Path(description="an id or a name")]
TestId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
TaskId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Wanted = Annotated[Named | None, Query()]
Limit = Annotated[int, Query(ge=1, le=500, description="largest number of items")]
Cursor = Annotated[str | None, Query(max_length=15, pattern=r"^[0-9]{1,15}$",
                                     description="`next` of the page before")]


class Login(Input):
    user: Name
    password: Password


class NewUser(Input):
    name: Name
    password: Password
    role: Literal["viewer", "operator", "administrator"]


class NewPassword(Input):
    password: Password


class NewPlatform(Input):
    name: Name
    kind: Name = "libvirt"
    uri: Address
    options: Options = Field({})
    secret: Secret | None = None
    machine: Name | None = None


class EditPlatform(Input):
    """Only what is given changes."""

    name: Name = ""
    uri: Address = ""
    options: Options = Field({})
    secret: Secret | None = Field(None, description="null: it needs none any more")
    accept_host: bool = Field(False, description="another host than before is meant")

    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class Changeable(Input):
    datacenter: Place = Field("", description="empty: the target has one")
    host: Place = ""
    folder: Place = Field("", description="of the replica; empty: the datacenter's own")
    pool: Place = Field("", description="resource pool; empty: all that the host has")
    networks: Networks = Field(
        {}, description="source network to target network")
    temp_dir: Folder = Field("", description="on the DR machine; empty: its own")
    retention: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="restore points to keep; null: 7 on KVM, 3 on vSphere")
    quiesce: Literal["off", "try", "require"] = "try"
    fast_transfer: bool = Field(True, description="use changed-block tracking")
    lan_free: bool = False
    devices: Literal["auto", "virtio", "same", "sata"] = Field(
        "auto", description="of a machine of another hypervisor: virtio; those it had, as far as "
        "they are emulated; SATA and e1000e; or by its operating system")
    delete_replica: bool = Field(False, description="the replica goes with the rule")
    time_zone: Zone = Field("UTC", description="of schedule and bandwidth")
    bandwidth: BandwidthRanges = Field([], description="weekly limits; outside them: none")
    schedule: ScheduleInput | None = Field(None, description="null: runs by hand only")
    rpo_s: Annotated[int, Field(ge=10, le=366 * 24 * 3600)] | None = Field(
        None, description="seconds between restore points that are wanted at most")


class Settings(Changeable):
    """What a template keeps, and the rules of a group have in common: the form's four tabs. What
    is not given is taken from the template, if one is named, otherwise it is the default."""

    source: Text | None = Field(None, description="platform: id or name")
    target: Text | None = None
    storage: Text | None = None
    machine: Name | None = Field(None, description="DR machine; null: the target platform's")

    def given(self) -> dict[str, Any]:
        """What the request says of them, in JSON form."""
        return self.model_dump(mode="json", include=set(Settings.model_fields),
                               exclude_unset=True)


class CreateRule(Settings):
    name: Name
    vm: Text
    replica_name: Name | None = None
    group: Text | None = None
    template: Text | None = None

    def given(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"template"}, exclude_unset=True)


class EditRule(Changeable):
    """Only what is given changes. The DR machine is changed by a move."""

    name: Name = ""
    vm: Text = ""
    source: Text = ""
    target: Text = ""
    storage: Text = ""
    replica_name: Name = ""
    group: Text | None = None
    revision: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="of the rule as it was read: refused when it was edited since")

    def given(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"revision"}, exclude_unset=True)


class CreateGroup(Settings):
    name: Name
    vms: Annotated[list[Text], Field(min_length=1, max_length=500)]
    template: Text | None = None


class SaveTemplate(Input):
    """Of a rule, of settings, or of a rule with what the settings say otherwise."""

    name: Name
    rule: Text | None = None
    settings: Settings | None = None


class Act(Input):
    """For rules, for those of a group, or both."""

    action: Literal["start", "stop", "delete"]
    rules: Annotated[list[Text], Field(max_length=500)] = Field([])
    group: Text | None = None
    delete_replica: bool | None = Field(None, description="null: as each rule's setting says")
    force: bool = False


class Start(Input):
    compare: bool = Field(False, description="read all of the source, whatever its tracking says")
    repair: bool = Field(
        False, description="mend what somebody else has changed at the target")


class Failover(Input):
    point: Point | None = Field(None, description="null: the newest that is not damaged")
    damaged: bool = Field(False, description="take a point that is damaged, too")
    unplugged: bool = Field(False, description="start with the cables out")
    allow_duplicate_mac: bool = Field(
        False, description="also while the source runs with the same addresses")


class StartTest(Input):
    """What is null is looked for when the machine can show it. See docs/user/testing.md."""

    point: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="null: the newest")
    heartbeat: bool | None = Field(None, description="the guest's agent answers")
    screen: bool | None = Field(None, description="the screen is not blank, and changes")
    text: Annotated[str, StringConstraints(max_length=80, pattern=PLAIN)] = Field(
        "", description="stands on the screen, which is in text mode")
    ping: bool = Field(False, description="it answers in the isolated network")
    ports: Annotated[list[Annotated[int, Field(ge=1, le=65535)]], Field(max_length=16)] = Field(
        [], description="of TCP, that take a connection there")
    address: Annotated[str, StringConstraints(max_length=18, pattern=PLAIN)] = Field(
        "", description="ADDRESS/PREFIX that the guest has by itself; empty: by DHCP")
    boot_s: Annotated[float, Field(ge=5, le=3600, allow_inf_nan=False)] = Field(
        180, description="seconds until all of it has shown")

    def wanted(self) -> Checklist:
        return Checklist(**self.model_dump(exclude={"point", "ports"}), ports=tuple(self.ports))


class PlannedFailover(Input):
    grace_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        300, description="seconds that the source's guest gets to shut down")
    power_off: bool = Field(False, description="cut its power after that")


class Permanent(Failover):
    """Without a temporary failover that stands, the rule fails over to ``point`` first."""

    confirm: Named = Field(description="the name of the source machine")


class _Grace(Input):
    grace_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        300, description="seconds that a guest gets to shut down")
    power_off: bool = Field(False, description="cut its power after that")
    leave_disks: bool = Field(
        False, description="disks that only one of the two machines has stay as they are")


class NewPlace(Input):
    platform: Named
    storage: Named
    name: Named | None = Field(None, description="of the machine there; null: the original's")
    networks: Networks = Field({}, description="the replica's network -> the one there")


class Failback(_Grace):
    shut_down: bool = Field(False, description="shut the source down, if it runs")
    place: NewPlace | None = Field(
        None, description="into a machine that is made there; null: into the original")

    def to(self) -> NewHome | None:
        there = self.place
        return None if there is None else NewHome(there.platform, there.storage,
                                                  there.name or "", there.networks)


class SwitchBack(_Grace):
    commit_after_s: Annotated[float, Field(ge=0, le=90 * 86400, allow_inf_nan=False)] | None = (
        Field(None, description="commit by itself after so many seconds; null: by hand"))


class UndoFailback(Input):
    confirm: Named | None = Field(None, description=(
        "the name of the source machine, once it runs: what it wrote since is lost"))
