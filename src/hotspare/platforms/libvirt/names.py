"""Names of all that is made at a target: what carries our rule can be told from what does not.

Volume names (all in one storage pool, all below ``hs-RULE``):

=================================== ==========================================================
``hs-RULE.lineage``                 the lineage disk
``hs-RULE-DISK-NNNNNN-eE-tT.qcow2`` data of one disk of point N, made by task T under epoch E
``hs-RULE-NNNNNN-eE-tT.digests``    digest tables of point N (``.nvram``: its UEFI variables)
``hs-RULE-NNNNNN-fMMMMMM.digests``  digest tables of point N with those of point M folded in
``hs-RULE-DISK-mg-NNNNNN.qcow2``    empty layer of the merge that retires point N
``hs-RULE-DISK-fo-tT.qcow2``        writes of the failover of task T (``…-fo-tT.nvram``)
``hs-RULE-DISK-te-eE-tT.qcow2``     writes of the test of task T (``hs-RULE-te-eE-tT.nvram``)
=================================== ==========================================================

Point and task are in a name, so no name is ever used for two contents. The isolated networks of a
test are named ``hs-RULE-te-eE-tT-N``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from ...domain.errors import GiveUp
from ..port import Intent

Kind = Literal["lineage", "data", "digests", "nvram", "merge", "failover", "failover-nvram",
               "test", "test-nvram"]

_RULE = re.compile(r"[0-9a-f]{8}")
_INTENT = re.compile(r"hs-([0-9a-f]{8})-e(\d+)-t(\d+)-i(\d+)")
_LINEAGE = re.compile(r"hs-([0-9a-f]{8})\.lineage")
_NETWORK = re.compile(r"hs-([0-9a-f]{8})-te-e(\d+)-t(\d+)-\d+")
_PLAIN = re.compile(r"[a-z0-9]")
_TAIL = re.compile(r"""
    \.(?P<lineage>lineage)
  | -(?P<disk>[a-z0-9_]+)-(?:(?P<number>\d{6,})-e(?P<epoch>\d+)-t(?P<task>\d+)
                            |mg-(?P<merge>\d{6,})|fo-t(?P<standby>\d+)
                            |te-e(?P<tepoch>\d+)-t(?P<test>\d+))\.qcow2
  | -(?P<bnumber>\d{6,})-(?:e(?P<bepoch>\d+)-t(?P<btask>\d+)|f(?P<folded>\d{6,}))
     \.(?P<blob>digests|nvram)
  | -fo-t(?P<standby_nvram>\d+)\.nvram
  | -te-e(?P<nepoch>\d+)-t(?P<test_nvram>\d+)\.nvram
