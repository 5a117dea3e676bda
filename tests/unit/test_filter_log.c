/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The log filter: what its lines say, and when they are written. */
#include "filter_host.h"
#include "filter_test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct abd_client clients[2] = {{.id = 7}, {.id = 9, .tls = true}};

static char path[40], logfile[60], text[1 << 20];
static char data[512];

static int make_file(void **state)
{
    (void)state;
    strcpy(path, "/tmp/abdkit-log-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    snprintf(logfile, sizeof logfile, "logfile=%s", path);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

/* What the file holds, without the timestamps, whose form is checked. */
static char *lines(void)
{
    static char raw[sizeof text];
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, raw, sizeof raw - 1);
    char *to = text;

    assert_true(n >= 0);
    raw[n] = '\0';
    close(fd);
    for (char *line = raw; *line;) {
        char *end = strchr(line, '\n');
        static const char form[] = "0000-00-00 00:00:00.000000 ";
        assert_non_null(end); /* only whole lines */
        for (unsigned i = 0; form[i]; i++) {
            if (form[i] == '0')
                assert_in_range(line[i], '0', '9');
            else
                assert_int_equal(line[i], form[i]);
        }
        line += strlen(form);
        memcpy(to, line, (size_t)(end + 1 - line));
        to += end + 1 - line;
        line = end + 1;
    }
    *to = '\0';
    return text;
}

static void clear_file(void)
{
    assert_int_equal(truncate(path, 0), 0);
}

static void has_a_line_for_each_request_and_reply(void **state)
{
    static const struct {
        uint32_t op, flags;
        const char *call, *reply;
    } cases[] = {
        {ABD_OP_READ, 0, "Read id=%d offset=0x1000 count=0x200 ...", "Read"},
        {ABD_OP_WRITE, ABD_REQ_FUA,
         "Write id=%d offset=0x1000 count=0x200 fua=1 ...", "Write"},
        {ABD_OP_ZERO, ABD_REQ_MAY_TRIM | ABD_REQ_FAST,
         "Zero id=%d offset=0x1000 count=0x200 trim=1 fua=0 fast=1 ...",
         "Zero"},
        {ABD_OP_TRIM, 0, "Trim id=%d offset=0x1000 count=0x200 fua=0 ...",
         "Trim"},
        {ABD_OP_FLUSH, 0, "Flush id=%d ...", "Flush"},
        {ABD_OP_EXTENTS, ABD_REQ_ONE,
         "Extents id=%d offset=0x1000 count=0x200 req_one=1 ...", "Extents"},
        {ABD_OP_CACHE, 0, "Cache id=%d offset=0x1000 count=0x200 ...", "Cache"},
    };

    (void)state;
    start_chain(1, (const char *[]){logfile, NULL}, NULL);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char call[100], expected[300];
        for (unsigned failing = 0; failing < 2; failing++) {
            clear_file();
            host.answer = failing ? ENOSPC : 0;
            struct host_request *request = host_submit(
                cases[i].op, cases[i].flags, 4096,
                cases[i].op == ABD_OP_FLUSH ? 0 : 512, data, &clients[0]);
            int id = (int)request->pub.id;
            host_advance(0);
            assert_true(request->done);
            assert_int_equal(request->error, host.answer);
            host_free(request);
            const char *mark = strstr(cases[i].call, "%d");
            snprintf(call, sizeof call, "%.*s%d%s", (int)(mark - cases[i].call),
                     cases[i].call, id, mark + 2);
            snprintf(expected, sizeof expected,
                     "connection=7 %s\nconnection=7 ...%s id=%d return=%s\n",
                     call, cases[i].reply, id,
                     failing ? "-1 (ENOSPC)" : "0 (Success)");
            assert_string_equal(lines(), expected);
        }
    }
    end_chain();
}

static void names_no_connection_for_the_servers_own(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){logfile, NULL}, NULL);
    assert_int_equal(result_of(ABD_OP_FLUSH, 0, 0, 0, NULL), 0);
    assert_string_equal(lines(), "Flush id=1 ...\n"
                                 "...Flush id=1 return=0 (Success)\n");
    end_chain();
}

