/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Stores: a directory, what tries again around a store whose answers are
 * scripted, and faults by plan. */
#include "tests/unit/loop_fixture.h"

#include <errno.h>
#include <ftw.h>

#include "plugins/object/store.h"
#include "plugins/object/store_wrap.h"

static char folder[64];
static struct store *dir;
static const uint8_t session[16] = "0123456789abcde";

/* --- calls that are waited for --- */

struct waited {
    struct store *store;
    struct store_call *call;
    sem_t done;
};

static void on_done(struct store_call *call)
{
    struct waited *waited = call->arg;

    sem_post(&waited->done);
}

static void start_call(void *arg)
{
    struct waited *waited = arg;

    store_start(waited->store, waited->call);
}

static enum store_result call_store(struct store *store,
                                    struct store_call *call)
{
    struct waited waited = {.store = store, .call = call};

    sem_init(&waited.done, 0, 0);
    call->done = on_done;
    call->arg = &waited;
    run_on(abd_loop_at(0), start_call, &waited);
    wait_for(&waited.done);
    sem_destroy(&waited.done);
    return call->result;
}

static enum store_result create(struct store *store, const char *name,
                                const void *bytes, size_t length)
{
    struct iovec body = {(void *)(uintptr_t)bytes, length};
    struct store_call call = {.verb = STORE_CREATE,
                              .name = name,
                              .body = &body,
                              .body_n = 1,
                              .length = length,
                              .session = session};

    return call_store(store, &call);
}

static char got[64 * 1024];
static struct store_call get_call;

static enum store_result get(struct store *store, const char *name,
                             uint64_t offset, uint64_t length)
{
    get_call = (struct store_call){.verb = STORE_GET,
                                   .name = name,
                                   .offset = offset,
                                   .length = length,
                                   .into = got,
                                   .into_max = sizeof got};
    return call_store(store, &get_call);
}

static enum store_result delete (struct store *store, const char *name) {
    struct store_call call = {.verb = STORE_DELETE, .name = name};

    return call_store(store, &call);
}

/* --- a directory --- */

static int remove_one(const char *path, const struct stat *stat, int kind,
                      struct FTW *ftw)
{
    (void)stat;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static int set_up(void **state)
{
    char why[STORE_WHY_MAX];

    (void)state;
    strcpy(folder, "/tmp/abdtest-store-XXXXXX");
    if (!mkdtemp(folder) || start_loops(1) ||
        store_dir(abd_loop_at(0), folder, &dir, why))
        return -1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (dir)
        store_destroy(dir);
    dir = NULL;
    stop_loops();
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static unsigned count_files(void)
{
    char command[128];
    unsigned n = 0;
    FILE *pipe;

    snprintf(command, sizeof command, "find %s -type f | wc -l", folder);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &n), 1);
    pclose(pipe);
    return n;
}

static void creates_once_and_reads_ranges(void **state)
{
    (void)state;
    assert_int_equal(create(dir, "a/b/c", "0123456789", 10), STORE_OK);
    assert_int_equal(create(dir, "a/b/c", "other", 5), STORE_EXISTS);
    assert_int_equal(create(dir, "top", "", 0), STORE_OK);
    assert_int_equal(count_files(), 2);
    assert_int_equal(get(dir, "a/b/c", 0, 0), STORE_OK);
    assert_int_equal(get_call.got, 10);
    assert_memory_equal(got, "0123456789", 10);
    assert_int_equal(get(dir, "a/b/c", 3, 4), STORE_OK);
    assert_int_equal(get_call.got, 4);
    assert_int_equal(get_call.size, 10);
    assert_memory_equal(got, "3456", 4);
    /* A range that begins inside is cut. */
    assert_int_equal(get(dir, "a/b/c", 8, 100), STORE_OK);
    assert_int_equal(get_call.got, 2);
    assert_int_equal(get(dir, "a/b/c", 10, 1), STORE_BROKEN);
    assert_int_equal(get(dir, "top", 0, 0), STORE_OK);
    assert_int_equal(get_call.got, 0);
    assert_int_equal(get(dir, "a/b/d", 0, 0), STORE_MISSING);
    assert_int_equal(get(dir, "x/y", 0, 0), STORE_MISSING);
    assert_int_equal(get(dir, "a/b", 0, 0), STORE_BROKEN);
    assert_int_equal(delete (dir, "a/b/c"), STORE_OK);
    assert_int_equal(delete (dir, "a/b/c"), STORE_OK);
    assert_int_equal(get(dir, "a/b/c", 0, 0), STORE_MISSING);
}

