/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */
/* abd-loop.h - what the server lends a plugin: its event loops, so that the
 * plugin needs no threads; its payload memory; its parsing of parameters.
 *
 * A loop is one thread.  Everything that a disk does on its loop is called from
 * there, one at a time, so a plugin that lives on the loop needs no locks.
 *
 * MEMORY        Watches, timers, tasks, work and the like are structs in the
 * plugin's own memory, so starting one cannot fail for lack of memory.  They
 *               begin zeroed.  One that is started must not be moved, freed or
 *               started again before it has been stopped or its end was called.
 * THREADS       Watches, timers, hooks and pressures are started and stopped on
 * the thread of their loop only; from elsewhere the server aborts.  Post a task
 * to get there.  abd_post() and abd_work_start() may be called from any thread.
 * STOPPING      When a stop function has returned, the callback is not running
 *               and will not be called, not even for an event that had already
 *               happened.  Stopping what is not started does nothing.  A
 *               callback may stop and free itself and others.
 * BLOCKING      No callback may block.  One that holds the loop for more than
 *               100 ms is reported, with the plugin's name.
 * SCOPE         These functions are the loop library's, not the server's alone:
 *               tools and the contract kit run plugins' code on them too.
 * ORDER         A turn of the loop: events, timers, tasks, then the hooks and
 *               kick() callbacks, then completed requests are answered, then it
 *               sleeps if nothing is left to do.
 */
#ifndef ABD_LOOP_H
#define ABD_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct abd_loop;

/* The loops exist from start() to destroy().  A disk that is not parallel uses
 * disk->loop.  A parallel one that keeps something for each loop (a ring, a
 * queue) posts a task to each in open(), and calls abd_opened() after the last;
 * in close() likewise. */
unsigned abd_loop_count(void);
struct abd_loop *abd_loop_at(unsigned index);
unsigned abd_loop_index(const struct abd_loop *loop);
struct abd_loop *abd_loop_current(void); /* NULL: this thread is not a loop */

/* CLOCK_MONOTONIC as of this turn; on a loop's thread only. */
uint64_t abd_loop_now_ns(void);

/* Calls fn whenever fd is ready (level-triggered).  events, ready: bits of
 * enum abd_event; ERROR is always reported.  The fd stays the caller's, and
 * must stay open until the watch is stopped.  Returns 0 or an errno value
 * (EPERM: a regular file, which is always ready). */
enum abd_event { ABD_READABLE = 1, ABD_WRITABLE = 2, ABD_EVENT_ERROR = 4 };
struct abd_watch {
    void *reserved[8];
};
int abd_watch_start(struct abd_watch *watch, int fd, uint32_t events,
                    void (*fn)(void *arg, uint32_t ready), void *arg);
int abd_watch_change(struct abd_watch *watch, uint32_t events);
void abd_watch_stop(struct abd_watch *watch);

/* Calls fn after delay_ns (never earlier, usually within 0.1 ms), then every
 * repeat_ns unless that is 0.  A repeating timer that is late skips turns. */
struct abd_timer {
    void *reserved[8];
};
void abd_timer_start(struct abd_timer *timer, uint64_t delay_ns,
                     uint64_t repeat_ns, void (*fn)(void *arg), void *arg);
void abd_timer_stop(struct abd_timer *timer);

/* Calls fn once in every turn in which anything happened, before answers are
 * sent: the place for one io_uring_enter() or the like for a whole batch. */
struct abd_hook {
    void *reserved[4];
};
void abd_hook_start(struct abd_hook *hook, void (*fn)(void *arg), void *arg);
void abd_hook_stop(struct abd_hook *hook);

/* Calls fn once on the loop's thread.  Tasks from one thread run in the order
 * of posting.  One cannot be taken back; it may be posted again from fn on. */
struct abd_task {
    void *reserved[4];
};
void abd_post(struct abd_loop *loop, struct abd_task *task,
              void (*fn)(void *arg), void *arg);