static void tells_who_comes_and_goes(void **state)
{
    (void)state;
    host_init(2);
    host.below.export_name = "a \"disk\"\n";
    host.below.size = 0x400;
    host.below.block_max = 0x10000;
    assert_int_equal(host_layer((const char *[]){logfile, NULL}), 0);
    assert_int_equal(host_start(), 0);
    assert_int_equal(host_open(), 0);
    assert_int_equal(host_admit(&clients[0]), 0);
    assert_int_equal(host_admit(&clients[1]), 0);
    for (unsigned i = 0; i < 3; i++) {
        struct host_request *request =
            host_submit(ABD_OP_READ, 0, 0, 512, data, &clients[i % 2]);
        host_advance(0);
        host_free(request);
    }
    clear_file();
    host_leave(&clients[1]);
    host_leave(&clients[0]);
    host_advance(0);
    assert_string_equal(lines(), "connection=9 Disconnect transactions=1\n"
                                 "connection=7 Disconnect transactions=2\n");
    clear_file();
    assert_int_equal(host_admit(&clients[1]), 0);
    host_advance(0);
    assert_string_equal(
        lines(),
        "connection=9 Connect export=\"a \\\"disk\\\"\\x0a\" tls=1 size=0x400 "
        "minsize=0x1 prefsize=0x1000 maxsize=0x10000 write=1 flush=1 "
        "rotational=0 trim=1 zero=2 fua=2 extents=1 cache=2 fast_zero=0\n");
    host_leave(&clients[1]);
    end_chain();
}

static void writes_once_a_turn(void **state)
{
    struct host_request *requests[100];
    struct stat status;

    (void)state;
    start_chain(1, (const char *[]){logfile, NULL}, NULL);
    for (unsigned i = 0; i < 100; i++)
        requests[i] = host_submit(ABD_OP_READ, 0, UINT64_C(512) * i, 512, data,
                                  &clients[0]);
    host_run();
    assert_int_equal(host.timers, 1);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 0);
    host_advance(0);
    unsigned n = 0;
    for (const char *at = lines(); (at = strchr(at, '\n')); at++)
        n++;
    assert_int_equal(n, 200);
    for (unsigned i = 0; i < 100; i++)
        host_free(requests[i]);
    end_chain();
}

/* More than the buffer holds, in one turn. */
static void loses_no_line_of_a_long_turn(void **state)
{
    enum { N = 3000 };
    static struct host_request *requests[N];
    char line[60];

    (void)state;
    start_chain(1, (const char *[]){logfile, NULL}, NULL);
    for (unsigned i = 0; i < N; i++)
        requests[i] = host_submit(ABD_OP_READ, 0, UINT64_C(512) * i, 512, data,
                                  &clients[0]);
    host_advance(0);
    const char *at = lines();
    for (unsigned i = 0; i < N; i++) {
        snprintf(line, sizeof line, "Read id=%u offset=0x%x count=0x200 ...\n",
                 i + 1, i * 512);
        at = strstr(at, line);
        assert_non_null(at);
        host_free(requests[i]);
    }
    end_chain();
}

static void closing_empties_the_buffers_of_all_loops(void **state)
{
    (void)state;
    start_chain(3, (const char *[]){logfile, NULL}, NULL);
    for (unsigned i = 0; i < 3; i++) {
        host_enter_loop(i);
        struct host_request *request =
            host_submit(ABD_OP_FLUSH, 0, 0, 0, NULL, NULL);
        host_run();
        host_free(request);
    }
    assert_int_equal(host.timers, 3);
    assert_string_equal(lines(), "");
    end_chain(); /* no timer is left */
    for (unsigned i = 1; i <= 3; i++) {
        char line[60];
        snprintf(line, sizeof line,
                 "Flush id=%u ...\n...Flush id=%u return=0 (Success)\n", i, i);
        assert_non_null(strstr(lines(), line));
    }
}

static void appends_if_told_so(void **state)
{
    static const char *const settings[] = {NULL, "logappend=false",
                                           "logappend=true"};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        FILE *file = fopen(path, "w");
        fputs("2020-01-01 00:00:00.000000 old\n", file);
        fclose(file);
        start_chain(1, (const char *[]){logfile, settings[i], NULL}, NULL);
        assert_int_equal(result_of(ABD_OP_FLUSH, 0, 0, 0, NULL), 0);
        end_chain();
        assert_int_equal(!!strstr(lines(), "old\n"), i == 2);
        assert_non_null(strstr(lines(), "Flush"));
    }
}

