"""Counts IP fragments where they arrive: of tunnels' own packets (outer), and of what hosts send (inner)."""

from dataclasses import dataclass, fields

# Before the kernel puts fragments together, which it does at -400.
BEFORE_REASSEMBLY = -450
TABLE = "inet fragments"
FRAGMENT4, FRAGMENT6 = "ip frag-off & 0x3fff != 0", "exthdr frag exists"


@dataclass(frozen=True)
class Fragments:
    """`up`: outer, from gateways to the IX, which the gateways or routers made. `down`: outer, from the IX to gateways."""

    up: int
    down: int
    inner: int

    def __sub__(self, before):
        return Fragments(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))

    def __str__(self):
        return f"{self.up} outer to the IX, {self.down} outer from it, {self.inner} inner"


class FragmentCounter:
    """Of a world, from now on: at the IX, and on every gateway's outer and inner sides."""

    def __init__(self, world):
        self.world = world
        rules = [f'iifname "outer" {FRAGMENT4} counter name outer',
                 *(f'iifname != "outer" {fragment} counter name inner' for fragment in (FRAGMENT4, FRAGMENT6))]
        commands = [f"add table {TABLE}", f"add counter {TABLE} outer", f"add counter {TABLE} inner",
                    f"add chain {TABLE} in {{ type filter hook prerouting priority {BEFORE_REASSEMBLY}; }}",
                    *(f"add rule {TABLE} in {rule}" for rule in rules)]
        for namespace in [world.ix, *(site.gateway for site in world.sites)]:
            namespace.nft("; ".join(commands))

    def count(self, *realms):
        """Of the IX and the gateways of `realms`; all of them when none is named."""
        sites = [site for site in self.world.sites if not realms or site.realm.name in realms]
        ix = self.world.ix.nft_counters(TABLE)
        gateways = [site.gateway.nft_counters(TABLE) for site in sites]
        return Fragments(ix["outer"], sum(g["outer"] for g in gateways), sum(g["inner"] for g in gateways))
