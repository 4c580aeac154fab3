"""`scripts/lab`: run a scenario in a sandbox, report, leave nothing behind."""

import argparse
import importlib
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

from lab.lib import sandbox, vlan
from lab.lib.plan import fqdn
from lab.lib.report import Report, progress
from lab.lib.world import World

LAB = Path(__file__).parent.parent


def main():
    options = parse_arguments(sys.argv[1:])
    if options.understand:
        print("scenario" if options.scenario else "")
        return 0
    if options.list:
        return list_scenarios()
    if options.stop:
        return sandbox.stop_kept()
    if options.enter:
        return sandbox.look_inside(options.enter[0], options.enter[1:])
    if options.possible:
        return say_whether_possible()
    if not sandbox.inside():
        argv = [sys.executable, "-B", "-m", "lab.lib.cli", *sys.argv[1:]]
        return sandbox.enter(argv, options.scenario, options.keep)
    return run_inside(options)


def parse_arguments(words):
    """Refuses, with exit code 2, what makes no sense."""
    parser = argparse.ArgumentParser(prog="scripts/lab", allow_abbrev=False,
                                     description="Networks in namespaces around a real ixgate.")
    parser.add_argument("scenario", nargs="?", metavar="SCENARIO", help="a folder of lab/ (see --list)")
    parser.add_argument("--keep", action="store_true", help="leave it running afterwards and say how to look around")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    parser.add_argument("--verbose", action="store_true", help="show the checks that pass, too")
    parser.add_argument("--long", action="store_true", help="the scenario's long form, where it has one")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--stop", action="store_true", help="end everything that --keep left running")
    parser.add_argument("--enter", nargs="+", metavar=("NAMESPACE", "COMMAND"),
                        help="run a command (default: bash) in a namespace of the kept lab; the newest, if there are more")
    parser.add_argument("--possible", action="store_true", help="say whether labs can run on this machine")
    # For scripts/lab, which builds only for arguments that are understood.
    parser.add_argument("--understand", action="store_true", help=argparse.SUPPRESS)

    # What follows the namespace is the command, whatever it looks like.
    at = words.index("--enter") + 2 if "--enter" in words else len(words)
    if at > len(words):
        parser.error("--enter needs a namespace, e.g. `--enter pc.region-a`; those of a kept lab were named when it started")
    options = parser.parse_args(words[:at])
    if options.enter:
        options.enter += words[at:]

    asked = [options.scenario, options.list, options.stop, options.enter, options.possible]
    if not any(asked):
        parser.error("which scenario? `--list` shows them")
    if sum(map(bool, asked)) > 1:
        parser.error("one thing at a time: a SCENARIO, --list, --stop, --enter or --possible")
    if options.scenario and options.scenario not in scenarios():
        parser.error(f"there is no scenario `{options.scenario}`; there are: {', '.join(scenarios())}")
    if not options.scenario and (options.keep or options.json or options.verbose or options.long):
        parser.error("--keep, --json, --verbose and --long go with a SCENARIO")
    if options.long and not hasattr(module(options.scenario), "LONG"):
        parser.error(f"`{options.scenario}` has no long form")
    return options


def run_inside(options):
    lifeline = sandbox.Lifeline()
    directory = sandbox.own_run()
    raise_open_files_limit()
    scenario = module(options.scenario)
    if any(realm.ports for realm in scenario.SCENARIO.realms) and (reason := vlan.why_not()):
        print(f"NOT RUN: {reason}.", file=sys.stderr)
        return sandbox.NOT_RUN
    report = Report(options.scenario, options.verbose)
    world = World(scenario.SCENARIO, directory, Path(os.environ["IXGATE"]), options.long)
    interrupted = False
    try:
        world.up(getattr(scenario, "prepare", None))
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
    for site in world.sites:
        if site.realm.ipsec and site.realm.comes_up and "INSTALLED" not in site.sas():
            progress(f"--- no child SA: end of the log of {site.realm.name}'s strongSwan\n{site.log_tail()}\n---")


def say_how_to_look_around(world):
    """Commands to copy; each of them works as it stands."""
    asker = world.labels()[0]
    realm = asker.partition(".")[2]
    services = world.scenario.services
    name = fqdn(services[0].name if services else world.labels()[-1])
    enter = f"{'sudo ' if os.environ.get('SUDO_USER') else ''}scripts/lab --enter"
    web = services and "tcp/80" in services[0].ports and shutil.which("curl")
    hints = [
        ("a shell in a network", f"{enter} {asker}"),
        ("ask a name there", f"{enter} {asker} dig {name}"),
        *([("open a page there", f"{enter} {asker} curl http://{name}/")] if web else []),
        ("a gateway's tunnel", f"{enter} {realm} {world.site(realm).how_to_show()}"),
        ("the IX", f"{enter} ix ixgate status"),
        ("its configuration, logs", world.directory),
    ]
    lines = "\n".join(f"  {what:<24} {command}" for what, command in hints)
    progress(f"\nThe lab stays. Namespaces: {' '.join(n.name for n in world.namespaces())}\n{lines}")
    progress(f"Stop it and leave nothing behind: {enter.replace('--enter', '--stop')}")


def scenarios():
    return sorted(p.parent.name for p in LAB.glob("*/scenario.py"))


def module(scenario):
    return importlib.import_module(f"lab.{scenario}.scenario")


def list_scenarios():
    for name in scenarios():
        summary = (module(name).__doc__ or "").strip().splitlines()[0]
        print(f"{name:<17} {summary}")
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