static void stays_inside(void **state)
{
    (void)state;
    assert_int_equal(create(dir, "../x", "x", 1), STORE_BROKEN);
    assert_int_equal(create(dir, "/tmp/x", "x", 1), STORE_BROKEN);
    assert_int_equal(create(dir, "", "x", 1), STORE_BROKEN);
    assert_int_equal(get(dir, "a/../../x", 0, 0), STORE_BROKEN);
    assert_int_equal(count_files(), 0);
}

static void full_disks_leave_nothing(void **state)
{
    struct rlimit before, small;
    static char bytes[200000];

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 100000;
    setrlimit(RLIMIT_FSIZE, &small);
    assert_int_equal(create(dir, "large", bytes, sizeof bytes), STORE_NO_SPACE);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(count_files(), 0);
    assert_int_equal(create(dir, "large", bytes, sizeof bytes), STORE_OK);
}

static unsigned listed;
static char last_listed[STORE_NAME_MAX];

static void on_name(struct store_call *call, const char *name, uint64_t size)
{
    assert_ptr_equal(call->found_arg, &listed);
    assert_true(strcmp(name, last_listed) > 0);
    assert_int_equal(size, 1);
    strcpy(last_listed, name);
    listed++;
}

static void lists_in_order_and_in_parts(void **state)
{
    struct store_call call = {.verb = STORE_LIST,
                              .name = "l/",
                              .found = on_name,
                              .found_arg = &listed};
    char name[32], after[STORE_NAME_MAX];

    (void)state;
    for (unsigned i = 0; i < STORE_LIST_MAX + 5; i++) {
        snprintf(name, sizeof name, "l/%u/%08u", i % 3, i);
        assert_int_equal(create(dir, name, "x", 1), STORE_OK);
    }
    assert_int_equal(create(dir, "m", "x", 1), STORE_OK);
    listed = 0;
    last_listed[0] = '\0';
    assert_int_equal(call_store(dir, &call), STORE_OK);
    assert_int_equal(listed, STORE_LIST_MAX);
    assert_true(call.more);
    strcpy(after, last_listed);
    call.after = after;
    assert_int_equal(call_store(dir, &call), STORE_OK);
    assert_int_equal(listed, STORE_LIST_MAX + 5);
    assert_false(call.more);
    call.name = "nothing/";
    call.after = NULL;
    assert_int_equal(call_store(dir, &call), STORE_OK);
    assert_int_equal(listed, STORE_LIST_MAX + 5);
}

#define RACERS 16

static void one_of_many_creators_wins(void **state)
{
    static struct waited racers[RACERS];
    static struct store_call calls[RACERS];
    static struct iovec bodies[RACERS];
    static char letters[RACERS];
    unsigned winners = 0, winner = 0;

    (void)state;
    for (unsigned i = 0; i < RACERS; i++) {
        letters[i] = (char)('a' + i);
        bodies[i] = (struct iovec){&letters[i], 1};
        calls[i] = (struct store_call){.verb = STORE_CREATE,
                                       .name = "race/one",
                                       .body = &bodies[i],
                                       .body_n = 1,
                                       .length = 1,
                                       .done = on_done,
                                       .arg = &racers[i]};
        racers[i] = (struct waited){.store = dir, .call = &calls[i]};
        sem_init(&racers[i].done, 0, 0);
    }
    for (unsigned i = 0; i < RACERS; i++)
        run_on(abd_loop_at(0), start_call, &racers[i]);
    for (unsigned i = 0; i < RACERS; i++) {
        wait_for(&racers[i].done);
        if (calls[i].result == STORE_OK) {
            winners++;
            winner = i;
        } else {
            assert_int_equal(calls[i].result, STORE_EXISTS);
        }
    }
    assert_int_equal(winners, 1);
    assert_int_equal(get(dir, "race/one", 0, 0), STORE_OK);
    assert_int_equal(got[0], letters[winner]);
    assert_int_equal(count_files(), 1);
}

static void a_folder_that_is_not_there(void **state)
{
    char why[STORE_WHY_MAX] = "";
    struct store *none = NULL;

    (void)state;
    assert_int_equal(store_dir(abd_loop_at(0), "/nowhere/at/all", &none, why),
                     ENOENT);
    assert_null(none);
    assert_true(why[0]);
}

/* --- trying again: a store whose answers are scripted --- */

struct step {
    enum store_verb verb;
    enum store_result result;
    const char *body; /* of a GET; "L...": a log object's, with this session */
};