""", re.VERBOSE)


@dataclass(frozen=True, slots=True)
class VolumeName:
    """A parsed name. ``epoch`` and ``task`` are -1 where the name has none."""

    kind: Kind
    number: int = -1
    epoch: int = -1
    task: int = -1


def checked_rule(rule: str) -> str:
    """``rule`` if it is 8 lower-case hex digits: it goes into names, XML and paths."""
    if not _RULE.fullmatch(rule):
        raise GiveUp("rule.invalid", rule=rule)
    return rule


def disk_part(disk_id: str) -> str:
    """``disk_id`` as a part of a file name: other platforms' ids (``scsi0:1``) hold anything.

    Injective: whatever is not a lower-case letter or digit becomes ``_`` and its hex code.
    """
    return "".join(c if _PLAIN.fullmatch(c) else f"_{ord(c):x}_" for c in disk_id)


def lineage(rule: str) -> str:
    return f"hs-{rule}.lineage"


def rule_of_lineage(name: str) -> str | None:
    """The rule whose lineage disk volume ``name`` is; None when it is none."""
    match = _LINEAGE.fullmatch(name)
    return None if match is None else match[1]


def data(intent: Intent, disk_id: str, number: int) -> str:
    return (f"hs-{intent.rule}-{disk_part(disk_id)}-{number:06d}"
            f"-e{intent.epoch}-t{intent.task}.qcow2")


def digests(intent: Intent, number: int) -> str:
    return f"hs-{intent.rule}-{number:06d}-e{intent.epoch}-t{intent.task}.digests"


def nvram(intent: Intent, number: int) -> str:
    return f"hs-{intent.rule}-{number:06d}-e{intent.epoch}-t{intent.task}.nvram"


def folded(rule: str, number: int, retired: int) -> str:
    return f"hs-{rule}-{number:06d}-f{retired:06d}.digests"


def merge(rule: str, disk_id: str, number: int) -> str:
    return f"hs-{rule}-{disk_part(disk_id)}-mg-{number:06d}.qcow2"


def failover(rule: str, disk_id: str, task: int) -> str:
    return f"hs-{rule}-{disk_part(disk_id)}-fo-t{task}.qcow2"


def failover_nvram(rule: str, task: int) -> str:
    return f"hs-{rule}-fo-t{task}.nvram"


def test(intent: Intent, disk_id: str) -> str:
    return (f"hs-{intent.rule}-{disk_part(disk_id)}-te-e{intent.epoch}-t{intent.task}.qcow2")


def test_nvram(intent: Intent) -> str:
    return f"hs-{intent.rule}-te-e{intent.epoch}-t{intent.task}.nvram"


def test_network(intent: Intent, index: int) -> str:
    return f"hs-{intent.rule}-te-e{intent.epoch}-t{intent.task}-{index}"


def test_of_network(name: str, rule: str) -> Intent | None:
    """The test of ``rule`` that network ``name`` was made for; None when it is none of ours."""
    match = _NETWORK.fullmatch(name)
    if match is None or match[1] != rule:
        return None
    return Intent(rule, int(match[2]), int(match[3]))


def checkpoint(rule: str, task: int) -> str:
    """The checkpoint that a failover gets before its first boot, which failback starts from."""
    return f"hs-{rule}-fo-t{task}"


def receiver(rule: str) -> str:
    """The only domain that may hold a replica's files open for writing."""
    return f"hs-rx-{rule}"


def reader(rule: str, number: int, token: str) -> str:
    return f"hs-rx-{rule}-p{number}-{token}"


def read_by(reader: str) -> int:
    """The number of the point that a reader was opened on; 0 for what is none."""
    match = re.fullmatch(r"hs-rx-[0-9a-f]{8}-p(\d+)-[0-9a-f]+", reader)
    return 0 if match is None else int(match[1])


def writer(rule: str) -> str:
    """The only domain that may hold a source's files open for writing."""
    return f"hs-rx-wb-{checked_rule(rule)}"


def parse(name: str, rule: str) -> VolumeName | None:
    """What volume ``name`` is for ``rule``; None when it is not ours."""
    prefix = f"hs-{rule}"
    if not name.startswith(prefix):
        return None
    match = _TAIL.fullmatch(name, len(prefix))
    if match is None:
        return None
    g = match.groupdict()
    if g["lineage"]:
        return VolumeName("lineage")
    if g["number"]:
        return VolumeName("data", int(g["number"]), int(g["epoch"]), int(g["task"]))
    if g["merge"]:
        return VolumeName("merge", int(g["merge"]))
    if g["standby"]:
        return VolumeName("failover", task=int(g["standby"]))
    if g["standby_nvram"]:
        return VolumeName("failover-nvram", task=int(g["standby_nvram"]))
    if g["test"]:
        return VolumeName("test", epoch=int(g["tepoch"]), task=int(g["test"]))
    if g["test_nvram"]:
        return VolumeName("test-nvram", epoch=int(g["nepoch"]), task=int(g["test_nvram"]))
    kind: Kind = "digests" if g["blob"] == "digests" else "nvram"
    return VolumeName(kind, int(g["bnumber"]), int(g["bepoch"] or -1), int(g["btask"] or -1))


def intent_of(name: str) -> Intent | None:
    """The intent of its string form."""
    match = _INTENT.fullmatch(name)
    if match is None:
        return None
    return Intent(match[1], int(match[2]), int(match[3]), int(match[4]))


def kept(volume: VolumeName, keep: Collection[str]) -> bool:
    """Whether one of the intents of ``keep`` made ``volume``."""
    intents = [i for i in map(intent_of, keep) if i is not None]
    if volume.kind in ("failover", "failover-nvram"):
        return any(i.task == volume.task for i in intents)
    return any((i.epoch, i.task) == (volume.epoch, volume.task) for i in intents)
