/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The handshake where it meets the rest of the server: disks that take their
 * time, refuse or live on another loop, clients that vanish meanwhile, a server
 * that ends, memory that runs out.  What can be seen from outside alone is
 * tested there (tests/protocol). */
#include "handshake_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "server/limits.h"
#include "server/negotiated.h"
#include "wire/nbd.h"
#include "wire/option.h"

#define FIXED (NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)

static int reset(void **state)
{
    (void)state;
    harness_reset();
    notes.home = 0;
    return 0;
}

static int start(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    harness_start();
    return 0;
}

static int end(void **state)
{
    (void)state;
    harness_end();
    return 0;
}

static void greeted(struct session *session)
{
    session_begin(session);
    client_greet(session, FIXED);
}

static void go_enters_transmission(void **state)
{
    struct session session;

    (void)state;
    greeted(&session);
    assert_int_equal(client_choose(&session, NBD_OPT_GO, "x"), NBD_REP_ACK);
    assert_int_equal(session_wait(&session), OUTCOME_SERVED);
    assert_ptr_equal(session.connection.disk, &test_disk);
    assert_ptr_equal(session.connection.lane, &test_disk.lanes[0]);
    assert_true(session.connection.admitted);
    assert_int_equal(session.connection.negotiated.size, 1 << 20);
    session_end(&session);
}

static void export_name_pads_as_negotiated(void **state)
{
    for (uint32_t flags = 0; flags <= 3; flags++) {
        uint8_t bytes[NBD_EXPORT_NAME_REPLY_SIZE];
        struct session session;

        reset(state);
        session_begin(&session);
        client_greet(&session, flags);
        client_option(&session, NBD_OPT_EXPORT_NAME, "any", 3);
        client_receive(&session, bytes,
                       flags & NBD_FLAG_C_NO_ZEROES ? 10 : sizeof bytes);
        assert_int_equal(load_be64(bytes), 1 << 20);
        assert_int_equal(session_wait(&session), OUTCOME_SERVED);
        session_end(&session);
    }
}

static void oldstyle_opens_at_once(void **state)
{
    uint8_t bytes[NBD_OLDSTYLE_GREETING_SIZE];
    struct session session;

    (void)state;
    settings.oldstyle = true;
    session_begin(&session);
    client_receive(&session, bytes, sizeof bytes);
    assert_true(load_be64(bytes + 8) == NBD_CLISERV_MAGIC);
    assert_int_equal(session_wait(&session), OUTCOME_SERVED);
    session_end(&session);
}

static void oldstyle_closes_if_there_is_no_disk(void **state)
{
    struct session session;

    (void)state;
    settings.oldstyle = true;
    notes.open_error = ENOENT;
    session_begin(&session);
    client_expect_end(&session);
    assert_int_equal(session_wait(&session), OUTCOME_CLOSED);
    session_end(&session);
}

static void errors_of_open_are_told_apart(void **state)
{
    static const struct {
        int err;
        uint32_t reply;
    } cases[] = {
        {ENOENT, NBD_REP_ERR_UNKNOWN}, {EACCES, NBD_REP_ERR_POLICY},
        {EPERM, NBD_REP_ERR_POLICY},   {ESHUTDOWN, NBD_REP_ERR_SHUTDOWN},
        {EIO, NBD_REP_ERR_UNKNOWN},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct session session;

        reset(state);
        greeted(&session);
        notes.open_error = cases[i].err;
        assert_int_equal(client_choose(&session, NBD_OPT_GO, "db\n"),
                         cases[i].reply);
        client_payload[client_payload_length] = 0;
        assert_non_null(strstr((char *)client_payload, "\"db\\x0a\""));
        assert_non_null(strstr((char *)client_payload, strerror(cases[i].err)));
        notes.open_error = 0;
        assert_int_equal(client_choose(&session, NBD_OPT_GO, ""), NBD_REP_ACK);
        session_wait(&session);
        notes.gets = 1;
        session_end(&session);
    }
}

