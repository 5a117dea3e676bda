# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""For tests of writers that take a volume from each other."""

from constants import CMD_FLUSH, CMD_WRITE
from nbdproto import Closed


def write_until_fenced(client, acknowledged):
    """Writes block after block, each flushed; appends the number that each got
    when that was acknowledged.  Ends with the first that fails."""
    number = 0
    try:
        while True:
            number += 1
            data = number.to_bytes(8, "big") * 512
            if client.call(CMD_WRITE, number % 64 * 4096, payload=data).error:
                return
            if client.call(CMD_FLUSH).error:
                return
            acknowledged.append(number)
    except (Closed, ConnectionError):
        pass
