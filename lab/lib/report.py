"""What was checked, and what came of it: counted in groups, every failure with what was expected and what came."""

import json
import sys
import time
from dataclasses import dataclass, field


@dataclass
class Failure:
    group: str
    check: str
    expected: str
    got: str


@dataclass
class Group:
    """Checks that belong together: one line of the table."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""


@dataclass
class Report:
    scenario: str
    verbose: bool = False
    groups: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    # A broken build fails thousands of checks for one reason; the first few tell it.
    FAILURES_SHOWN = 20

    def group(self, name):
        """Later checks are counted under `name`."""
        self.groups.append(Group(name))
        progress(name)

    def equal(self, check, expected, got):
        return self.that(check, expected == got, expected, got)

    def that(self, check, holds, expected, got):
        """Counts one check. `expected` and `got` are shown when it fails."""
        group = self.groups[-1]
        if holds:
            group.passed += 1
            if self.verbose:
                progress(f"  ok    {check}: {got}")
        else:
            group.failed += 1
            self.failures.append(Failure(group.name, check, str(expected), str(got)))
            if len(self.failures) <= self.FAILURES_SHOWN:
                progress(f"  FAIL  {check}\n          expected: {expected}\n          got:      {got}")
        return holds

    def skip(self, check, why):
        """A check that cannot be made here. It never passes in silence."""
        self.groups[-1].skipped += 1
        self.groups[-1].note = why
        progress(f"  SKIP  {check}: {why}")

    def fact(self, name, value):
        """A measured number that is worth keeping and is no check."""
        self.facts[name] = value
        progress(f"  {name}: {value}")

    def totals(self):
        return tuple(sum(getattr(g, kind) for g in self.groups) for kind in ("passed", "failed", "skipped"))

    def ok(self):
        passed, failed, _ = self.totals()
        return passed > 0 and failed == 0

    def print_table(self):
        """The result for people. The last line is always `N passed, N failed, N skipped`."""
        width = max([len(g.name) for g in self.groups] + [8])
        print(f"\n{self.scenario:<{width}}  passed  failed  skipped")
        for g in self.groups:
            print(f"{g.name:<{width}}  {g.passed:>6}  {g.failed:>6}  {g.skipped:>7}  {g.note}".rstrip())
        for name, value in self.facts.items():
            print(f"  {name}: {value}")
        print(f"  took {time.monotonic() - self.began:.1f} s")
        passed, failed, skipped = self.totals()
        print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)

    def print_json(self):
        passed, failed, skipped = self.totals()
        document = {
            "scenario": self.scenario,
            "passed": passed,
            "failed": failed,
            "skipped": skipped,
            "seconds": round(time.monotonic() - self.began, 1),
            "groups": [vars(g) for g in self.groups],
            "failures": [vars(f) for f in self.failures],
            "facts": self.facts,
        }
        print(json.dumps(document, indent=2), flush=True)


def progress(line):
    """Progress and diagnosis go to standard error, so that `--json` leaves standard output to the document."""
    print(line, file=sys.stderr, flush=True)
