"""The conformance suite of standbys and rehearsals, over any platform."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotspare.domain.errors import GiveUp, HotspareError, Refused, Stopped
from hotspare.platforms.port import StartSpec

from .target_rig import KEY, MIB, SIZE, Model, TargetRig
from .target_suite import ignore


class StandbySuite:
    """Subclass it and give it a fixture ``rig``."""

    def test_a_failover_from_the_middle(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("failover", 2))
        name = f"{model.vm.name}-replica"
        with rig.platform() as platform:
            target, standby = platform.target(KEY), platform.standby(KEY)
            model.ensure(target)
            for _ in range(4):
                model.cycle(target)
            before = rig.left(model.rule)
            assert target.pinned(model.ref) == set()
            assert standby.find(model.ref) is None
            how, intent = StartSpec(name), model.intent()
            running = standby.start(model.ref, 2, how, intent)
            assert standby.start(model.ref, 2, how, intent) == running
            assert standby.power(running) == "running"
            assert standby.find(model.ref) == running
            with rig.platform() as other:
                assert other.standby(KEY).find(model.ref) == running
            with pytest.raises(Refused) as caught:
                standby.start(model.ref, 3, how, model.intent())
            assert caught.value.code == "name.taken"
            with pytest.raises(GiveUp):
                standby.start(model.ref, 9, StartSpec("no-such-point"), model.intent())
            later = not target.capabilities.writes_need_power_off
            if later:
                model.cycle(target)     # points go on while it runs
            else:
                with pytest.raises(Refused) as stands:
                    model.cycle(target)
                assert stands.value.code == "replica.stands"

            def pinned() -> None:
                assert target.pinned(model.ref) == {1, 2}
                for number in (1, 2):
                    with pytest.raises(Refused) as refused:
                        target.retire(model.ref, number, None, ignore)
                    assert refused.value.code == "point.pinned"
                with pytest.raises(Refused) as refused:
                    target.remove_replica(model.ref)
                assert refused.value.code == "replica.in-use"
                target.sweep(model.ref, [])     # its layers are in use

            pinned()
            standby.stop(running, 0)
            standby.stop(running, 0)
            assert standby.power(running) == "off"
            pinned()                    # a machine that is off stands on its point as well
            assert standby.find(model.ref) == running
            target.retire(model.ref, 3, None, ignore)
            del model.points[3]
            again = standby.start(model.ref, 2, how, intent)
            assert again == running and standby.power(running) == "running"
            standby.discard(running)
            standby.discard(running)
            assert standby.power(running) == "off" and standby.find(model.ref) is None
            assert target.pinned(model.ref) == set()
            target.retire(model.ref, 1, None, ignore)
            del model.points[1]
            model.check(target, port=False)
            assert not {n for n in rig.left(model.rule) - before if "-fo-" in n or "base" in n}
            model.cycle(target)
            target.remove_replica(model.ref)
            assert rig.left(model.rule) == set()

    @pytest.mark.parametrize("power", ["running", "off"])
    def test_a_failover_that_is_kept(self, rig: TargetRig, power: str) -> None:
        """The machine goes on, with the point's content, and nothing of the replica is left."""
        model = Model(rig, rig.vm(f"keep-{power}", 2))
        name = f"{model.vm.name}-kept"
        with rig.platform() as platform:
            target, standby = platform.target(KEY), platform.standby(KEY)
            model.ensure(target)
            for _ in range(3):
                model.cycle(target)
            running = standby.start(model.ref, 2, StartSpec(name), model.intent())
            if power == "off":
                standby.stop(running, 0)
            shown: list[tuple[int, int]] = []
            standby.keep(running, lambda done, total: shown.append((done, total)))
            assert shown[-1] == (2 * SIZE, 2 * SIZE)
            assert standby.power(running) == power
            assert standby.find(model.ref) == running   # until it is let go
            assert target.pinned(model.ref) == set()
            standby.keep(running, ignore)
            model.check(target, port=False)             # no point was touched
            target.remove_replica(model.ref)
            standby.let_go(running)
            standby.let_go(running)
            assert standby.find(model.ref) is None
            assert rig.left(model.rule) == set(), "nothing names the rule any more"
            model.compare(rig.disks_of(name), 2)
            rig.undefine(name)

    def test_a_failover_that_is_kept_half_way_can_be_undone(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("half-kept", 2))
        name = f"{model.vm.name}-kept"

        def enough(done: int, total: int) -> None:
            if done >= total // 2:
                raise Stopped("task.stopped", task=1)

        with rig.platform() as platform:
            target, standby = platform.target(KEY), platform.standby(KEY)
            model.ensure(target)
            model.cycle(target)
            before = rig.left(model.rule)
            running = standby.start(model.ref, 1, StartSpec(name), model.intent())
            with pytest.raises(Stopped):
                standby.keep(running, enough)
            assert standby.find(model.ref) == running
            standby.discard(running)
            assert standby.find(model.ref) is None and rig.left(model.rule) == before
            assert rig.disks_of(name) == {}, "its copies are gone, too"
            model.check(target, port=False)
            target.remove_replica(model.ref)

    def test_a_start_that_fails_leaves_nothing(self, rig: TargetRig) -> None:
        vm = rig.vm("fails", 1, memory=1 << 49)     # no host has that
        nic = vm.nics[0]
        model = Model(rig, vm)
        with rig.platform() as platform:
            target, standby = platform.target(KEY), platform.standby(KEY)
            model.ensure(target)
            model.cycle(target)
            before = rig.left(model.rule)
            with pytest.raises(HotspareError):
                standby.start(model.ref, 1, StartSpec("too-big"), model.intent())
            assert rig.left(model.rule) == before and standby.find(model.ref) is None
            model.vm = replace(vm, memory=64 * MIB,
                               nics=(replace(nic, kind="network", network="dmz"),))
            model.cycle(target)
            points = rig.left(model.rule)
            with pytest.raises(Refused) as caught:
                standby.start(model.ref, 2, StartSpec("unmapped"), model.intent())
            assert caught.value.code == "target.network"
            with pytest.raises(Refused):
                standby.start(model.ref, 2, StartSpec("a/b", {"dmz": rig.network}),
                              model.intent())
            assert rig.left(model.rule) == points
            running = standby.start(model.ref, 2, StartSpec("mapped", {"dmz": rig.network}),
                                    model.intent())
            standby.discard(running)
            target.remove_replica(model.ref)


