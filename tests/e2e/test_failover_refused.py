"""A failover that cannot be done leaves the rule as it was and nothing at the target."""

from __future__ import annotations

from collections.abc import Callable

from .rig import Rig


def test_a_taken_name(rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(boot="kernel")
    rig.protect()
    rig.run()
    before = rig.points()
    with rig.server.client() as client:
        state = client.rule(rig.rule)["state"]
        foreign = rig.lab.b.conn.defineXML(
            f"<domain type='qemu'><name>{rig.guest.name}</name><memory unit='MiB'>16</memory>"
            "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>")
        try:
            failed = rig.ended(client.failover(rig.rule, 1), outcome="failed")
        finally:
            foreign.undefine()
        assert failed["error"]["code"] == "name.taken"
        assert rig.guest.name in failed["error"]["message"]
        rule = client.rule(rig.rule)
    assert (rule["state"], rule["failover_point"]) == (state, None)
    assert rig.points() == before
    assert rig.leftovers() == []
