"""Traffic that goes on while something else happens: what was lost, and the longest silence."""

import socket
import threading
import time

from lab.lib.responder import PORT


class TcpDrip:
    """A slow TCP transfer, one numbered line after another: every one must arrive, in order."""

    def __init__(self, world, client, server, lines, pause, port=7100):
        self.lines, self.pause, self.received = lines, pause, 0
        with world.host(server).entered():
            listener = socket.create_server((str(world.address(server)), port))
        threading.Thread(target=self._serve, args=[listener], daemon=True).start()
        with world.host(client).entered():
            connection = socket.create_connection((str(world.seen(server)), port), timeout=5)
        connection.settimeout(60)
        self.thread = threading.Thread(target=self._receive, args=[connection], daemon=True)
        self.thread.start()

    def running(self):
        return self.thread.is_alive()

    def _serve(self, listener):
        connection, _ = listener.accept()
        with connection, listener:
            # Filled up, so that every line is a packet of its own.
            for number in range(self.lines):
                connection.sendall(f"{number} {'.' * 900}\n".encode())
                time.sleep(self.pause)

    def _receive(self, connection):
        try:
            with connection, connection.makefile() as lines:
                for line in lines:
                    if int(line.split(" ")[0]) != self.received:
                        return
                    self.received += 1
        except OSError:
            return


class PacedTcp:
    """TCP at a steady pace, which may fall behind and never catches up: what arrives in a while tells how good the way is."""

    SLICE_SECS = 0.01

    def __init__(self, world, sender, receiver, bytes_per_sec, port=7200):
        self.bytes_per_sec, self.received, self.stopping = bytes_per_sec, 0, threading.Event()
        with world.host(receiver).entered():
            listener = socket.create_server((str(world.address(receiver)), port))
        threading.Thread(target=self._receive, args=[listener], daemon=True).start()
        with world.host(sender).entered():
            self.connection = socket.create_connection((str(world.seen(receiver)), port), timeout=5)
        self.connection.settimeout(60)
        threading.Thread(target=self._send, daemon=True).start()

    def stop(self):
        self.stopping.set()

    def _send(self):
        block = b"x" * int(self.bytes_per_sec * self.SLICE_SECS)
        due = time.monotonic()
        with self.connection:
            while not self.stopping.is_set():
                self.connection.sendall(block)
                due = max(due + self.SLICE_SECS, time.monotonic() - self.SLICE_SECS)
                time.sleep(max(due - time.monotonic(), 0))

    def _receive(self, listener):
        connection, _ = listener.accept()
        with connection, listener:
            while block := connection.recv(1 << 18):
                self.received += len(block)


class UdpStream:
    """Numbered requests to a responder, at a steady pace, each answered or lost: nothing repeats them."""

    def __init__(self, world, client, server, per_sec=200):
        self.pause = 1 / per_sec
        self.sent, self.answered = {}, {}
        self.text = f"{client} {server}"
        with world.host(client).entered():
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((str(world.address(client)), 0))
        self.sock.connect((str(world.seen(server)), PORT))
        self.sock.settimeout(1.0)
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._receive)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        """Numbers that were never answered."""
        self.stopping.set()
        self.threads[0].join()
        time.sleep(0.5)
        self.sock.close()
        return sorted(set(self.sent) - set(self.answered))

    def longest_silence(self, since=0.0):
        """Seconds between two answers, or before the first; `since` a time of the monotonic clock, and until now if it goes on."""
        times = sorted([min(self.sent.values()), *self.answered.copy().values()])
        if not self.stopping.is_set():
            times.append(time.monotonic())
        times = [time for time in times if time >= since - self.pause]
        return max((later - earlier for earlier, later in zip(times, times[1:])), default=float("inf"))

    def _send(self):
        number = 0
        while not self.stopping.is_set():
            self.sent[number] = time.monotonic()
            try:
                self.sock.send(f"{self.text} {number}".encode())
            except OSError:
                pass  # an ICMP error about an earlier one: that one counts as lost
            number += 1
            time.sleep(self.pause)

    def _receive(self):
        while True:
            try:
                answer = self.sock.recv(2048).decode(errors="replace").split()
                self.answered[int(answer[-1])] = time.monotonic()
            except TimeoutError:
                continue
            except (OSError, ValueError, IndexError):
                if self.stopping.is_set():
                    return
