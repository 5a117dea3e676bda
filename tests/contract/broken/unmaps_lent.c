/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Takes away what is lent when the next READ comes. */
#include "ram.h"

#include <sys/mman.h>

static void *page;

static void open_lending(struct abd_disk *disk)
{
    ram_fill(disk);
    disk->flags = ABD_DISK_LENDS;
    abd_opened(disk, 0);
}

static void release(void *arg)
{
    (void)arg;
}

static void submit(struct abd_request *request)
{
    struct abd_piece *piece = request->scratch;
    void *old;

    if (request->op != ABD_OP_READ || request->data) {
        ram_submit(request);
        return;
    }
    old = page;
    page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (old)
        mprotect(old, 1 << 20, PROT_NONE); /* its place is not used again */
    memcpy(page, ram_at(request), request->length);
    *piece = (struct abd_piece){
        .kind = ABD_PIECE_MEMORY, .length = request->length, .data = page};
    abd_complete_lent(request, piece, 1, release, NULL);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("unmaps-lent");
    plugin.submit = submit;
    plugin.open = open_lending;
    return &plugin;
}
