/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */
/* abd-filter.h - a filter is a plugin with a disk below it.
 *
 * Everything in abd-plugin.h holds: a filter's submit() owns the request until
 * it ends it, by one of abd_complete(), abd_fail(), abd_complete_lent(),
 * abd_complete_as() or abd_forward().
 *
 * BELOW         By default (open is NULL) the server opens the disk below and
 *               the filter's disk says what that one says.  A filter with its
 *               own open() calls abd_open_below(), then abd_inherit(), changes
 *               what it changes, and ends with abd_opened().
 * SHARING       Over a disk of one client a layer is that client's own, over a
 *               shared one it is shared, unless it says ABD_PLUGIN_PER_CLIENT.
 *               With ABD_FILTER_ONE (a cache, an overlay) it is shared in any
 *               case, and so is what is below it, as if for one client.
 * THREADS       A chain is as parallel as its least parallel layer; abd_inherit
 *               takes ABD_DISK_PARALLEL away unless ABD_FILTER_PARALLEL is set.
 *               Everything called back here runs on the thread of submit(),
 *               whatever thread completed the request below.
 * LENDING       READs come with data NULL only if every layer from here down
 *               lends, and this filter sets ABD_FILTER_LENDS.  A lending disk
 *               below may get data all the same; the server copies then.
 * LIMITS        Each disk below gets only its max_requests, aligned data, and
 *               at most its max_transfer; the server queues, bounces and cuts.
 *               What breaks block_min of the disk below is a bug of the filter,
 *               and ends with EINVAL.
 * FLUSH         A filter that completes a write before the disk below has it
 *               (write-back) must write it down before it forwards a FLUSH.
 */
#ifndef ABD_FILTER_H
#define ABD_FILTER_H

#include "abd-plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

enum abd_filter_flag {
    ABD_FILTER_PARALLEL = 1,
    ABD_FILTER_LENDS = 2,
    ABD_FILTER_ONE = 4,
};

/* abd_filter_entry() in the shared object returns one of these.  A key that is
 * in plugin->parameters is the filter's; every other goes to the next layer.
 * submit NULL: everything is forwarded.  admit: outermost layer first, then the
 * first disk that it has open below; leave: the other way round, for every disk
 * that admitted. */
struct abd_filter {
    uint32_t abi;         /* ABD_ABI */
    uint32_t struct_size; /* sizeof(struct abd_filter) */
    const struct abd_plugin *plugin;
    uint32_t flags;      /* enum abd_filter_flag */
    uint32_t children;   /* at once for one request of the filter, at most 16;
                            not counting one whose ended() is being called */
    uint32_t background; /* at once for none (NULL parent), for each disk */
};
const struct abd_filter *abd_filter_entry(void);

/* Opens a disk of the layer below, for a disk of this one; export_name NULL:
 * the same.  opened() gets it or an error.  It is this disk's own until it is
 * closed (the server may share it underneath), which must be before
 * abd_closed(); a filter may have several, and may close one and open it again
 * while requests wait (retry).  One that is to be closed must have no request
 * of this filter in flight.  A client's own disk is then really closed (when
 * what it has lent is back), and admits its client again; a shared one stays
 * open for its clients; until it is there again new ones are refused, because
 * it can't be asked.  One that
 * is opened after abd_opened() is refused with EINVAL if it is not parallel, or
 * lends less, where this disk has promised it. */
void abd_open_below(struct abd_disk *disk, const char *export_name,
                    bool read_only,
                    void (*opened)(struct abd_disk *disk,
                                   struct abd_disk *below, int error));
void abd_close_below(struct abd_disk *disk, struct abd_disk *below,
                     void (*closed)(struct abd_disk *disk));

/* Copies all that below says of itself to disk, except state, and takes away
 * the flags that this filter does not have, and ABD_DISK_INLINE. */
void abd_inherit(struct abd_disk *disk, const struct abd_disk *below);

/* Hands the request on, at another offset if need be (flags and length stay).
 * The filter has given it away, unless after is not NULL: then after() is
 * called once when the disk below has ended it, may look at all of it (a READ's
 * data, but not what was lent) and change a READ's data, and returns the error
 * to pass on.  Meanwhile scratch is kept.  Extents and the offset of an error
 * count from the start of the request, so they need no translation.  Not for
 * requests that are to go on later: those need a child. */
void abd_forward(struct abd_request *request, struct abd_disk *below,
                 uint64_t offset,
                 int (*after)(struct abd_request *request, int error));

/* A request of the filter's own.  data is the filter's, and may be part of the
 * parent's; it stays until the end.  For a READ it may be NULL if below lends
 * and length >= below->lend_min. */
struct abd_io {
    uint32_t op, flags;
    uint64_t offset, length;
    void *data;
};

/* Submits it.  ended(child, error, arg) is called once, never from inside this
 * call; the child is gone when it returns.  parent: the request it is for,
 * which must not be ended before, and whose client and cancellation it shares;
 * NULL: none.  It cannot fail or run out of memory within children and
 * background; beyond them the server aborts.  Returns the child. */
struct abd_request *abd_child(
    struct abd_request *parent, struct abd_disk *below, const struct abd_io *io,
    void (*ended)(struct abd_request *child, int error, void *arg), void *arg);

/* Inside ended() only: what the child brought.  Both belong to the server. */
struct abd_extent {
    uint64_t length;
    uint32_t flags; /* enum abd_extent_flag */
};
const struct abd_extent *abd_child_extents(const struct abd_request *child,
                                           unsigned *ret_n);
const struct abd_piece *abd_child_pieces(const struct abd_request *child,
                                         unsigned *ret_n);

/* Inside ended() only: ends request as the child ended: its error with offset
 * and text, its extents, and what was lent, handed over without a copy.  For a
 * READ both must be of one length; data elsewhere than request's is copied. */
void abd_complete_as(struct abd_request *request, struct abd_request *child);

/* Advises the disk below that the child is not wanted.  It still ends. */
void abd_cancel_child(struct abd_request *child);

#ifdef __cplusplus
}
#endif
#endif