static void who_is_not_admitted_puts_the_disk_back(void **state)
{
    struct session session;

    (void)state;
    greeted(&session);
    notes.admit_error = EPERM;
    assert_int_equal(client_choose(&session, NBD_OPT_GO, "a"),
                     NBD_REP_ERR_POLICY);
    assert_int_equal(client_choose(&session, NBD_OPT_INFO, "a"),
                     NBD_REP_ERR_POLICY);
    client_option(&session, NBD_OPT_EXPORT_NAME, "a", 1);
    client_expect_end(&session);
    assert_int_equal(session_wait(&session), OUTCOME_CLOSED);
    assert_int_equal(notes.admits, 0);
    assert_int_equal(notes.gets, 3);
    session_end(&session);
}

static void info_then_go_opens_once(void **state)
{
    struct session session;

    (void)state;
    greeted(&session);
    assert_int_equal(client_choose(&session, NBD_OPT_INFO, "a"), NBD_REP_ACK);
    assert_int_equal(notes.leaves, 1);
    assert_int_equal(client_choose(&session, NBD_OPT_INFO, "a"), NBD_REP_ACK);
    assert_int_equal(client_choose(&session, NBD_OPT_GO, "a"), NBD_REP_ACK);
    assert_int_equal(session_wait(&session), OUTCOME_SERVED);
    assert_int_equal(notes.gets, 1);
    session_end(&session);
}

static void info_of_another_name_puts_the_first_back(void **state)
{
    struct session session;

    (void)state;
    greeted(&session);
    assert_int_equal(client_choose(&session, NBD_OPT_INFO, "a"), NBD_REP_ACK);
    assert_int_equal(client_choose(&session, NBD_OPT_INFO, "b"), NBD_REP_ACK);
    assert_int_equal(notes.puts, 1);
    assert_int_equal(notes.gets, 2);
    session_end(&session);
    assert_int_equal(notes.puts, 2);
}

static void moves_to_the_disk_and_leaves_the_rest_unread(void **state)
{
    uint8_t rest[5] = {0};
    struct session session;
    struct iovec place = {.iov_base = rest, .iov_len = sizeof rest};
    size_t got;

    (void)state;
    notes.home = 1;
    greeted(&session);
    client_option(&session, NBD_OPT_EXPORT_NAME, "any", 3);
    client_send(&session, "later", 5);
    assert_int_equal(session_wait(&session), OUTCOME_SERVED);
    assert_ptr_equal(session.connection.worker, &workers[1]);
    assert_ptr_equal(session.connection.lane, &test_disk.lanes[1]);
    /* Nobody else reads from it any more. */
    assert_int_equal(
        stream_receive(&session.connection.stream, &place, 1, &got), 0);
    assert_int_equal(got, 5);
    assert_memory_equal(rest, "later", 5);
    session_end(&session);
}

static void parallel_disks_need_no_move(void **state)
{
    struct session session;

    (void)state;
    notes.home = 1;
    test_disk.parallel = true;
    greeted(&session);
    assert_int_equal(client_choose(&session, NBD_OPT_GO, ""), NBD_REP_ACK);
    assert_int_equal(session_wait(&session), OUTCOME_SERVED);
    assert_ptr_equal(session.connection.worker, &workers[0]);
    session_end(&session);
}

/* The client's end is seen while nothing is read. */
static void a_client_that_dies_while_its_disk_opens(void **state)
{
    for (unsigned oldstyle = 0; oldstyle < 2; oldstyle++) {
        struct session session;

        reset(state);
        settings.oldstyle = oldstyle;
        notes.hold = true;
        session_begin(&session);
        if (!oldstyle) {
            client_greet(&session, FIXED);
            client_option(&session, NBD_OPT_EXPORT_NAME, "x", 1);
        }
        disk_wait_held();
        close(session.in);
        session.in = session.out = -1;
        /* It is not gone before the disk has come and was put back. */
        session_wait_closing(&session);
        assert_int_equal(session.outcome, OUTCOME_NONE);
        disk_release();
        assert_int_equal(session_wait(&session), OUTCOME_CLOSED);
        assert_int_equal(notes.puts, 1);
        assert_int_equal(notes.admits, 0);
        session_end(&session);
    }
}

