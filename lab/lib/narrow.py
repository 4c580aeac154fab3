"""An outer path with a narrow link in its middle: neither end sees it on an interface of its own.

```
   gateway 203.0.113.X ──┐
   gateway 203.0.113.Y ──┴── near.MTU ══ narrow link ══ far.MTU (198.51.100.200+N) ── outer ── ixgate
```

Each router tells the sender of what is too long for the link (RFC 1191), until the path is told to be silent.
"""

from lab.lib import netns
from lab.lib.netns import Namespace
from lab.lib.site import OUTER

INSIDE = "203.0.113"
INSIDE_LENGTH = 27


class NarrowPath:
    def __init__(self, mtu_bytes, number, ix):
        """`number` counts from 0 to 7."""
        self.near, self.far = Namespace(f"near.{mtu_bytes}"), Namespace(f"far.{mtu_bytes}")
        self.first = number << (32 - INSIDE_LENGTH)
        self.gateways = 0
        outside = f"{OUTER}.{200 + number}"
        far_link, near_link = f"192.0.2.{4 * number + 1}", f"192.0.2.{4 * number + 2}"
        inside = f"{INSIDE}.{self.first}/{INSIDE_LENGTH}"
        for router in (self.near, self.far):
            router.sysctl("net.ipv4.ip_forward", 1)
        netns.veth(ix, f"path{number}", self.far, "outer")
        netns.veth(self.far, "narrow", self.near, "narrow")
        self.far.ip(f"addr add {outside}/24 dev outer", f"link set narrow mtu {mtu_bytes}",
                    f"addr add {far_link}/30 dev narrow", f"route add {inside} via {near_link}")
        self.near.ip("link add inner type bridge", "link set inner up", f"link set narrow mtu {mtu_bytes}",
                     f"addr add {near_link}/30 dev narrow", f"addr add {self._address(1)}/{INSIDE_LENGTH} dev inner",
                     f"route add default via {far_link}")
        ix.ip(f"link set path{number} master outer", f"route add {inside} via {outside}")

    def take_in(self, gateway):
        """Connects a gateway, and gives it its address there."""
        self.gateways += 1
        port = f"inner{self.gateways}"
        netns.veth(self.near, port, gateway, "outer")
        self.near.ip(f"link set {port} master inner")
        address = self._address(1 + self.gateways)
        gateway.ip(f"addr add {address}/{INSIDE_LENGTH} dev outer", f"route add default via {self._address(1)}")
        return address

    def silence(self):
        """From now on nobody hears of what was too long: the routers' ICMP errors are lost."""
        for router in (self.near, self.far):
            router.nft("add table ip silent; add counter ip silent untold; "
                       "add chain ip silent out { type filter hook output priority 0; }; "
                       "add rule ip silent out icmp type destination-unreachable counter name untold drop")

    def untold(self):
        """How many errors were lost since then, of both routers."""
        return sum(router.nft_counters("ip silent")["untold"] for router in (self.near, self.far))

    def _address(self, offset):
        return f"{INSIDE}.{self.first + offset}"
