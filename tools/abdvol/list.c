/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdvol list: the volumes that lie directly below a URL, and one that is there
 * itself.
 *
 * A volume may have millions of objects, so they are not all listed: after the
 * first name of a folder, the next listing begins behind the folder. */
#include "tools/abdvol/abdvol.h"

#include "plugins/object/format.h"

#include "base/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sorts behind everything that is in a folder. */
#define BEHIND "/~"

struct found_volume {
    char name[STORE_NAME_MAX + 1]; /* "": the URL itself */
    struct superblock superblock;
    char why[STORE_WHY_MAX]; /* it can't be read; else "" */
};

static struct store_call call;
static struct found_volume *volumes;
static size_t volumes_n;
static char folder[STORE_NAME_MAX + 1], after[STORE_NAME_MAX + 4];
static char name[STORE_NAME_MAX + 16];
static char bytes[64 * 1024];
static bool seen;

static void list_next(void);

static void on_found(struct store_call *unused, const char *text, uint64_t size)
{
    (void)unused;
    (void)size;
    if (seen)
        return;
    seen = true;
    snprintf(folder, sizeof folder, "%.*s", (int)strcspn(text, "/"), text);
}

static int remember(const struct store_call *read)
{
    struct found_volume *more =
        realloc(volumes, (volumes_n + 1) * sizeof *volumes);
    struct found_volume *volume;
    const char *wrong = NULL;

    if (!more)
        return ENOMEM;
    volumes = more;
    volume = &volumes[volumes_n++];
    memset(volume, 0, sizeof *volume);
    if (strchr(name, '/'))
        snprintf(volume->name, sizeof volume->name, "%s", folder);
    if (read->result != STORE_OK)
        snprintf(volume->why, sizeof volume->why, "%s", read->why);
    else
        wrong = superblock_decode(bytes, read->got, &volume->superblock);
    if (wrong)
        snprintf(volume->why, sizeof volume->why, "%s", wrong);
    return 0;
}

static void on_read(struct store_call *read)
{
    if (read->result != STORE_MISSING && remember(read) != 0) {
        finish(ENOMEM, NULL);
        return;
    }
    list_next();
}

static void read_superblock(void)
{
    memset(&call, 0, sizeof call);
    call.verb = STORE_GET;
    call.name = name;
    call.into = bytes;
    call.into_max = sizeof bytes;
    call.done = on_read;
    store_start(self.store, &call);
}

static void on_listed(struct store_call *unused)
{
    if (unused->result != STORE_OK) {
        finish(EIO, unused->why);
        return;
    }
    if (!seen) {
        finish(0, NULL);
        return;
    }
    snprintf(after, sizeof after, "%s" BEHIND, folder);
    /* The URL's own superblock, or what may be one below it. */
    if (strcmp(folder, "volume") == 0)
        snprintf(name, sizeof name, "volume");
    else
        snprintf(name, sizeof name, "%s/volume", folder);
    read_superblock();
}

static void list_next(void)
{
    seen = false;
    memset(&call, 0, sizeof call);
    call.verb = STORE_LIST;
    call.name = "";
    call.after = after[0] ? after : NULL;
    call.found = on_found;
    call.done = on_listed;
    store_start(self.store, &call);
}

void list_run(void)
{
    list_next();
}

static void print_url(const struct found_volume *volume, char *ret, size_t size)
{
    size_t length = strlen(self.url);

    while (length > 0 && self.url[length - 1] == '/')
        length--;
    snprintf(ret, size, "%.*s%s%s", (int)length, self.url,
             volume->name[0] ? "/" : "", volume->name);
}

static void print_json(void)
{
    char url[2048], uuid[2 * UUID_SIZE + 1];
    struct json json = {0};
    char *text;

    json_open_array(&json, NULL);
    for (size_t i = 0; i < volumes_n; i++) {
        print_url(&volumes[i], url, sizeof url);
        json_open_object(&json, NULL);
        json_string(&json, "url", url);
        if (volumes[i].why[0]) {
            json_string(&json, "error", volumes[i].why);
        } else {
            uuid_print(volumes[i].superblock.uuid, uuid);
            json_string(&json, "uuid", uuid);
            json_number(&json, "size", volumes[i].superblock.size);
        }
        json_close_object(&json);
    }
    json_close_array(&json);
    text = json_finish(&json);
    puts(text ? text : "[]");
    free(text);
}

void list_print(void)
{
    char url[2048];

    if (self.json) {
        print_json();
    } else {
        for (size_t i = 0; i < volumes_n; i++) {
            print_url(&volumes[i], url, sizeof url);
            if (volumes[i].why[0])
                printf("%s  (%s)\n", url, volumes[i].why);
            else
                printf("%s  %" PRIu64 " bytes\n", url,
                       volumes[i].superblock.size);
        }
    }
    free(volumes);
}