static struct {
    struct store store;
    const struct step *steps;
    unsigned n, next;
    unsigned wrong; /* calls that came otherwise */
    char sent[64];
} script;

static void play(void *arg)
{
    struct store_call *call = arg;
    const struct step *step = &script.steps[script.next];

    if (script.next == script.n || step->verb != call->verb) {
        script.wrong++;
        call->result = STORE_DENIED;
        call->done(call);
        return;
    }
    script.next++;
    store_answer(call, step->result, "scripted");
    if (call->verb == STORE_GET && step->body) {
        memset(call->into, 0, 64);
        if (step->body[0] == 'L')
            memcpy((char *)call->into + 48, step->body + 1, 16);
        else
            strcpy(call->into, step->body);
        call->got = step->body[0] == 'L' ? 64 : strlen(step->body);
    }
    if (call->verb == STORE_CREATE &&
        (call->body_n != 1 || memcmp(call->body->iov_base, "the body", 8) != 0))
        script.wrong++;
    call->done(call);
}

static void script_start(struct store *store, struct store_call *call)
{
    abd_post(store->loop, &call->task, play, call);
}

static void script_cancel(struct store *store, struct store_call *call)
{
    (void)store;
    (void)call;
}

static void script_destroy(struct store *store)
{
    (void)store;
}

static const struct store_class script_class = {
    .name = "script",
    .start = script_start,
    .cancel = script_cancel,
    .destroy = script_destroy,
};

static enum store_result by_script(const struct step *steps, unsigned n,
                                   uint64_t retry_for_ns)
{
    struct store *retry;
    enum store_result result;

    script.store.class = &script_class;
    script.store.loop = abd_loop_at(0);
    script.steps = steps;
    script.n = n;
    script.next = script.wrong = 0;
    assert_int_equal(store_retry(&script.store, retry_for_ns, &retry), 0);
    result = steps[0].verb == STORE_CREATE
                 ? create(retry, "name", "the body", 8)
                 : get(retry, "name", 0, 0);
    assert_int_equal(script.wrong, 0);
    assert_int_equal(script.next, n);
    store_destroy(retry);
    return result;
}

#define BY_SCRIPT(...)                                                         \
    by_script((const struct step[]){__VA_ARGS__},                              \
              sizeof((const struct step[]){__VA_ARGS__}) /                     \
                  sizeof(struct step),                                         \
              UINT64_C(60000000000))

#define OURS_LOG   "L0123456789abcde"
#define OTHERS_LOG "L0123456789abcdx"
/* "0123456789abcde\0" */
#define OURS_JSON  "{\"session\":\"30313233343536373839616263646500\"}"
#define OTHER_JSON "{\"session\":\"30313233343536373839616263646501\"}"

static void unknown_outcomes_are_found_out(void **state)
{
    (void)state;
    /* I2: once it is known, it is known. */
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_OK, NULL}), STORE_OK);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_UNKNOWN, NULL},
                               {STORE_CREATE, STORE_OK, NULL}),
                     STORE_OK);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_UNKNOWN, NULL},
                               {STORE_CREATE, STORE_EXISTS, NULL},
                               {STORE_GET, STORE_OK, OURS_LOG}),
                     STORE_OK);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_EXISTS, NULL},
                               {STORE_GET, STORE_OK, OTHERS_LOG}),
                     STORE_EXISTS);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_EXISTS, NULL},
                               {STORE_GET, STORE_OK, OURS_JSON}),
                     STORE_OK);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_EXISTS, NULL},
                               {STORE_GET, STORE_OK, OTHER_JSON}),
                     STORE_EXISTS);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_EXISTS, NULL},
                               {STORE_GET, STORE_OK, "{}"}),
                     STORE_EXISTS);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_EXISTS, NULL},
                               {STORE_GET, STORE_OK, ""}),
                     STORE_EXISTS);
    /* It was there, and then it was not. */
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_EXISTS, NULL},
                               {STORE_GET, STORE_MISSING, NULL},
                               {STORE_CREATE, STORE_OK, NULL}),
                     STORE_OK);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_EXISTS, NULL},
                               {STORE_GET, STORE_BUSY, NULL},
                               {STORE_CREATE, STORE_EXISTS, NULL},
                               {STORE_GET, STORE_OK, OURS_LOG}),
                     STORE_OK);
}