static void the_clock_stands_still_while_a_disk_opens(void **state)
{
    struct session session;

    (void)state;
    settings.handshake_timeout_ns = SECOND;
    notes.open_ns = SECOND + SECOND / 5;
    greeted(&session);
    client_option(&session, NBD_OPT_EXPORT_NAME, NULL, 0);
    assert_int_equal(session_wait(&session), OUTCOME_SERVED);
    session_end(&session);
}

static void a_slow_client_is_closed(void **state)
{
    struct session session;

    (void)state;
    settings.handshake_timeout_ns = SECOND / 50;
    session_begin(&session);
    client_greet(&session, FIXED);
    client_option(&session, NBD_OPT_GO, NULL, 100);
    client_expect_end(&session);
    assert_int_equal(session_wait(&session), OUTCOME_CLOSED);
    session_end(&session);
}

static void draining_closes_who_is_idle(void **state)
{
    struct session session;

    (void)state;
    greeted(&session);
    client_option(&session, NBD_OPT_LIST, NULL, 0);
    assert_int_equal(client_reply(&session, NBD_OPT_LIST), NBD_REP_SERVER);
    assert_int_equal(client_reply(&session, NBD_OPT_LIST), NBD_REP_ACK);
    session_drain(&session);
    client_expect_end(&session);
    assert_int_equal(session_wait(&session), OUTCOME_CLOSED);
    session_end(&session);
}

static void draining_refuses_the_option_under_way(void **state)
{
    static const uint8_t half[] = {0, 0, 0, 0, 0, 0};
    struct session session;

    (void)state;
    greeted(&session);
    assert_int_equal(client_choose(&session, NBD_OPT_INFO, ""), NBD_REP_ACK);
    client_option(&session, NBD_OPT_GO, NULL, sizeof half);
    client_send(&session, half, 3);
    session_drain(&session);
    client_send(&session, half + 3, sizeof half - 3);
    assert_int_equal(client_reply(&session, NBD_OPT_GO), NBD_REP_ERR_SHUTDOWN);
    client_expect_end(&session);
    assert_int_equal(session_wait(&session), OUTCOME_CLOSED);
    session_end(&session);
}

static void draining_refuses_the_disk_that_comes(void **state)
{
    struct session session;
    uint8_t data[6] = {0};

    (void)state;
    notes.hold = true;
    greeted(&session);
    client_option(&session, NBD_OPT_GO, data, sizeof data);
    disk_wait_held();
    session_drain(&session);
    disk_release();
    assert_int_equal(client_reply(&session, NBD_OPT_GO), NBD_REP_ERR_SHUTDOWN);
    assert_int_equal(session_wait(&session), OUTCOME_CLOSED);
    assert_int_equal(notes.admits, 0);
    session_end(&session);
}

static void works_over_two_pipes(void **state)
{
    struct session session;
    int to[2], from[2];

    (void)state;
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    session_begin_with(&session, to[0], from[1], from[0], to[1]);
    client_greet(&session, FIXED);
    assert_int_equal(client_choose(&session, NBD_OPT_GO, ""), NBD_REP_ACK);
    assert_int_equal(session_wait(&session), OUTCOME_SERVED);
    session_end(&session);
}

/* The end of one pipe says nothing about the other. */
static void a_pipe_that_was_written_and_closed(void **state)
{
    uint8_t bytes[10];
    struct session session;
    int to[2], from[2];

    (void)state;
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    notes.hold = true;
    session_begin_with(&session, to[0], from[1], from[0], to[1]);
    client_greet(&session, FIXED);
    client_option(&session, NBD_OPT_EXPORT_NAME, NULL, 0);
    close(session.out);
    session.out = session.in;
    disk_wait_held();
    disk_release();
    client_receive(&session, bytes, sizeof bytes);
    assert_int_equal(session_wait(&session), OUTCOME_SERVED);
    session_end(&session);
}

