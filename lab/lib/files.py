"""Files to move from one realm to another: made, served, and whether they arrived as they were."""

import hashlib
import os
import sys

BLOCK_BYTES = 1_000_000


def write_random(path, length):
    """A file of `length` random bytes; its SHA-256."""
    with open(path, "wb") as file:
        for start in range(0, length, BLOCK_BYTES):
            file.write(os.urandom(min(BLOCK_BYTES, length - start)))
    return sha256(path)


def serve(world, label, folder, port):
    """A host serves a folder over HTTP; returns when it listens. Who asked for what stands in LABEL.FOLDER.log."""
    argv = [sys.executable, "-m", "http.server", "--bind", world.address(label), "--directory", folder, port]
    world.spawn(label, argv, folder.name)
    world.wait_for_port(label, port)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