static void failures_are_tried_again(void **state)
{
    (void)state;
    assert_int_equal(BY_SCRIPT({STORE_GET, STORE_BUSY, NULL},
                               {STORE_GET, STORE_BROKEN, NULL},
                               {STORE_GET, STORE_OK, "{}"}),
                     STORE_OK);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_NO_SPACE, NULL},
                               {STORE_CREATE, STORE_OK, NULL}),
                     STORE_OK);
    /* These say all there is to say. */
    assert_int_equal(BY_SCRIPT({STORE_GET, STORE_MISSING, NULL}),
                     STORE_MISSING);
    assert_int_equal(BY_SCRIPT({STORE_GET, STORE_DENIED, NULL}), STORE_DENIED);
    assert_int_equal(BY_SCRIPT({STORE_CREATE, STORE_DENIED, NULL}),
                     STORE_DENIED);
}

static void not_for_ever(void **state)
{
    const struct step busy = {STORE_GET, STORE_BUSY, NULL};

    (void)state;
    /* The next attempt would come too late. */
    assert_int_equal(by_script(&busy, 1, 1000), STORE_BUSY);
}

/* --- faults by plan --- */

static void plans_are_checked(void **state)
{
    static const char *const wrong[] = {
        "latency", "latency=x", "busy=1001",    "stall=5",
        "what=1",  "",          "latency=1ms,", "seed=-1"};
    char why[STORE_WHY_MAX];
    struct store *store;

    (void)state;
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        why[0] = '\0';
        assert_int_equal(store_fault(dir, wrong[i], &store, why), EINVAL);
        assert_non_null(strstr(why, "fault"));
    }
}

/* What so many calls ended with. */
static void run_plan(const char *plan, char results[101])
{
    char why[STORE_WHY_MAX], name[32];
    static unsigned runs;
    struct store *store, *below;

    assert_int_equal(store_dir(abd_loop_at(0), folder, &below, why), 0);
    assert_int_equal(store_fault(below, plan, &store, why), 0);
    runs++;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%u/%u", runs, i / 2);
        results[i] = (char)('0' + (i % 2 ? get(store, name, 0, 0)
                                         : create(store, name, "abc", 3)));
    }
    results[100] = '\0';
    store_destroy(store);
}

static void one_seed_one_fate(void **state)
{
    char first[101], again[101], other[101], none[101];

    (void)state;
    run_plan("unknown=300,busy=200,broken=300,seed=3", first);
    run_plan("unknown=300,busy=200,broken=300,seed=3", again);
    run_plan("unknown=300,busy=200,broken=300,seed=4", other);
    run_plan("latency=100us,jitter=100us", none);
    assert_string_equal(first, again);
    assert_string_not_equal(first, other);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(none[i], '0' + STORE_OK);
    assert_non_null(strchr(first, '0' + STORE_UNKNOWN));
    assert_non_null(strchr(first, '0' + STORE_BUSY));
    assert_non_null(strchr(first, '0' + STORE_BROKEN));
    assert_non_null(strchr(first, '0' + STORE_MISSING));
}

static void everything_ends_well_behind_a_retry(void **state)
{
    char why[STORE_WHY_MAX], name[32];
    struct store *store, *below;

    (void)state;
    assert_int_equal(store_dir(abd_loop_at(0), folder, &below, why), 0);
    assert_int_equal(
        store_fault(below, "unknown=400,busy=100,seed=9", &store, why), 0);
    assert_int_equal(store_retry(store, UINT64_MAX, &store), 0);
    for (unsigned i = 0; i < 10; i++) {
        char body[80] = "", ours[80];

        snprintf(name, sizeof name, "r/%u", i);
        memcpy(body + 48, session, sizeof session);
        memcpy(ours, body, sizeof body);
        assert_int_equal(create(store, name, body, sizeof body), STORE_OK);
        assert_int_equal(get(store, name, 0, 0), STORE_OK);
        assert_memory_equal(got, ours, sizeof ours);
    }
    store_destroy(store);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(creates_once_and_reads_ranges),
        TEST(stays_inside),
        TEST(full_disks_leave_nothing),
        TEST(lists_in_order_and_in_parts),
        TEST(one_of_many_creators_wins),
        TEST(a_folder_that_is_not_there),
        TEST(unknown_outcomes_are_found_out),
        TEST(failures_are_tried_again),
        TEST(not_for_ever),
        TEST(plans_are_checked),
        TEST(one_seed_one_fate),
        TEST(everything_ends_well_behind_a_retry),
    };

    return cmocka_run_group_tests_name("object store", tests, NULL, NULL);
}