static void without_a_file_it_is_the_debug_log(void **state)
{
    (void)state;
    start_chain(1, NULL, NULL);
    assert_int_equal(result_of(ABD_OP_READ, 0, 0, 512, data), 0);
    assert_int_equal(host.timers, 0);
    assert_non_null(strstr(host.log, "D Read id=1 offset=0x0 count=0x200 ...\n"
                                     "D ...Read id=1 return=0 (Success)\n"));
    end_chain();
}

static void sees_whole_requests(void **state)
{
    (void)state;
    host_init(1);
    host.below.max_transfer = 65536;
    host.below.max_zero = host.below.max_trim = 1 << 20;
    assert_int_equal(host_layer((const char *[]){logfile, NULL}), 0);
    assert_int_equal(host_start(), 0);
    assert_int_equal(host_open(), 0);
    assert_int_equal(host.top->max_transfer, 64 << 20);
    assert_int_equal(host.top->max_zero, 0);
    assert_int_equal(host.top->max_trim, 0);
    end_chain();
}

static void a_full_file_is_reported_once(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"logfile=/dev/full", NULL}, NULL);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(result_of(ABD_OP_FLUSH, 0, 0, 0, NULL), 0);
    const char *line = strstr(host.log, "E write to /dev/full: ");
    assert_non_null(line);
    assert_null(strstr(line + 1, "E write to"));
    end_chain();
}

static void a_bad_file_is_found_at_start(void **state)
{
    (void)state;
    host_init(1);
    assert_int_equal(
        host_layer((const char *[]){"logfile=/nonexistent/x", NULL}), 0);
    assert_int_equal(host_start(), ENOENT);
    assert_non_null(strstr(host.log, "E logfile=/nonexistent/x: "));
    host_stop();
}

static void refuses_bad_values(void **state)
{
    (void)state;
    refuses("logscript", "echo");
    assert_non_null(strstr(host.log, "not supported"));
    refuses("logappend", "perhaps");
    host_init(1);
    assert_int_equal(host_layer((const char *[]){"logfile=", NULL}), EINVAL);
    host_stop();
}

static void passes_an_open_error_on(void **state)
{
    (void)state;
    host_init(1);
    host.open_error = EACCES;
    assert_int_equal(host_layer(NULL), 0);
    assert_int_equal(host_start(), 0);
    assert_int_equal(host_open(), EACCES);
    assert_int_equal(host.open_disks, 0);
    host_stop();
}

/* Both write to one file: lines stay whole. */
static void twice_in_a_chain(void **state)
{
    const char *const config[] = {logfile, "logappend=true", NULL};

    (void)state;
    start_chain(1, config, config);
    assert_int_equal(host_admit(&clients[0]), 0);
    assert_int_equal(result_of(ABD_OP_FLUSH, 0, 0, 0, NULL), 0);
    host_leave(&clients[0]);
    end_chain();
    unsigned n = 0;
    for (const char *at = lines(); (at = strchr(at, '\n')); at++)
        n++;
    assert_int_equal(n, 8);
}

static void passes_lent_memory(void **state)
{
    (void)state;
    passes_lent((const char *[]){logfile, NULL});
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_file, remove_file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(has_a_line_for_each_request_and_reply),
        TEST(names_no_connection_for_the_servers_own),
        TEST(tells_who_comes_and_goes),
        TEST(writes_once_a_turn),
        TEST(loses_no_line_of_a_long_turn),
        TEST(closing_empties_the_buffers_of_all_loops),
        TEST(appends_if_told_so),
        TEST(without_a_file_it_is_the_debug_log),
        TEST(sees_whole_requests),
        TEST(a_full_file_is_reported_once),
        TEST(a_bad_file_is_found_at_start),
        TEST(refuses_bad_values),
        TEST(passes_an_open_error_on),
        TEST(twice_in_a_chain),
        TEST(passes_lent_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
