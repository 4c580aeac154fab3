"""`scripts/lab`: run a scenario in a sandbox, report, leave nothing behind."""

import argparse
import importlib
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

from lab.lib import sandbox
from lab.lib.report import Report, progress
from lab.lib.world import World

LAB = Path(__file__).parent.parent


def main():
    options = parse_arguments()
    if options.list:
        return list_scenarios()
    if options.stop:
        return sandbox.stop_kept()
    if options.enter:
        return sandbox.look_inside(options.enter[0], options.enter[1:])
    if options.possible:
        return say_whether_possible()
    if options.scenario not in scenarios():
        print(f"There is no scenario `{options.scenario}`; there are: {', '.join(scenarios())}.", file=sys.stderr)
        return 2
    if not sandbox.inside():
        return sandbox.enter([sys.executable, "-B", "-m", "lab.lib.cli", *sys.argv[1:]], options.keep)
    return run_inside(options)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/lab", description="Networks in namespaces around a real ixgate.")
    parser.add_argument("scenario", nargs="?", help="a folder of lab/ (see --list)")
    parser.add_argument("--keep", action="store_true", help="leave it running afterwards and say how to look around")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    parser.add_argument("--verbose", action="store_true", help="show the checks that pass, too")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--stop", action="store_true", help="end what --keep left running")
    parser.add_argument("--enter", nargs=argparse.REMAINDER, metavar="NAMESPACE [COMMAND...]",
                        help="run a command (default: bash) in a namespace of the kept lab")
    parser.add_argument("--possible", action="store_true", help="say whether labs can run on this machine")
    options = parser.parse_args()
    if not (options.scenario or options.list or options.stop or options.enter or options.possible):
        parser.error("which scenario? `--list` shows them")
    return options


def run_inside(options):
    lifeline = sandbox.Lifeline()
    directory = sandbox.own_run()
    raise_open_files_limit()
    scenario = importlib.import_module(f"lab.{options.scenario}.scenario")
    report = Report(options.scenario, options.verbose)
    world = World(scenario.SCENARIO, directory, Path(os.environ["IXGATE"]))
    interrupted = False
    try:
        world.up()
        scenario.check(world, report)
        if not report.ok():
            explain(world)
    except KeyboardInterrupt:
        interrupted = True
        progress("stopping")
    except Exception as error:  # a lab that cannot be built is a failed check, with the words of what failed
        report.group("the lab itself")
        report.that("runs to its end", False, "no error", error)
        progress(traceback.format_exc() if options.verbose else "")
        explain(world)

    if not interrupted:
        print_result(report, scenario, options.json)
        if options.keep and world.ixgate:
            say_how_to_look_around(world)
            lifeline.keep()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tear-down itself is not interrupted
    world.down()
    shutil.rmtree(directory, ignore_errors=True)
    return 0 if report.ok() and not interrupted else 1


def print_result(report, scenario, as_json):
    """As a table, unless the scenario has a way of its own to say it."""
    if as_json:
        report.print_json()
    elif hasattr(scenario, "print_result") and report.ok():
        scenario.print_result(report)
    else:
        report.print_table()


def explain(world):
    """After a failure: what the appliance says, and the end of its log."""
    if not world.ixgate:
        return
    try:
        words = world.ixgate.status_text() if world.ixgate.running() else "ixgate is not running"
    except RuntimeError as error:
        words = str(error)
    progress(f"\n--- ixgate status\n{words}\n--- end of ixgate's log\n{world.ixgate.log_tail()}\n---")


def say_how_to_look_around(world):
    label = world.labels()[0]
    services = world.scenario.services
    remote = services[0].host if services else world.labels()[-1]
    sudo = "sudo " if os.environ.get("SUDO_USER") else ""
    progress(f"""
The lab stays. Namespaces: {' '.join(n.name for n in world.namespaces())}
  a shell in a network      {sudo}scripts/lab --enter {label}
  ask a name there          {sudo}scripts/lab --enter {label} dig @{world.ixgate.resolver()} {remote}.ix.example
  a gateway's tunnel        {sudo}scripts/lab --enter {label.partition('.')[2]} wg show
  the IX                    {sudo}{world.ixgate.binary} status --api unix:{world.ixgate.socket}
  its configuration, logs   {world.directory}
Stop it and leave nothing behind: {sudo}scripts/lab --stop""")


def scenarios():
    return sorted(p.parent.name for p in LAB.glob("*/scenario.py"))


def list_scenarios():
    for name in scenarios():
        summary = (importlib.import_module(f"lab.{name}.scenario").__doc__ or "").strip().splitlines()[0]
        print(f"{name:<10} {summary}")
    return 0


def say_whether_possible():
    reason = sandbox.why_not()
    print(f"Labs cannot run here: {reason}." if reason else "Labs can run here.")
    return sandbox.NOT_RUN if reason else 0


def raise_open_files_limit():
    """Thousands of sockets at once in the larger scenarios."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
