"""The lineage disk: whatever is torn, cut or forged, the last whole lineage is read or it is said
that none is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotspare.domain.errors import ForeignChange, GiveUp
from hotspare.domain.lineage import Blob, DiskPoint, Lineage, Manifest
from hotspare.domain.machine import DiskSpec, NicSpec, VmDescription
from hotspare.platforms import lineage_store as store
from hotspare.platforms.libvirt import names
from hotspare.platforms.port import Intent

KEY, RULE = bytes(32), "0badcafe"


class Disk:
    def __init__(self) -> None:
        self.bytes = bytearray(store.DISK_BYTES)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.bytes[offset:offset + length])

    def write(self, lineage: Lineage, upto: int | None = None, key: bytes = KEY) -> None:
        slot = store.encode_slot(lineage, key)[:upto]
        at = store.slot_offset(lineage.sequence)
        self.bytes[at:at + len(slot)] = slot

    def load(self) -> Lineage:
        return store.load(self.read, RULE, KEY)


def manifest(number: int, disks: int = 3) -> Manifest:
    specs = tuple(DiskSpec(f"vd{i}", 1 << 40, location=f"/var/lib/libvirt/images/{'x' * 60}{i}",
                           serial=f"{number:020d}") for i in range(disks))
    vm = VmDescription("r", f"虚拟机-{number}", "0" * 36, 1 << 30, 8, disks=specs,
                       nics=tuple(NicSpec(f"52:54:00:00:00:{i:02x}") for i in range(4)),
                       warnings=tuple("a device was dropped, for some longer reason" * 2
                                      for _ in range(5)))
    blob = Blob(f"hs-{RULE}-{number:06d}-e1-t{number}.digests", number, f"{number * 7919:064x}")
    return Manifest(RULE, number, 1, number, 1.0, "quiesced", vm,
                    tuple(DiskPoint(s.id, s.size, f"hs-{RULE}-{s.id}-{number:06d}-e1-t{number}")
                          for s in specs), (blob, blob), blob,
                    {"checkpoint": f"hs-{RULE}-e1-t{number}-i1", "disks": [s.id for s in specs]})


def lineage(sequence: int, points: int = 1) -> Lineage:
    return Lineage(RULE, 1, sequence, tuple(manifest(n, 1) for n in range(1, points + 1)),
                   last_number=points)


def test_a_new_disk_holds_nothing() -> None:
    assert Disk().load() == Lineage(RULE, 0)


def test_slots_are_written_in_turn_and_the_later_wins() -> None:
    disk = Disk()
    for sequence in range(1, 8):
        disk.write(lineage(sequence))
        assert disk.load() == lineage(sequence)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.data())
def test_a_torn_write_is_as_if_it_had_not_begun(sequence: int, data: st.DataObject) -> None:
    disk = Disk()
    disk.write(lineage(sequence))
    if sequence > 1:
        disk.write(lineage(sequence - 1, 2))
    whole = store.encode_slot(lineage(sequence + 1, 3), KEY)
    before = disk.load()
    # any subset of its 512-byte sectors may have reached the disk
    at = store.slot_offset(sequence + 1)
    sectors = data.draw(st.sets(st.integers(0, len(whole) // 512 - 1)))
    for sector in sectors:
        low = sector * 512
        disk.bytes[at + low:at + low + 512] = whole[low:low + 512]
    body = 88 + int.from_bytes(whole[16:24], "big")
    if all(n in sectors or disk.bytes[at + n * 512:at + n * 512 + 512] ==
           whole[n * 512:n * 512 + 512] for n in range(-(-body // 512))):
        assert disk.load() == lineage(sequence + 1, 3)
    else:
        assert disk.load() == before


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_never_believed(data: st.DataObject) -> None:
    disk = Disk()
    disk.write(lineage(1))
    disk.write(lineage(2, 2))
    length = 88 + int.from_bytes(disk.bytes[16:24], "big")
    bit = data.draw(st.integers(0, length * 8 - 1))
    disk.bytes[bit // 8] ^= 1 << bit % 8
    try:
        assert disk.load() == lineage(1)
    except ForeignChange as error:
        assert error.code == "lineage.forged" and 56 <= bit // 8 < 88


def test_forged_copied_and_moved_slots_are_refused() -> None:
    for change in ({"key": b"x" * 32}, {"rule": "deadbeef"}):
        disk = Disk()
        disk.write(lineage(1))
        liar = replace(lineage(2), rule=str(change.get("rule", RULE)))
        disk.write(liar, key=change.get("key", KEY))    # type: ignore[arg-type]
        with pytest.raises(ForeignChange) as caught:
            disk.load()
        assert caught.value.code == "lineage.forged"
    disk = Disk()
    disk.write(lineage(1))
    disk.bytes[:store.SLOT_BYTES] = disk.bytes[store.SLOT_BYTES:]   # an own slot, moved
    with pytest.raises(ForeignChange):
        disk.load()


def test_both_torn_is_told_from_a_torn_first_write() -> None:
    disk = Disk()
    disk.write(lineage(1), upto=100)
    assert disk.load() == Lineage(RULE, 0)
    disk.write(lineage(2), upto=100)
    with pytest.raises(ForeignChange) as caught:
        disk.load()
    assert caught.value.code == "lineage.damaged"


def test_a_hundred_points_fit_and_more_are_told() -> None:
    many = Lineage(RULE, 1, 1, tuple(manifest(n) for n in range(100)), last_number=99)
    slot = store.encode_slot(many, KEY)
    assert len(slot) < store.SLOT_BYTES // 10
    disk = Disk()
    disk.write(many)
    assert disk.load() == many
    import random

    noise = random.Random(1)
    monster = replace(many, points=tuple(
        replace(p, note=noise.randbytes(30_000).hex()) for p in many.points))
    # incompressible texts of 60 kB each do not fit at some point
    with pytest.raises(GiveUp) as caught:
        store.encode_slot(replace(monster, points=monster.points * 3), KEY)
    assert caught.value.code == "lineage.full"


def test_a_lineage_of_a_later_version_is_not_guessed_at() -> None:
    disk = Disk()
    later = lineage(1)
    import json
    import zlib

    from blake3 import blake3

    from hotspare.domain.codec import encode

    body = zlib.compress(json.dumps({**encode(later), "colour": "red"}).encode())
    head = b"HSLINEA1" + (1).to_bytes(8, "big") + len(body).to_bytes(8, "big")
    mac = blake3(head + body, key=store._mac_key(KEY)).digest()
    slot = head + blake3(head + body).digest() + mac + body
    disk.bytes[store.SLOT_BYTES:store.SLOT_BYTES + len(slot)] = slot
    with pytest.raises(GiveUp) as caught:
        disk.load()
    assert caught.value.code == "lineage.version" and "colour" in str(caught.value)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_disk_parts_are_plain_and_differ(a: str, b: str) -> None:
    assert set(names.disk_part(a)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert (names.disk_part(a) == names.disk_part(b)) == (a == b)


def test_names_are_read_back() -> None:
    intent = Intent(RULE, 3, 44)
    for name, kind, number in (
            (names.data(intent, "scsi0:1", 7), "data", 7),
            (names.digests(intent, 7), "digests", 7), (names.nvram(intent, 7), "nvram", 7),
            (names.folded(RULE, 8, 7), "digests", 8), (names.merge(RULE, "vda", 7), "merge", 7),
            (names.failover(RULE, "vda", 44), "failover", -1),
            (names.failover_nvram(RULE, 44), "failover-nvram", -1),
            (names.lineage(RULE), "lineage", -1)):
        parsed = names.parse(name, RULE)
        assert parsed is not None and (parsed.kind, parsed.number) == (kind, number), name
        assert names.parse(name, "deadbeef") is None
        assert names.parse(name + "x", RULE) is None
    parsed = names.parse(names.data(intent, "vda", 1234567), RULE)
    assert parsed == names.VolumeName("data", 1234567, 3, 44)
    assert names.kept(parsed, [str(intent)]) and not names.kept(parsed, ["hs-0badcafe-e3-t4-i1"])
    assert names.intent_of(str(intent)) == intent
