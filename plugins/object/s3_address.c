/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Where a bucket is: from s3://BUCKET/PREFIX and an endpoint to scheme, host
 * and style.  No I/O.
 *
 * Path style puts the bucket into the path, host style before the host's name.
 * Left to us it is path style where somebody named an endpoint, as few such
 * servers have a name for each bucket, and host style at Amazon, except for a
 * bucket with a dot, to which Amazon's certificate does not fit. */
#include "s3.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int wrong(char why[STORE_WHY_MAX], const char *what, const char *text)
{
    snprintf(why, STORE_WHY_MAX, "%.80s: %.70s", text, what);
    return EINVAL;
}

static bool is_bucket(const char *name, size_t length)
{
    if (length < 3 || length > S3_BUCKET_MAX)
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];

        if (!isalnum(c) && !strchr("-._:", c))
            return false;
    }
    return isalnum((unsigned char)name[0]) &&
           isalnum((unsigned char)name[length - 1]);
}

static int parse_url(const char *url, struct s3_address *ret,
                     char why[STORE_WHY_MAX])
{
    const char *bucket, *prefix;
    size_t length;

    if (strncmp(url, "s3://", 5) != 0)
        return wrong(why, url, "it must be s3://BUCKET/PREFIX");
    bucket = url + 5;
    length = strcspn(bucket, "/");
    if (!is_bucket(bucket, length))
        return wrong(why, url,
                     "a bucket's name has 3 to 63 letters, digits, dots "
                     "and hyphens");
    memcpy(ret->bucket, bucket, length);
    ret->bucket[length] = '\0';
    prefix = bucket + length;
    prefix += strspn(prefix, "/");
    length = strlen(prefix);
    while (length > 0 && prefix[length - 1] == '/')
        length--;
    if (length > S3_PREFIX_MAX)
        return wrong(why, url, "the prefix is longer than 512 bytes");
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)prefix[i] < 0x20 || prefix[i] == 0x7f)
            return wrong(why, url, "the prefix has a control character");
    memcpy(ret->prefix, prefix, length);
    strcpy(ret->prefix + length, length ? "/" : "");
    return 0;
}

/* HOST or HOST:PORT or [ADDRESS]:PORT, and nothing behind. */
static bool is_host(const char *host)
{
    size_t length;

    if (host[0] == '[') {
        length = strcspn(host, "]");
        if (!host[length] ||
            strspn(host + 1, "0123456789abcdefABCDEF:.") != length - 1)
            return false;
        host += length + 1;
    } else {
        length = strspn(host, "abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._");
        if (length == 0)
            return false;
        host += length;
    }
    if (!*host)
        return true;
    if (*host != ':')
        return false;
    length = strspn(host + 1, "0123456789");
    return length > 0 && length <= 5 && !host[1 + length] &&
           atoi(host + 1) > 0 && atoi(host + 1) <= 65535;
}

/* The Host header leaves the scheme's own port out, and so does a signature. */
static void drop_default_port(char *host, bool tls)
{
    const char *port = tls ? ":443" : ":80";
    size_t length = strlen(host);

    if (length > strlen(port) &&
        strcmp(host + length - strlen(port), port) == 0)
        host[length - strlen(port)] = '\0';
}

static int parse_endpoint(const char *endpoint, struct s3_address *ret,
                          char host[S3_HOST_MAX], char why[STORE_WHY_MAX])
{
    static const char allowed[] =
        "an endpoint is http://HOST[:PORT] or https://HOST[:PORT]";
    const char *name;
    size_t length;

    if (strncmp(endpoint, "https://", 8) == 0) {
        ret->tls = true;
        name = endpoint + 8;
    } else if (strncmp(endpoint, "http://", 7) == 0) {
        ret->tls = false;
        name = endpoint + 7;
    } else {
        return wrong(why, endpoint, allowed);
    }
    length = strlen(name);
    if (length > 0 && name[length - 1] == '/')
        length--;
    if (length == 0 || length > 253 + 6)
        return wrong(why, endpoint, allowed);
    memcpy(host, name, length);
    host[length] = '\0';
    if (!is_host(host))
        return wrong(why, endpoint, allowed);
    drop_default_port(host, ret->tls);
    return 0;
}

int s3_address(const struct store_s3_options *options, const char *endpoint,
               const char *region, struct s3_address *ret,
               char why[STORE_WHY_MAX])
{
    char host[S3_HOST_MAX];
    int err;

    memset(ret, 0, sizeof *ret);
    err = parse_url(options->url, ret, why);
    if (err)
        return err;
    if (region && (strlen(region) > 48 || !region[0] ||
                   strspn(region, "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-_") != strlen(region)))
        return wrong(why, region,
                     "a region has up to 48 letters, digits and hyphens");
    if (endpoint) {
        err = parse_endpoint(endpoint, ret, host, why);
    } else {
        ret->tls = true;
        snprintf(host, sizeof host, "s3.%s.amazonaws.com",
                 region ? region : "us-east-1");
    }
    if (err)
        return err;
    ret->path_style = options->path_style == S3_STYLE_PATH ||
                      (options->path_style == S3_STYLE_AUTO &&
                       (endpoint || (ret->tls && strchr(ret->bucket, '.'))));
    if (ret->path_style)
        snprintf(ret->host, sizeof ret->host, "%s", host);
    else if (host[0] == '[' || strchr(ret->bucket, ':'))
        return wrong(why, options->url,
                     "a host's address needs path-style=yes");
    else
        snprintf(ret->host, sizeof ret->host, "%s.%.250s", ret->bucket, host);
    return 0;
}
