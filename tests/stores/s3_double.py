# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""A double of S3 that is as strict as S3 is where it matters to a client, and
fails as tests ask it to.

It checks signatures, payload hashes, checksums and clocks, creates only if
absent (an overwriting PUT is noted in `violations`), and serves ranges and
listings.  One thread for each connection.

A Fault takes effect on requests of its method and key.  Its kinds:

    status      answers `status` with `code`; with `after`, it does first what
                was asked
    reset       resets the connection after `at` bytes of the request's body
    reset_reply resets it after `at` bytes of the answer, which is true
    short       says the right length, and closes after `at` bytes of the body
    less        206, but with `at` bytes less than the Content-Range says
    error_200   an error document with status 200; with `after`, as above
    html        `status`, with a page as a proxy would send it
    garbage     no HTTP at all
    longer      a body that is longer than what was asked for
    range       another Content-Range than the one asked for
    stall       waits until `event` is set, before; with `after`, after
    slow        answers byte by byte, `pause` seconds apart
    stale       a listing without the newest `at` keys
    chunked     Transfer-Encoding: chunked
    close       closes the connection after the answer
"""

import base64
import datetime
import hashlib
import re
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

import s3_sign

CHECKED_MAX = 1 << 18           # bytes of a body whose checksum is verified
SKEW_MAX = 900                  # seconds
EXTRA = b"more than was asked for"
REASONS = {200: "OK", 204: "No Content", 206: "Partial Content"}


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xffffffff


class Fault:
    def __init__(self, kind, method=None, key=None, times=1, skip=0,
                 status=500, code="InternalError", headers=(), at=0,
                 after=False, event=None, pause=0):
        self.kind, self.method, self.times = kind, method, times
        self.key = re.compile(key) if key else None
        self.skip, self.status, self.code = skip, status, code
        self.headers, self.at, self.after = dict(headers), at, after
        self.event, self.pause, self.fired = event, pause, 0

    def concerns(self, request):
        return ((self.method is None or self.method == request.method)
                and (self.key is None or self.key.search(request.key)))


class Closed(Exception):
    """The connection is over."""


class Refused(Exception):
    def __init__(self, status, code, message="", **headers):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message
        self.headers = headers


class Request:
    def __init__(self, method, target, headers):
        self.method, self.headers = method, headers
        self.path, _, self.query = target.partition("?")
        self.fields = dict(urllib.parse.parse_qsl(
            self.query, keep_blank_values=True))
        self.key, self.body, self.fault = "", b"", None


class S3Double:
    def __init__(self, access_key="AKIDEXAMPLE", secret="not/so+secret",
                 bucket="disks", region="us-east-1", certificate=None):
        self.keys = {access_key: secret}
        self.tokens = {}        # access key -> the token that is good, or None
        self.bucket, self.region = bucket, region
        self.objects, self.order = {}, []
        self.log, self.violations, self.faults = [], [], []
        self.skew = 0           # seconds that our clock is ahead
        self.lock = threading.Lock()
        self.connections = set()
        self.accepted = 0
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificate)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.stopped = threading.Event()
        self.threads = []
        self.start_thread(self.accept)

    @property
    def endpoint(self):
        return "%s://%s:%d" % ("https" if self.tls else "http",
                               "localhost" if self.tls else "127.0.0.1",
                               self.port)

    def start_thread(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def stop(self):
        self.stopped.set()
        for fault in self.faults:
            if fault.event:
                fault.event.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop_connections()
        for thread in self.threads:
            thread.join(10)

    def drop_connections(self):
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def fault(self, kind, **more):
        fault = Fault(kind, **more)
        with self.lock:
            self.faults.append(fault)
        return fault

    def count(self, method, key=None):
        with self.lock:
            return sum(1 for entry in self.log if entry[0] == method
                       and (key is None or re.search(key, entry[1])))

    # Connections.

    def accept(self):
        while not self.stopped.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self.start_thread(self.serve, connection)

    def serve(self, connection):
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with self.lock:
                self.connections.add(connection)
            stream = connection.makefile("rb", 1 << 16)
            while self.serve_one(connection, stream):
                pass
        except (OSError, Closed, ValueError):
            pass
        finally:
            with self.lock:
                self.connections.discard(connection)
            connection.close()

    def read_head(self, stream):
        line = stream.readline(8192)
        if not line:
            raise Closed()
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = {}
        while True:
            line = stream.readline(16384).decode("latin-1")
            if line in ("\r\n", ""):
                break
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Request(method, target, headers)

    def read_body(self, connection, stream, request):
        left = int(request.headers.get("content-length", "0"))
        fault = request.fault
        if request.headers.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault and fault.kind == "reset" and fault.at <= left:
            stream.read(fault.at)
            self.reset(connection)
        request.body = stream.read(left)
        if len(request.body) < left:
            raise Closed()

    @staticmethod
    def reset(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                              struct.pack("ii", 1, 0))
        raise Closed()

    def choose_fault(self, request):
        with self.lock:
            for fault in self.faults:
                if fault.fired < fault.times and fault.concerns(request):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.fired += 1
                    return fault
        return None

    def serve_one(self, connection, stream):
        request = self.read_head(stream)
        host = request.headers.get("host", "")
        path = urllib.parse.unquote(request.path)
        if host.startswith(self.bucket + "."):
            request.key = path[1:]
        elif path == "/" + self.bucket or path.startswith(
                "/" + self.bucket + "/"):
            request.key = path[len(self.bucket) + 2:]
        else:
            request.key = None
        fault = None
        if request.key is not None:
            fault = request.fault = self.choose_fault(request)
        self.read_body(connection, stream, request)
        status, headers, body = self.answer(request)
        with self.lock:
            self.log.append((request.method, request.key or "",
                             request.headers, status, len(request.body),
                             len(body)))
        self.send(connection, request, fault, status, headers, body)
        return not (fault and fault.kind == "close")

    # Answers.

    def document(self, code, message=""):
        return ("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s"
                "</Code><Message>%s</Message><RequestId>1</RequestId>"
                "</Error>" % (code, escape(message))).encode()

    def answer(self, request):
        fault = request.fault
        kind = fault.kind if fault else None
        if kind == "stall" and not fault.after:
            fault.event.wait()
        try:
            if kind in ("status", "error_200") and not fault.after:
                raise Refused(fault.status if kind == "status" else 200,
                              fault.code, "as it was planned",
                              **fault.headers)
            if request.key is None:
                raise Refused(404, "NoSuchBucket", "there is no such bucket")
            self.check(request)
            reply = self.perform(request)
            if kind in ("status", "error_200"):
                raise Refused(fault.status if kind == "status" else 200,
                              fault.code, "as it was planned",
                              **fault.headers)
        except Refused as refused:
            reply = (refused.status, refused.headers,
                     self.document(refused.code, refused.message))
        if kind == "stall" and fault.after:
            fault.event.wait()
        if kind == "html":
            reply = (fault.status, {"Content-Type": "text/html"},
                     b"<!DOCTYPE html><html><body><h1>Sorry</h1><br>"
                     b"</body></html>")
        return reply

    def check(self, request):
        headers = request.headers
        match = re.match(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/"
            r"aws4_request, *SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})$",
            headers.get("authorization", ""))
        if not match:
            raise Refused(403, "AccessDenied", "it is not signed")
        access_key, day, region, signed, given = match.groups()
        signed = signed.split(";")
        date = headers.get("x-amz-date", "")
        if access_key not in self.keys:
            raise Refused(403, "InvalidAccessKeyId", "there is no such key")
        if region != self.region:
            raise Refused(400, "AuthorizationHeaderMalformed",
                          "the region is wrong; expecting '%s'" % self.region)
        when = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(
            tzinfo=datetime.timezone.utc).timestamp()
        if abs(when - time.time() - self.skew) > SKEW_MAX or \
                day != date[:8]:
            raise Refused(403, "RequestTimeTooSkewed",
                          "the clocks are too far apart")
        unsigned = [name for name in headers if name not in signed
                    and (name.startswith("x-amz-") or name in
                         ("host", "if-none-match"))]
        if unsigned or signed != sorted(signed):
            raise Refused(403, "AccessDenied", "not signed: %s" % unsigned)
        payload = headers.get("x-amz-content-sha256", "")
        if given != s3_sign.signature(
                self.keys[access_key], request.method, request.path,
                request.query, headers, signed, payload, date, region):
            raise Refused(403, "SignatureDoesNotMatch",
                          "the signature is another one")
        if headers.get("x-amz-security-token") != self.tokens.get(access_key):
            raise Refused(400, "ExpiredToken", "the token has expired")
        self.check_payload(request, payload)

    def check_payload(self, request, payload):
        if payload == s3_sign.UNSIGNED:
            if not self.tls:
                raise Refused(400, "InvalidRequest", "unsigned without TLS")
        elif payload != hashlib.sha256(request.body).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch",
                          "the body is not what was signed")
        given = request.headers.get("x-amz-checksum-crc32c")
        if given and len(request.body) <= CHECKED_MAX:
            crc = base64.b64encode(struct.pack(">I", crc32c(request.body)))
            if given != crc.decode():
                raise Refused(400, "BadDigest", "the checksum is wrong")

    def perform(self, request):
        if request.method == "GET" and "list-type" in request.fields:
            return self.list(request)
        if not request.key:
            raise Refused(405, "MethodNotAllowed")
        return {"PUT": self.put, "GET": self.get,
                "DELETE": self.delete}[request.method](request)

    def put(self, request):
        condition = request.headers.get("if-none-match")
        with self.lock:
            if request.key in self.objects:
                if condition == "*":
                    raise Refused(412, "PreconditionFailed",
                                  "it exists already")
                self.violations.append("overwritten: " + request.key)
            elif condition != "*":
                self.violations.append("no condition: " + request.key)
            self.objects[request.key] = request.body
            self.order.append(request.key)
        return 200, {}, b""

    def get(self, request):
        with self.lock:
            body = self.objects.get(request.key)
        if body is None:
            raise Refused(404, "NoSuchKey", "the key does not exist")
        match = re.match(r"bytes=(\d+)-(\d*)$",
                         request.headers.get("range", ""))
        if not match:
            return 200, {}, body
        first = int(match[1])
        last = min(int(match[2] or len(body)), len(body) - 1)
        if first >= len(body):
            raise Refused(416, "InvalidRange", **{
                "Content-Range": "bytes */%d" % len(body)})
        shown = first
        if request.fault and request.fault.kind == "range":
            shown += 1
        return 206, {"Content-Range": "bytes %d-%d/%d" % (
            shown, last, len(body))}, body[first:last + 1]

    def delete(self, request):
        with self.lock:
            if self.objects.pop(request.key, None) is not None:
                self.order.remove(request.key)
        return 204, {}, b""

    def list(self, request):
        prefix = request.fields.get("prefix", "")
        after = request.fields.get("start-after", "")
        most = min(int(request.fields.get("max-keys", "1000")), 1000)
        with self.lock:
            hidden = ()
            if request.fault and request.fault.kind == "stale":
                hidden = self.order[-request.fault.at:]
            keys = sorted(key for key in self.objects
                          if key.startswith(prefix) and key > after
                          and key not in hidden)
            contents = "".join(
                "<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z"
                "</LastModified><Size>%d</Size></Contents>" % (
                    escape(key), len(self.objects[key]))
                for key in keys[:most])
        more = len(keys) > most
        return 200, {"Content-Type": "application/xml"}, (
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
            "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>%s"
            "</Name><Prefix>%s</Prefix><IsTruncated>%s</IsTruncated>%s%s"
            "</ListBucketResult>" % (
                self.bucket, escape(prefix), "true" if more else "false",
                "<NextContinuationToken>x</NextContinuationToken>" if more
                else "", contents)).encode()

    def send(self, connection, request, fault, status, headers, body):
        kind = fault.kind if fault else None
        length = len(body)
        if kind == "garbage":
            connection.sendall(b"SSH-2.0-no-http-here\r\n" * 8)
            raise Closed()
        if kind == "less":
            body = body[:max(len(body) - fault.at, 0)]
            length = len(body)
        elif kind == "longer":
            body += EXTRA
            length = len(body)
        elif kind == "short":
            body = body[:fault.at]
        date = datetime.datetime.fromtimestamp(
            time.time() + self.skew, datetime.timezone.utc)
        head = ["HTTP/1.1 %d %s" % (status, REASONS.get(status, "Planned")),
                "Date: " + date.strftime("%a, %d %b %Y %H:%M:%S GMT")]
        head += ["%s: %s" % pair for pair in headers.items()]
        if kind == "chunked":
            head.append("Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in
                            [body[at:at + 1000]
                             for at in range(0, len(body), 1000)] + [b""])
        elif status != 204:
            head.append("Content-Length: %d" % length)
        if kind == "close":
            head.append("Connection: close")
        data = "\r\n".join(head + ["", ""]).encode() + body
        if kind == "reset_reply":
            connection.sendall(data[:fault.at])
            self.reset(connection)
        if kind == "slow":
            for at in range(len(data)):
                connection.sendall(data[at:at + 1])
                if self.stopped.wait(fault.pause):
                    raise Closed()
            return
        connection.sendall(data)
        if kind == "short":
            raise Closed()
