#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""nginx as a store, for measuring: the fastest there is here, with a latency of
its own if that is wanted.

    nginx.py [LATENCY_MS]   starts it, says where it is, waits for the end of its
                            input, and ends it

It does as much of S3 as a volume needs: PUT only if absent (not atomically, so
it is no store for two writers), GET with ranges, DELETE, a listing that is
always empty (which is allowed: it is a hint), and S3's document for what is
missing.  Nobody checks signatures."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

CONF = """{modules}worker_processes 1;
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile 8192;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 600;
    keepalive_requests 100000000;
    client_max_body_size 0;
    client_body_temp_path {data}/.tmp;
    client_body_buffer_size 128k;
    default_type application/octet-stream;
    proxy_temp_path {folder}/t1;
    fastcgi_temp_path {folder}/t2;
    uwsgi_temp_path {folder}/t3;
    scgi_temp_path {folder}/t4;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {data};
        set $made "";
        if ($http_if_none_match = "*") {{ set $made "P"; }}
        if (-f $request_filename) {{ set $made "${{made}}E"; }}
        if ($made = "PE") {{ return 412; }}
        if ($args ~ "list-type=2") {{ return 200 '<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'; }}
        error_page 404 = @missing;
        location / {{
            {latency}
        }}
        location @real {{
            dav_methods PUT DELETE MKCOL;
            create_full_put_path on;
            dav_access user:rw;
            etag off;
            error_page 404 = @missing;
        }}
        location @missing {{
            default_type application/xml;
            return 404 '<Error><Code>NoSuchKey</Code><Message>-</Message></Error>';
        }}
    }}
}}
"""
REAL = """dav_methods PUT DELETE MKCOL;
            create_full_put_path on;
            dav_access user:rw;
            etag off;"""
ECHO_PLACES = ("/usr/lib/nginx/modules/ngx_http_echo_module.so",)


class Nginx:
    def __init__(self, latency_ms=0, data=None):
        """data: where the objects are; otherwise in memory, if there is room."""
        if not shutil.which("nginx"):
            raise unittest.SkipTest("no nginx: package nginx-light")
        if latency_ms and not any(map(os.path.exists, ECHO_PLACES)):
            raise unittest.SkipTest("no package libnginx-mod-http-echo")
        self.folder = tempfile.mkdtemp(prefix="abdtest-nginx-")
        self.own_data = data is None
        self.data = data or tempfile.mkdtemp(
            prefix="abdtest-objects-",
            dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        os.chmod(self.folder, 0o755)
        os.chmod(self.data, 0o755)
        self.access_key, self.secret, self.bucket = "any", "any", "disks"
        self.process = None
        try:
            self.start(latency_ms)
        except BaseException:
            self.stop()
            raise

    def start(self, latency_ms):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.endpoint = "http://127.0.0.1:%d" % self.port
        latency = REAL
        if latency_ms:
            latency = "echo_sleep %.3f; echo_exec @real;" % (latency_ms / 1e3)
        conf = os.path.join(self.folder, "nginx.conf")
        with open(conf, "w") as file:
            file.write(CONF.format(
                modules="load_module %s;\n" % ECHO_PLACES[0]
                if latency_ms else "", folder=self.folder, data=self.data,
                port=self.port, latency=latency))
        with open(os.path.join(self.folder, "out"), "wb") as out:
            self.process = subprocess.Popen(
                ["nginx", "-c", conf, "-p", self.folder, "-g",
                 "user root;" if os.getuid() == 0 else ""],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        end, pause = time.monotonic() + 20, 0.01
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port,
                                                        timeout=10)
                connection.request("GET", "/nothing")
                connection.getresponse().read()
                connection.close()
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    with open(os.path.join(self.folder, "out")) as file:
                        raise AssertionError("nginx: " + file.read())
            time.sleep(pause)

    def clear(self):
        """Forgets all objects."""
        for name in os.listdir(self.data):
            if name != ".tmp":
                path = os.path.join(self.data, name)
                if os.path.isdir(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.own_data:
            shutil.rmtree(self.data, ignore_errors=True)


def main():
    store = Nginx(float(sys.argv[1]) if len(sys.argv) > 1 else 0)
    try:
        print("endpoint=%s bucket=%s data=%s" % (store.endpoint, store.bucket,
                                                 store.data), flush=True)
        sys.stdin.read()
    finally:
        store.stop()


if __name__ == "__main__":
    main()