static void reads_from_a_file(void **state)
{
    char path[] = "/tmp/abdkit-handshake-XXXXXX";
    uint8_t bytes[10];
    struct session session;
    int from[2], file = mkstemp(path);

    (void)state;
    assert_true(file >= 0);
    unlink(path);
    assert_int_equal(pipe(from), 0);
    session.out = file;
    store_be32(bytes, FIXED);
    client_send(&session, bytes, 4);
    for (unsigned i = 0; i < 50; i++)
        client_option(&session, 99, "data", 4);
    client_option(&session, NBD_OPT_EXPORT_NAME, NULL, 0);
    lseek(file, 0, SEEK_SET);
    session_begin_with(&session, file, from[1], from[0], from[0]);
    client_receive(&session, client_payload, NBD_GREETING_SIZE);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(client_reply(&session, 99), NBD_REP_ERR_UNSUP);
    client_receive(&session, bytes, sizeof bytes);
    assert_int_equal(session_wait(&session), OUTCOME_SERVED);
    session_end(&session);
}

static void list_many(struct abd_exports *exports)
{
    char name[300], description[5000];

    memset(name, 'n', sizeof name);
    memset(description, 'd', sizeof description);
    description[sizeof description - 1] = 0;
    for (unsigned i = 0; i < 11000; i++) {
        snprintf(name + 200, 50, "%u", i);
        abd_add_export(exports, name, i == 1 ? description : "said of it");
    }
    abd_add_export(exports, "\xff", NULL);
    abd_exports_done(exports, 0);
}

/* Which is more than a socket holds: the rest waits until it is read. */
static void a_long_list_waits_for_its_reader(void **state)
{
    struct session session;
    unsigned n = 0;

    (void)state;
    test_exports = list_many;
    greeted(&session);
    client_option(&session, NBD_OPT_LIST, NULL, 0);
    client_option(&session, NBD_OPT_ABORT, NULL, 0);
    while (client_reply(&session, NBD_OPT_LIST) == NBD_REP_SERVER) {
        uint32_t length = load_be32(client_payload);

        assert_in_range(length, 201, 205);
        assert_int_equal(client_payload_length,
                         4 + length + (n == 1 ? 0 : strlen("said of it")));
        n++;
    }
    assert_int_equal(n, LIMIT_LISTED_EXPORTS);
    assert_int_equal(client_reply(&session, NBD_OPT_ABORT), NBD_REP_ACK);
    client_expect_end(&session);
    session_end(&session);
}

static struct abd_exports *kept_exports;

static void list_later(struct abd_exports *exports)
{
    kept_exports = exports;
    sem_post(&notes.held);
}

static void a_client_that_dies_while_exports_are_listed(void **state)
{
    struct session session;

    (void)state;
    test_exports = list_later;
    greeted(&session);
    client_option(&session, NBD_OPT_LIST, NULL, 0);
    disk_wait_held();
    close(session.in);
    session.in = session.out = -1;
    session_wait_closing(&session);
    assert_int_equal(session.outcome, OUTCOME_NONE);
    /* From a foreign thread. */
    abd_add_export(kept_exports, "late", NULL);
    abd_exports_done(kept_exports, 0);
    assert_int_equal(session_wait(&session), OUTCOME_CLOSED);
    session_end(&session);
}

static void a_failing_list_is_an_error(void **state)
{
    struct session session;

    (void)state;
    test_exports = list_later;
    greeted(&session);
    client_option(&session, NBD_OPT_LIST, NULL, 0);
    disk_wait_held();
    abd_add_export(kept_exports, "not sent", NULL);
    abd_exports_done(kept_exports, EACCES);
    assert_int_equal(client_reply(&session, NBD_OPT_LIST), NBD_REP_ERR_POLICY);
    session_end(&session);
}

static void too_many_options_disconnect(void **state)
{
    struct session session;

    (void)state;
    greeted(&session);
    for (unsigned i = 0; i < LIMIT_OPTIONS; i++) {
        client_option(&session, NBD_OPT_STARTTLS, NULL, 0);
        assert_int_equal(client_reply(&session, NBD_OPT_STARTTLS),
                         NBD_REP_ERR_POLICY);
    }
    client_option(&session, NBD_OPT_STARTTLS, NULL, 0);
    client_expect_end(&session);
    session_end(&session);
}

