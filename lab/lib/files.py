"""Files to move from one realm to another, and whether they arrived as they were."""

import hashlib
import os

BLOCK_BYTES = 1_000_000


def write_random(path, length):
    """A file of `length` random bytes; its SHA-256."""
    with open(path, "wb") as file:
        for start in range(0, length, BLOCK_BYTES):
            file.write(os.urandom(min(BLOCK_BYTES, length - start)))
    return sha256(path)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
