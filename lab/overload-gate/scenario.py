"""One tunnel is flooded beyond what ixgate can carry, and what is too much is shed before the network stack."""

from dataclasses import replace

from lab.lib.wait import wait_until
from lab.overload import scenario as overload

SCENARIO = replace(overload.SCENARIO, more="[gate]\nenabled = true\n")


def check(world, report):
    report.group("the gate")
    gate = wait_until(lambda: world.ixgate.status()["socket"]["gate"], 5)
    if not gate or not gate["interfaces"]:
        report.fact("NOT RUN", f"no gate here: {world.ixgate.status()['socket']['no_gate']}")
        return
    report.fact("it is on", gate["interfaces"])
    overload.check(world, report)
