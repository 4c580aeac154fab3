"""A NAT on the outer network: gateways behind it share its one outer address, each with ports that it chooses.

```
   gateway 10.88.N.11 ──┐
   gateway 10.88.N.12 ──┴── nat.NAME (masquerades, 198.51.100.100+N) ── outer ── ixgate
```
"""

from lab.lib import netns
from lab.lib.netns import Namespace
from lab.lib.site import OUTER


class Nat:
    def __init__(self, name, number, ix):
        self.inner = f"10.88.{number}"
        self.outer = f"{OUTER}.{100 + number}"
        self.namespace = Namespace(f"nat.{name}")
        self.gateways = 0
        inside = self.namespace
        inside.sysctl("net.ipv4.ip_forward", 1)
        netns.veth(ix, f"nat{number}", inside, "outer")
        ix.ip(f"link set nat{number} master outer")
        inside.ip(f"addr add {self.outer}/24 dev outer", "link add inner type bridge", "link set inner up",
                  f"addr add {self.inner}.1/24 dev inner")
        self._masquerade()

    def take_in(self, gateway):
        """Connects a gateway, and gives it its address there."""
        self.gateways += 1
        port = f"inner{self.gateways}"
        netns.veth(self.namespace, port, gateway, "outer")
        self.namespace.ip(f"link set {port} master inner")
        address = f"{self.inner}.{10 + self.gateways}"
        gateway.ip(f"addr add {address}/24 dev outer", f"route add default via {self.inner}.1")
        return address

    def move(self):
        """As after a reconnect of the provider's line: another outer address, every binding gone, other ports."""
        old, self.outer = self.outer, f"{OUTER}.{int(self.outer.rpartition('.')[2]) + 50}"
        self.namespace.ip(f"addr del {old}/24 dev outer", f"addr add {self.outer}/24 dev outer")

    def _masquerade(self):
        self.namespace.nft("add table ip nat; "
                           "add chain ip nat post { type nat hook postrouting priority 100; }; "
                           'add rule ip nat post oifname "outer" meta l4proto udp masquerade to :20000-60000 random')
