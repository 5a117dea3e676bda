# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Signature Version 4, written apart from the plugin's so that one checks the
other: to verify what the plugin sends, and to ask real stores."""

import datetime
import hashlib
import hmac
import urllib.parse

EMPTY = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def canonical_query(query):
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    return "&".join("%s=%s" % pair for pair in sorted(pairs))


def signature(secret, method, path, query, headers, signed, payload_hash,
              date, region, service="s3"):
    """headers: a dict with lower-case names; path and query as they are sent."""
    request = "\n".join(
        [method, path, canonical_query(query)]
        + ["%s:%s" % (name, " ".join(headers.get(name, "").split()))
           for name in signed]
        + ["", ";".join(signed), payload_hash])
    day = date[:8]
    scope = "/".join([day, region, service, "aws4_request"])
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope,
                      hashlib.sha256(request.encode()).hexdigest()])
    key = mac(("AWS4" + secret).encode(), day)
    for part in (region, service, "aws4_request"):
        key = mac(key, part)
    return mac(key, text).hex()


def sign(access_key, secret, method, host, path, query="", body=b"",
         headers=(), region="us-east-1"):
    """The headers of a request to a real store."""
    now = datetime.datetime.now(datetime.timezone.utc)
    date = now.strftime("%Y%m%dT%H%M%SZ")
    payload_hash = hashlib.sha256(body).hexdigest()
    ret = dict(headers)
    ret.update({"host": host, "x-amz-date": date,
                "x-amz-content-sha256": payload_hash})
    signed = sorted(ret)
    ret["authorization"] = (
        "AWS4-HMAC-SHA256 Credential=%s/%s/%s/s3/aws4_request, "
        "SignedHeaders=%s, Signature=%s" % (
            access_key, date[:8], region, ";".join(signed),
            signature(secret, method, path, query, ret, signed, payload_hash,
                      date, region)))
    return ret


def quote(key):
    return urllib.parse.quote(key, safe="/-._~")
