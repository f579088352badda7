"""Switching machines on and off, and their cables."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from pyVmomi import vim

from ...domain.errors import HotspareError, Refused, Retry
from ...domain.machine import Power
from .connection import Connection
from .machine_read import power_named

_OFF_S = 60.0


def power_of(connection: Connection, machine: Any) -> Power:
    return power_named(connection.read(machine, "runtime.powerState")["runtime.powerState"])


def tools_run(connection: Connection, machine: Any) -> bool:
    """Whether VMware Tools answer in the guest."""
    return connection.read(machine, "guest.toolsRunningStatus").get(
        "guest.toolsRunningStatus") == "guestToolsRunning"


def shut_down(connection: Connection, machine: Any, grace_s: float) -> bool:
    """Ask the guest to go; whether the machine is off within the time. A suspended one has no
    guest that could."""
    if power_of(connection, machine) == "running" and tools_run(connection, machine):
        with contextlib.suppress(HotspareError), connection.calls():
            machine.ShutdownGuest()
        end = time.monotonic() + grace_s
        while time.monotonic() < end and power_of(connection, machine) != "off":
            time.sleep(min(1.0, grace_s / 10))
    return power_of(connection, machine) == "off"


def refuse_without_tools(connection: Connection, machine: Any, name: str) -> None:
    """Raises Refused ``vsphere.no-tools`` when the guest of a machine could not be asked to go."""
    if not tools_run(connection, machine):
        raise Refused("vsphere.no-tools", vm=name)


def power_off(connection: Connection, machine: Any) -> None:
    """Pull the plug. Idempotent."""
    try:
        with connection.calls():
            task = machine.PowerOffVM_Task()
        connection.wait(task)
    except Retry as error:
        if error.code != "vsphere.power-state" or power_of(connection, machine) != "off":
            raise


def power_on(connection: Connection, machine: Any) -> None:
    """Idempotent."""
    if power_of(connection, machine) == "running":
        return
    try:
        with connection.calls():
            task = machine.PowerOnVM_Task()
        connection.wait(task)
    except Retry as error:
        if error.code != "vsphere.power-state" or power_of(connection, machine) != "running":
            raise


def plug(connection: Connection, machine: Any, plugged: bool) -> None:
    """All network cables in or out. Idempotent."""
    edits = []
    for device in connection.read(machine, "config.hardware.device")["config.hardware.device"]:
        if isinstance(device, vim.vm.device.VirtualEthernetCard):
            device.connectable = device.connectable or vim.vm.device.VirtualDevice.ConnectInfo(
                allowGuestControl=True)
            device.connectable.connected = device.connectable.startConnected = plugged
            edits.append(vim.vm.device.VirtualDeviceSpec(operation="edit", device=device))
    if edits:
        with connection.calls():
            task = machine.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=edits))
        connection.wait(task)