static void long_options_are_dropped_up_to_a_bound(void **state)
{
    static uint8_t data[LIMIT_OPTION_DROPPED];
    static const uint32_t lengths[] = {LIMIT_OPTION, LIMIT_OPTION + 1,
                                       LIMIT_OPTION_DROPPED};
    struct session session;

    (void)state;
    greeted(&session);
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        client_option(&session, NBD_OPT_GO, data, lengths[i]);
        assert_int_equal(client_reply(&session, NBD_OPT_GO),
                         lengths[i] > LIMIT_OPTION ? NBD_REP_ERR_TOO_BIG
                                                   : NBD_REP_ERR_INVALID);
    }
    client_option(&session, NBD_OPT_GO, NULL, LIMIT_OPTION_DROPPED + 1);
    client_expect_end(&session);
    session_end(&session);
}

/* Sends it all, since any of it may be the last that is answered. */
static void send_everything(struct session *session)
{
    static const uint8_t meta[] = "\0\0\0\1x\0\0\0\1\0\0\0\17base:allocation";
    static const uint8_t name[] = "\0\0\0\1x\0\0";
    uint8_t flags[4];

    store_be32(flags, FIXED);
    client_send(session, flags, sizeof flags);
    client_option(session, NBD_OPT_LIST, NULL, 0);
    client_option(session, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    client_option(session, NBD_OPT_SET_META_CONTEXT, meta, sizeof meta - 1);
    client_option(session, NBD_OPT_INFO, name, sizeof name - 1);
    client_option(session, NBD_OPT_GO, name, sizeof name - 1);
}

/* With one allocation failing, the client is served, told, or closed, and
 * nothing is left behind. */
static void every_allocation_may_fail(void **state)
{
    unsigned n = 0, closed = 0;

    do {
        struct session session;
        int fds[2];

        reset(state);
        fail_allocation(++n);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        session.out = fds[1];
        send_everything(&session);
        session_begin_with(&session, fds[0], fds[0], fds[1], fds[1]);
        if (session_wait(&session) == OUTCOME_CLOSED)
            closed++;
        session_end(&session);
    } while (fail_allocation(0));
    assert_in_range(n, 10, 100);
    assert_in_range(closed, 5, n - 1);
}

static uint16_t flags_of(enum nbd_reply_style style, bool allocation)
{
    struct negotiated negotiated = {.style = style, .allocation = allocation};

    negotiated_describe(&negotiated, &test_disk, workers[0].memory);
    return negotiated.transmission_flags;
}

static void flags_follow_the_disk(void **state)
{
    (void)state;
    assert_int_equal(flags_of(NBD_SIMPLE, false),
                     NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_WRITE_ZEROES |
                         NBD_FLAG_CAN_MULTI_CONN);
    test_disk.shared = false;
    test_disk.pub.ops = UINT32_MAX;
    test_disk.pub.fua = ABD_FUA_EMULATE;
    test_disk.pub.flags = ABD_DISK_ROTATIONAL | ABD_DISK_FAST_ZERO;
    assert_int_equal(
        flags_of(NBD_STRUCTURED, true),
        NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FLUSH |
            NBD_FLAG_SEND_FUA | NBD_FLAG_ROTATIONAL | NBD_FLAG_SEND_TRIM |
            NBD_FLAG_SEND_DF | NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_FAST_ZERO);
    settings.read_only = true;
    test_disk.pub.flags = ABD_DISK_FAST_ZERO | ABD_DISK_MULTI_CONN;
    assert_int_equal(flags_of(NBD_EXTENDED, true),
                     NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY |
                         NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_DF |
                         NBD_FLAG_SEND_CACHE | NBD_FLAG_CAN_MULTI_CONN |
                         NBD_FLAG_BLOCK_STATUS_PAYLOAD);
    assert_false(flags_of(NBD_EXTENDED, false) & NBD_FLAG_BLOCK_STATUS_PAYLOAD);
}

static struct negotiated sizes_of(uint64_t transfer, uint32_t minimum,
                                  uint32_t preferred, uint32_t maximum)
{
    struct negotiated negotiated = {0};

    test_disk.transfer = test_disk.piece = test_disk.lend_max = transfer;
    test_disk.block_min = minimum;
    test_disk.pub.block_preferred = preferred;
    test_disk.pub.block_max = maximum;
    negotiated_describe(&negotiated, &test_disk, workers[0].memory);
    return negotiated;
}

static void block_sizes_obey_all_bounds(void **state)
{
    struct negotiated sizes = sizes_of(LIMIT_TRANSFER, 1, 0, 0);

    (void)state;
    assert_int_equal(sizes.block_min, 1);
    assert_int_equal(sizes.block_preferred, 4096);
    assert_int_equal(sizes.block_max, LIMIT_PAYLOAD);
    assert_int_equal(sizes_of(4096, 1, 0, 0).block_max,
                     4096 * LIMIT_PAYLOAD_PIECES);
    sizes = sizes_of(LIMIT_TRANSFER, 65536, 0, 0);
    assert_int_equal(sizes.block_preferred, 65536);
    assert_int_equal(sizes_of(LIMIT_TRANSFER, 1, 512, 512).block_max, 512);
    assert_int_equal(sizes_of(LIMIT_TRANSFER, 512, 4096, 1024).block_max, 4096);
    assert_int_equal(sizes_of(LIMIT_TRANSFER, 1, 0, 100000).block_max, 100000);
    /* Whole requests of 64 MiB need a run of chunks; the arena has 80. */
    assert_int_equal(sizes_of(LIMIT_PAYLOAD, 1, 0, 0).block_max, LIMIT_PAYLOAD);
}

int main(void)
{
#define HANDSHAKE_TEST(name) cmocka_unit_test_setup(name, reset)
    const struct CMUnitTest tests[] = {
        HANDSHAKE_TEST(go_enters_transmission),
        HANDSHAKE_TEST(export_name_pads_as_negotiated),
        HANDSHAKE_TEST(oldstyle_opens_at_once),
        HANDSHAKE_TEST(oldstyle_closes_if_there_is_no_disk),
        HANDSHAKE_TEST(errors_of_open_are_told_apart),
        HANDSHAKE_TEST(who_is_not_admitted_puts_the_disk_back),
        HANDSHAKE_TEST(info_then_go_opens_once),
        HANDSHAKE_TEST(info_of_another_name_puts_the_first_back),
        HANDSHAKE_TEST(moves_to_the_disk_and_leaves_the_rest_unread),
        HANDSHAKE_TEST(parallel_disks_need_no_move),
        HANDSHAKE_TEST(a_client_that_dies_while_its_disk_opens),
        HANDSHAKE_TEST(the_clock_stands_still_while_a_disk_opens),
        HANDSHAKE_TEST(a_slow_client_is_closed),
        HANDSHAKE_TEST(draining_closes_who_is_idle),
        HANDSHAKE_TEST(draining_refuses_the_option_under_way),
        HANDSHAKE_TEST(draining_refuses_the_disk_that_comes),
        HANDSHAKE_TEST(works_over_two_pipes),
        HANDSHAKE_TEST(a_pipe_that_was_written_and_closed),
        HANDSHAKE_TEST(reads_from_a_file),
        HANDSHAKE_TEST(a_long_list_waits_for_its_reader),
        HANDSHAKE_TEST(a_client_that_dies_while_exports_are_listed),
        HANDSHAKE_TEST(a_failing_list_is_an_error),
        HANDSHAKE_TEST(too_many_options_disconnect),
        HANDSHAKE_TEST(long_options_are_dropped_up_to_a_bound),
        HANDSHAKE_TEST(every_allocation_may_fail),
        HANDSHAKE_TEST(flags_follow_the_disk),
        HANDSHAKE_TEST(block_sizes_obey_all_bounds),
    };

    return cmocka_run_group_tests(tests, start, end);
}
