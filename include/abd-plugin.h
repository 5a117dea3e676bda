/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */
/* abd-plugin.h - how a disk plugs into the server.
 *
 * The server hands a plugin requests; the plugin ends each one by completing
 * it, now or later, from any thread.  No request ends any other way.
 *
 * OWNERSHIP     From submit() until it completes a request the plugin owns it
 *               and all it points to: nothing of it moves or is freed, even if
 *               the client has gone.  Afterwards it must not be touched.
 * EXACTLY ONCE  A second completion aborts, with the plugin's name, as long as
 *               the request's memory is not in use again (it never is under
 *               -D server.requests=1 and in the contract kit), unless two
 *               threads do it in the very same nanoseconds.
 * REENTRY       abd_*() functions of this header may be called from any thread
 *               (completions also from inside submit()), never block, and never
 *               call back into the plugin: it may hold locks around them.
 * THREADS       Callbacks with a disk or request must not block.  Those of one
 *               disk run on the thread of disk->loop, one at a time.  With
 *               ABD_DISK_PARALLEL, submit, kick, cancel, admit, leave and
 *               release() run on the loop of the client, several at once.
 * LIMITS        At most max_requests requests are in a disk.  There is no
 *               "busy" answer: a plugin that must wait keeps the request.
 * PROGRESS      A completion must never wait for a later request to arrive
 *               (what would end the wait may lie in a socket nobody reads).
 * ORDER         Requests in flight together may take effect in any order.  A
 *               FLUSH covers every WRITE, ZERO and TRIM completed, for any
 *               client, before the FLUSH was submitted.
 * CANCELLATION  Is only advice: a cancelled request must still be completed.
 * LIFETIME      create, config, ready, start; any number of open ... close;
 *               destroy.  close() comes when the disk has no request and no
 *               client; nothing follows abd_closed().  An unused disk may be
 *               closed and opened again at any time: what must outlive that
 *               belongs to the instance.  The plugin is never unloaded.
 */
#ifndef ABD_PLUGIN_H
#define ABD_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ABD_ABI 1

enum abd_op {
    ABD_OP_READ = 1, /* fill data[0..length), or lend */
    ABD_OP_WRITE,    /* store data[0..length) */
    ABD_OP_ZERO,     /* make the range read as zeroes */
    ABD_OP_TRIM,     /* hint: the range is no longer needed */
    ABD_OP_FLUSH,    /* make completed writes durable: see ORDER */
    ABD_OP_EXTENTS,  /* describe the range with abd_add_extent() */
    ABD_OP_CACHE,    /* hint: the range will be read soon */
};

enum abd_request_flag {
    ABD_REQ_FUA = 1,      /* WRITE, ZERO, TRIM: durable before completion */
    ABD_REQ_MAY_TRIM = 2, /* ZERO: may leave a hole */
    ABD_REQ_FAST = 4,     /* ZERO: if it would be slow, fail with ENOTSUP */
    ABD_REQ_ONE = 8,      /* EXTENTS: one extent is enough */
};
/* EMULATE: the server completes the write, flushes, then replies (one flush may
 * serve many writes).  It needs ABD_OP_FLUSH.  NONE: not offered, EINVAL. */
enum abd_fua { ABD_FUA_NONE, ABD_FUA_EMULATE, ABD_FUA_NATIVE };

enum abd_disk_flag {
    ABD_DISK_PARALLEL = 1, /* see THREADS */
    ABD_DISK_INLINE = 2,   /* submit() always completes before it returns */
    ABD_DISK_LENDS = 4,    /* READ: data may be NULL, see abd_complete_lent */
    ABD_DISK_ROTATIONAL = 8,
    ABD_DISK_FAST_ZERO = 16,  /* honours ABD_REQ_FAST */
    ABD_DISK_MULTI_CONN = 32, /* PER_CLIENT: a flush covers all clients */
    ABD_DISK_HIDES_ZERO = 64, /* clients are not offered to write zeroes */
};

enum abd_plugin_flag {
    ABD_PLUGIN_EXPORTS = 1,    /* a disk for each name; else one for all */
    ABD_PLUGIN_PER_CLIENT = 2, /* every client gets a disk of its own */
    ABD_PLUGIN_REGISTERS = 4,  /* data always lies in abd_memory() */
};

