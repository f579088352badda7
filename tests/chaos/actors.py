"""Those who make the chaos: writers in the machines, the machines' owner, and an operator."""

from __future__ import annotations

from random import Random
from typing import Any

import libvirt

from .processes import Api
from .stage import AWAY, Host, Stage, bandwidth, heard


def writer(stage: Stage) -> Any:
    """Now a few records here, then many there."""
    host = Host(stage.lab.a)

    def turn(dice: Random) -> float:
        vm = dice.choice(list(stage.vms.values()))
        records = dice.choice((1, 3, 8, 20, 60))
        try:
            vm.write(host.domain(vm.name), records)
        except libvirt.libvirtError:
            return 0.5              # libvirtd is down
        return dice.uniform(0.0, 0.4)

    return turn


def owner(stage: Stage) -> Any:
    """Switches machines on and off, whatever Hotspare does with them."""
    host = Host(stage.lab.a)

    def turn(dice: Random) -> float:
        vm = dice.choice(list(stage.vms.values()))
        try:
            domain = host.domain(vm.name)
            if not domain.isActive():
                on = vm.switch_on(domain, paused=dice.random() < 0.5)
                stage.tell(f"owner: {vm.name} on" + ("" if on else ": not now"))
            elif dice.random() < 0.5:
                vm.switch_off(domain)
                stage.tell(f"owner: {vm.name} off")
        except libvirt.libvirtError:
            pass                    # libvirtd is down
        return dice.uniform(*stage.size.gap_s)

    return turn


_START = AWAY | {"rule.busy", "rule.machine-down"}
_STOP = AWAY | {"rule.not-running"}
_MOVE = AWAY | {"rule.move-same", "machine.not-live"}


def operator(stage: Stage) -> Any:
    """Starts, stops, edits and moves rules, and changes limits, over the REST API."""
    api = Api(stage.server)

    def edit(dice: Random, rule: str) -> None:
        changes: dict[str, Any] = dice.choice((
            {"retention": dice.randrange(2, 6)},
            {"schedule": {"kind": "interval", "every_s": dice.randint(*stage.size.every_s)}},
            {"bandwidth": bandwidth(dice)},
            {"fast_transfer": dice.random() < 0.8}))
        with heard(AWAY):
            api(lambda c: c.edit_rule(rule, changes))

    def limits(dice: Random) -> None:
        machine = dice.choice(list(stage.machines) or ["local"])
        with heard(AWAY):
            if dice.random() < 0.5:
                per_host = dice.randrange(2, 7)
                stage.tell(f"operator: max_tasks_per_host {per_host}")
                api(lambda c: c.request("PATCH", "/settings",
                                        body={"max_tasks_per_host": per_host}))
            else:
                tasks = dice.randrange(1, 6)
                stage.tell(f"operator: {machine} max_tasks {tasks}")
                api(lambda c: c.request("PATCH", f"/machines/{machine}",
                                        body={"max_tasks": tasks}))

    def move(dice: Random, rule: str) -> None:
        to = dice.choice(list(stage.machines))
        stage.tell(f"operator: move {stage.vms[rule].name} to {to}")
        with heard(_MOVE):
            api(lambda c: c.request("POST", f"/rules/{rule}/move", body={"machine": to}))

    def turn(dice: Random) -> float:
        rule = dice.choice(list(stage.vms))
        what = dice.choices(("start", "stop", "edit", "limits", "move"),
                            (4, 2, 4, 2, 4 if stage.machines else 0))[0]
        if what == "start":
            stage.tell(f"operator: start {stage.vms[rule].name}")
            with heard(_START):
                api(lambda c: c.start_rule(rule))
        elif what == "stop":
            stage.tell(f"operator: stop {stage.vms[rule].name}")
            with heard(_STOP):
                api(lambda c: c.stop_rule(rule))
        elif what == "edit":
            edit(dice, rule)
        elif what == "limits":
            limits(dice)
        else:
            move(dice, rule)
        return dice.uniform(*stage.size.gap_s) / 2

    return turn


def starter(stage: Stage) -> Any:
    """A second operator: what stands stopped is started again, or nothing would run in the end."""
    api = Api(stage.server)

    def turn(dice: Random) -> float:
        with heard(_START):
            stopped = [r["id"] for r in api(lambda c: c.rules(state="stopped"))]
            if stopped:
                api(lambda c: c.start_rule(dice.choice(stopped)))
        return dice.uniform(1.0, 4.0)

    return turn
