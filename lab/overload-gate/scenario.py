"""One tunnel is flooded beyond what ixgate can carry, and what is too much is shed before the network stack."""

from dataclasses import replace

from lab.lib.wait import wait_until
from lab.overload import scenario as overload

SCENARIO = replace(overload.SCENARIO, more="[gate]\nenabled = true\n")


def check(world, report):
    report.group("the gate")

    def gate():
        return world.ixgate.status()["socket"]["gate"] or {"interfaces": []}

    if wait_until(lambda: gate()["interfaces"], 5) is None:
        report.skip("the gate", world.ixgate.status()["socket"]["no_gate"])
        return
    report.fact("it is on", ", ".join(gate()["interfaces"]))
    overload.check(world, report)