/* One configured use of a plugin.  The server's; the plugin owns state. */
struct abd_instance {
    const char *name; /* as on the command line */
    bool read_only;   /* -r */
    void *state;
};

/* A connection.  The server's; valid from admit() to leave(), in a request, and
 * as long as a PER_CLIENT disk.  Unknown: NULL or -1. */
struct abd_client {
    uint64_t id;                    /* never used twice */
    const char *address, *identity; /* identity: what TLS proved */
    int64_t pid, uid, gid;
    bool tls;
};

/* One opened disk.  The server owns it and fills in the part above the line;
 * open() the rest, read-only after abd_opened(), but for state, which is never
 * looked at.  Past struct_size: nothing. */
struct abd_disk {
    size_t struct_size;
    struct abd_instance *instance;
    struct abd_loop *loop;           /* abd-loop.h */
    const struct abd_client *client; /* PER_CLIENT; else NULL */
    const char *export_name;         /* as asked for; "": the default one */
    bool read_only;                  /* the server will never write */
    /* ---- */
    void *state;
    const char *canonical_name, *description; /* or NULL; until abd_closed() */
    uint64_t size;                            /* at most INT64_MAX */
    /* The server cuts what is longer.  READ, WRITE: 0 means 1 MiB, else a
     * multiple of 4096.  ZERO, TRIM, and EXTENTS and CACHE with max_trim: 0
     * means any length. */
    uint64_t max_transfer, max_zero, max_trim;
    /* Told to clients; 0: 1, 4096, and as much as the server can carry. */
    uint32_t block_min, block_preferred, block_max;
    uint32_t data_alignment; /* a power of 2 up to a page, which is meant by 0;
                                with INLINE 0 is none */
    uint32_t ops;            /* 1 << ABD_OP_READ ...; no WRITE: read-only */
    uint32_t flags;          /* enum abd_disk_flag */
    uint32_t fua;            /* enum abd_fua */
    uint32_t max_requests;   /* 0: server's default */
    uint32_t lend_min;       /* LENDS: shorter READs come with data */
};

/* One request.  The range lies inside the disk and obeys block_min; length is 0
 * for FLUSH only.  The plugin may write to *scratch and a READ's *data. */
struct abd_request {
    struct abd_disk *disk;
    const struct abd_client *client; /* NULL: the server's or a filter's own */
    uint64_t id;                     /* never used twice; for logs */
    uint32_t op, flags;
    uint64_t offset, length;
    void *data;    /* READ, WRITE; otherwise NULL */
    void *scratch; /* scratch_size bytes, zero at submit(); after a lent
                      completion it stays until release() has returned */
};

/* error: 0 or an errno value.  Sent as it is: EPERM EIO ENOMEM EINVAL ENOSPC
 * ESHUTDOWN; EROFS, EACCES as EPERM; EDQUOT, EFBIG as ENOSPC; the rest as EIO.
 * ENOTSUP to ZERO without ABD_REQ_FAST makes the server write zeroes. */
void abd_complete(struct abd_request *request, int error);

/* The same, with a text for the client (copied) and the first failed byte,
 * counted from the start of the request. */