/* Runs run(arg) on a thread of the work pool (first come, first served), then
 * done(arg) on the loop.  run() may block on files and the network; it must not
 * wait for a request of any disk, nor for another work: the pool is bounded.
 * (Blocking plugins and filters have threads of their own, not these.)  At
 * shutdown, disks are closed only when the plugin says so, so a plugin waits
 * for done() before abd_closed(). */
struct abd_work {
    void *reserved[8];
};
void abd_work_start(struct abd_loop *loop, struct abd_work *work,
                    void (*run)(void *arg), void (*done)(void *arg), void *arg);

/* With ABD_PLUGIN_REGISTERS, from start() on: the one range of memory in which
 * every request's data lies, page-aligned.
 * It is a memfd, mapped whole, 2 MiB aligned; it is never moved, cut or given
 * back to the kernel while the server runs.  Data of a filter that lies
 * elsewhere is bounced by the server.  base, length and fd are the server's. */
struct abd_instance;
struct abd_memory {
    void *base;
    uint64_t length;
    int fd;
};
void abd_memory(const struct abd_instance *instance, struct abd_memory *ret);

/* Buffers out of the server's one budget of payload memory (--memory), from
 * which the data of requests comes, too: so what a plugin keeps in them is not
 * added to it.  Page-aligned, of up to 1 MiB; each costs the next power of two,
 * at least 4 KiB.  On a loop's thread; what was taken on a loop is given back
 * there, with the size and use that it was asked for.
 *
 * NEEDED   the plugin can't work without it, and takes it before it has
 *          requests: in open().  While requests wait for memory there may be
 *          none, so nobody may wait for a NEEDED buffer with a request in hand.
 *          Half of the budget at most can be had this way, less of a small one
 *          (1 MiB of 4), in steps of 1 MiB that all plugins share.
 * SPARE    only from what nobody is likely to need: there is none while anybody
 *          waits, or while less than a quarter of the budget is free.  It makes
 *          things faster, and is given back under pressure.
 *
 * NULL: there is none now.  Where there is no server (tools, the contract kit)
 * there is no budget, and all memory is spare. */
enum abd_buffer_use { ABD_BUFFER_NEEDED, ABD_BUFFER_SPARE };
#define ABD_BUFFER_MAX (UINT64_C(1) << 20)
void *abd_buffer_take(uint64_t size, enum abd_buffer_use use);
void abd_buffer_give(void *buffer, uint64_t size, enum abd_buffer_use use);
uint64_t abd_buffer_budget(void); /* bytes in all; 0: there is none */

/* Calls fn on this loop when requests, on any loop, wait for memory: it gives
 * back what is spare, as soon as it can.  It is called again for as long as it
 * gives something back and they still wait. */
struct abd_pressure {
    void *reserved[4];
};
void abd_pressure_start(struct abd_pressure *pressure, void (*fn)(void *arg),
                        void *arg);
void abd_pressure_stop(struct abd_pressure *pressure);

/* Ends the server as SIGTERM does; ends one client's connection. */
struct abd_client;
void abd_shutdown(void);
void abd_disconnect(const struct abd_client *client);

/* For config(): 0 or an errno value, what was wrong already logged under the
 * instance's name.  Strings are the caller's to free().  Same limits and units
 * as nbdkit's parameters: 1G, 64ms, yes, +FILE, ... */
int abd_parse_size(const struct abd_instance *instance, const char *text,
                   uint64_t *ret);
int abd_parse_bool(const struct abd_instance *instance, const char *text,
                   bool *ret);
int abd_parse_number(const struct abd_instance *instance, const char *text,
                     uint64_t max, uint64_t *ret);
int abd_parse_delay(const struct abd_instance *instance, const char *text,
                    uint64_t *ret_ns);
int abd_absolute_path(const struct abd_instance *instance, const char *path,
                      char **ret);
int abd_read_secret(const struct abd_instance *instance, const char *text,
                    char **ret);

#ifdef __cplusplus
}
#endif
#endif