class RehearsalSuite:
    """Subclass it and give it a fixture ``rig``."""

    def test_a_test_beside_a_failover_and_a_run(self, rig: TargetRig) -> None:
        """It is no failover, it pins what it stands on, and nothing else waits for it."""
        model = Model(rig, rig.vm("test", 1))
        with rig.platform() as platform:
            target, standby = platform.target(KEY), platform.standby(KEY)
            rehearsal = platform.rehearsal(KEY)
            model.ensure(target)
            for _ in range(3):
                model.cycle(target)
            before = rig.left(model.rule)
            run = model.intent()
            session = target.begin(model.ref, model.vm.disks, 3, run)
            intent = model.intent()
            isolation = rehearsal.isolate(model.ref, 2, None, intent)
            trial = standby.start(model.ref, 2, StartSpec(
                f"hs-{model.rule}-trial", isolation.networks, "test", isolation.connected), intent)
            assert rehearsal.left(model.ref) == [intent] and rehearsal.ended(trial) == ""
            assert standby.find(model.ref) is None      # a test is no failover
            assert target.pinned(model.ref) == {1, 2}
            model.change(session)
            model.publish(session, run)
            target.sweep(model.ref, [])                 # what a run does at its end
            model.cycle(target)
            with pytest.raises(Refused) as pinned:
                target.retire(model.ref, 1, None, ignore)
            assert pinned.value.code == "point.pinned"
            real = standby.start(model.ref, 1, StartSpec(f"{model.vm.name}-replica"),
                                 model.intent())
            assert trial.ref != real.ref
            assert standby.find(model.ref) == real
            assert standby.power(trial) == standby.power(real) == "running"
            assert rehearsal.clear(model.ref, intent)
            assert rehearsal.clear(model.ref, intent) == []
            assert rehearsal.left(model.ref) == [] and rehearsal.ended(trial) == "other"
            assert standby.power(real) == "running"
            standby.discard(real)
            target.retire(model.ref, 1, None, ignore)
            del model.points[1]
            model.check(target, port=False)
            assert before - rig.left(model.rule) != set()   # what was merged
            target.remove_replica(model.ref)
            assert rig.left(model.rule) == set()
