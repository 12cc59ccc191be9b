#!/usr/bin/env python3
"""Sends one snapshot to a collector, as docs/PROTOCOL.md says, and waits until it is durable.

Usage: send.py HOST PORT ROUTER_ID [COUNT]. Written from that page alone, standard library only.
"""
import socket
import struct
import sys
import time
import zlib

NAMESPACE = "urn:stormdrain:label-mapping:1"
HELLO, MAPPINGS, SNAPSHOT_COMPLETE, KEEPALIVE, BYE, ACK = 1, 2, 3, 4, 5, 6
SNAPSHOT_PART = 1
HEADER = struct.Struct(">4sBBHQIIII")

CRC_TABLE = []
for index in range(256):
    for _ in range(8):
        index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)
    CRC_TABLE.append(index)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def frame(kind, sequence=0, text="", flags=0, compress=False):
    plain = text.encode()
    payload = zlib.compress(plain) if compress else plain
    head = HEADER.pack(b"SDL1", kind, int(compress), flags, sequence,
                       len(payload), len(plain), crc32c(payload), 0)[:28]
    return head + struct.pack(">I", crc32c(head)) + payload


def hello(router, now):
    return (f'<hello xmlns="{NAMESPACE}" router-id="{router}" boot-time="{now:.6f}" sequence-first="1" '
            f'session="on-demand" acks="true" snapshot="true" clock="{now:.6f}" agent="send.py 1">'
            f'<interface address="{router}"/></hello>')


def document(router, mappings):
    return f'<label-mappings xmlns="{NAMESPACE}" router-id="{router}">{"".join(mappings)}</label-mappings>'


def swap(now, number):
    """The ILM entry of one loopback: label 1000 and up, to the next router."""
    prefix = f"10.0.{number // 256 % 256}.{number % 256}/32"
    return (f'<mapping timestamp="{now:.6f}"><fec type="ip" prefix="{prefix}"/>'
            f'<ingress label="{1000 + number}" origin="platform"/><operation type="swap">'
            f'<nhlfe label="{2000 + number}" next-hop="192.0.2.254"/></operation></mapping>')


def receive(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            sys.exit("the collector closed the connection; its log says why")
        data += part
    return data


def read_ack(connection):
    head = receive(connection, HEADER.size)
    magic, kind, _, _, sequence, payload_bytes, _, _, crc = HEADER.unpack(head)
    if magic != b"SDL1" or kind != ACK or payload_bytes or crc != crc32c(head[:28]):
        sys.exit(f"expected an ack, found {head.hex()}")
    return sequence


def main(host, port, router, count=10):
    now = time.time()
    mappings = [swap(now, number) for number in range(int(count))]
    half = len(mappings) // 2
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(frame(HELLO, text=hello(router, now)))
        connection.sendall(frame(MAPPINGS, 1, document(router, mappings[:half]), SNAPSHOT_PART, True))
        connection.sendall(frame(MAPPINGS, 2, document(router, mappings[half:]), SNAPSHOT_PART))
        connection.sendall(frame(SNAPSHOT_COMPLETE, 3))
        while read_ack(connection) < 3:
            pass
        connection.sendall(frame(BYE))
    print(f"{len(mappings)} mappings of {router} are durable")


if __name__ == "__main__":
    main(*sys.argv[1:])
