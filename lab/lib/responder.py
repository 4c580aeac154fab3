"""Servers that say who they are and remember what reached them: the judges of "nothing crossed".

A request is one line, `FROM TO NONCE`. The responder answers `WHO FROM TO NONCE` and records the arrival, so that a
check can tell a packet that reached the wrong realm from one that reached none. All of them run in one thread.
"""

import asyncio
import socket
import threading
from dataclasses import dataclass

PORT = 7000


@dataclass(frozen=True)
class Arrival:
    who: str  # the responder that it reached
    protocol: str
    source: str  # the address that it came from, as the responder saw it
    text: str

    def sender(self):
        return self.text.split(" ")[0] if self.text else "?"

    def addressee(self):
        return (self.text.split(" ") + ["?"])[1]


class Responders:
    def __init__(self):
        self.arrivals = []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def add(self, who, namespace, address, port=PORT, protocols=("udp", "tcp")):
        """Listens on `address` in `namespace`."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with namespace.entered():
            if "udp" in protocols:
                self._run(self._serve_udp(who, bound(family, socket.SOCK_DGRAM, address, port)))
            if "tcp" in protocols:
                self._run(self._serve_tcp(who, bound(family, socket.SOCK_STREAM, address, port)))

    def arrived(self, who=None, frm=None):
        return [a for a in list(self.arrivals) if who in (None, a.who) and frm in (None, a.sender())]

    def _run(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=5)

    async def _serve_udp(self, who, sock):
        await self.loop.create_datagram_endpoint(lambda: UdpResponder(who, self.arrivals), sock=sock)

    async def _serve_tcp(self, who, sock):
        async def serve(reader, writer):
            source = writer.get_extra_info("peername")[0]
            try:
                text = (await asyncio.wait_for(reader.readline(), 5)).decode(errors="replace").strip()
                self.arrivals.append(Arrival(who, "tcp", source, text))
                writer.write(f"{who} {text}\n".encode())
                await writer.drain()
            except (OSError, asyncio.TimeoutError):
                self.arrivals.append(Arrival(who, "tcp", source, ""))
            finally:
                writer.close()

        await asyncio.start_server(serve, sock=sock, backlog=512)


class UdpResponder(asyncio.DatagramProtocol):
    def __init__(self, who, arrivals):
        self.who = who
        self.arrivals = arrivals

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        text = data.decode(errors="replace").strip()
        self.arrivals.append(Arrival(self.who, "udp", address[0], text))
        self.transport.sendto(f"{self.who} {text}\n".encode(), address)


def bound(family, kind, address, port):
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    sock.bind((str(address), port))
    return sock
