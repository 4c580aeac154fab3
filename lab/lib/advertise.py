"""A router that announces itself: router advertisements (RFC 4861 section 4.2) without prefixes, from an interface's link-local address."""

import socket
import struct
import threading

ALL_NODES = "ff02::1"
ROUTER_ADVERTISEMENT = 134
ICMPV6_FILTER = 1


class Advertiser:
    """Every `pause_secs`, until it is stopped; each is good for `lifetime_secs`."""

    def __init__(self, namespace, interface, lifetime_secs, pause_secs=1.0):
        self.pause_secs, self.stopping = pause_secs, threading.Event()
        with namespace.entered():
            self.sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            self.to = (ALL_NODES, 0, 0, socket.if_nametoindex(interface))
        self.sock.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, b"\xff" * 32)  # hears nothing
        self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        # The kernel fills in the checksum.
        self.message = struct.pack("!BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, 64, 0, lifetime_secs, 0, 0)
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.thread.start()

    def stop(self):
        """Falls silent, without a word of farewell."""
        self.stopping.set()
        self.thread.join()
        self.sock.close()

    def _send(self):
        while not self.stopping.is_set():
            try:
                self.sock.sendto(self.message, self.to)
            except OSError:
                pass  # the link is down, or nothing leaves by it
            self.stopping.wait(self.pause_secs)