#define ABD_NO_OFFSET UINT64_MAX
void abd_fail(struct abd_request *request, int error, uint64_t at,
              const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Ends a READ of a disk with ABD_DISK_LENDS with what the plugin owns, sent
 * without a copy (or copied to data where that is not NULL).  The pieces cover
 * exactly length bytes, at most ABD_PIECES_MAX; they, and what they point to,
 * stay until release(arg), called once, on the thread of submit(), when the
 * bytes have left or the client has gone.  Bytes that a later WRITE changes
 * meanwhile may arrive old, new or mixed, as in any READ in flight with a
 * WRITE.  A FILE piece must be resident or
 * quick: the loop sends it.  A HOLE is sent as one where the client knows. */
#define ABD_PIECES_MAX 1024
enum abd_piece_kind { ABD_PIECE_HOLE, ABD_PIECE_MEMORY, ABD_PIECE_FILE };
struct abd_piece {
    uint32_t kind;
    int fd; /* FILE, from fd_offset on */
    uint64_t fd_offset, length;
    const void *data; /* MEMORY */
};
void abd_complete_lent(struct abd_request *request,
                       const struct abd_piece *pieces, unsigned n,
                       void (*release)(void *arg), void *arg);

/* Adds the next extent of an EXTENTS request; false: no more is wanted.  The
 * last may reach past the range, up to the disk's end; one of no length is
 * ignored.  None at all: data. */
enum abd_extent_flag { ABD_EXTENT_HOLE = 1, ABD_EXTENT_ZERO = 2 };
bool abd_add_extent(struct abd_request *request, uint64_t length,
                    uint32_t flags);

/* True once nobody waits for the answer: worth a look between two steps. */
bool abd_cancelled(const struct abd_request *request);

void abd_opened(struct abd_disk *disk, int error); /* ENOENT: no such export */
void abd_closed(struct abd_disk *disk);

/* Answers LIST, without opening anything.  Strings are copied. */
struct abd_exports {
    struct abd_instance *instance;
    const struct abd_client *client;
};
void abd_add_export(struct abd_exports *exports, const char *name,
                    const char *description);
void abd_exports_done(struct abd_exports *exports, int error);

/* An array of them ends with a NULL name. */
struct abd_parameter {
    const char *name, *help;
};
/* -D plugin.name=N; the array ends likewise. */
struct abd_debug_flag {
    const char *name;
    int *value;
};

/* abd_plugin_entry() in the shared object returns one of these.  All callbacks
 * but open, submit and close may be NULL.  int: 0 or an errno value, after an
 * abd_log() that says what was wrong. */
struct abd_status;
struct abd_plugin {
    uint32_t abi;         /* ABD_ABI */
    uint32_t struct_size; /* sizeof(struct abd_plugin): fields may be added */
    const char *name, *longname, *version, *description;
    const struct abd_parameter *parameters; /* NULL: config() sees every key */
    const char *magic_key; /* the key of a parameter given without one */
    const struct abd_debug_flag *debug_flags;
    uint32_t flags;        /* enum abd_plugin_flag */
    uint32_t scratch_size; /* bytes per request, at most 256 */

    /* On the main thread, one at a time, may block. */
    int (*create)(struct abd_instance *);
    int (*config)(struct abd_instance *, const char *key, const char *value);
    int (*ready)(struct abd_instance *); /* all config seen; still privileged */
    int (*start)(struct abd_instance *); /* loops run, privileges dropped */
    void (*dump)(struct abd_instance *); /* more lines for --dump-plugin */
    void (*destroy)(struct abd_instance *); /* if create() gave 0 */
    /* On a loop, must not block: abd_work_start() is for what would. */
    void (*exports)(struct abd_exports *); /* ends with abd_exports_done() */
    void (*open)(struct abd_disk *);       /* ends with abd_opened() */
    int (*admit)(struct abd_disk *, const struct abd_client *);
    void (*leave)(struct abd_disk *, const struct abd_client *);
    void (*submit)(struct abd_request *); /* ends with a completion */
    void (*kick)(struct abd_disk *);      /* once after a batch of submit() */
    /* On the thread of submit(), while the request is valid memory; another
     * thread may just have completed it: look at scratch only, under a lock. */
    void (*cancel)(struct abd_request *);
    void (*close)(struct abd_disk *); /* ends with abd_closed() */
    /* Somebody asks for the server's status (--status): what only the plugin
     * knows, by abd_status_...().  On the disk's loop, while it is open and not
     * being closed; it must not block, and calls nothing else of the server's.
     * May be NULL. */
    void (*status)(struct abd_disk *, struct abd_status *);
};
const struct abd_plugin *abd_plugin_entry(void);

/* For status() only: members of the JSON object "details" of the disk.  Keys
 * are static text, as the server's own: words with "_" between them; the unit
 * is their end ("_ns", "_bytes").  What is opened is closed again. */
void abd_status_number(struct abd_status *status, const char *key,
                       uint64_t value);
void abd_status_text(struct abd_status *status, const char *key,
                     const char *value);
void abd_status_open(struct abd_status *status, const char *key);
void abd_status_close(struct abd_status *status);

enum abd_level { ABD_ERROR, ABD_WARNING, ABD_INFO, ABD_DEBUG };
void abd_log(const struct abd_instance *instance, const struct abd_disk *disk,
             enum abd_level level, const char *format, ...)
    __attribute__((format(printf, 4, 5))); /* disk may be NULL */

#ifdef __cplusplus
}
#endif
#endif
