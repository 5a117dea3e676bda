/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdvol: looks after the volumes of the object plugin.  Options, beginning and
 * end; see abdvol.h. */
#include "tools/abdvol/abdvol.h"

#include "base/json.h"
#include "base/log.h"
#include "base/parse.h"
#include "loop/host.h"
#include "loop/loop.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "Usage: abdvol COMMAND URL [OPTIONS]\n"
    "\n"
    "  create URL --size=SIZE [--object-size=SIZE]\n"
    "  info URL [--json]        what is there\n"
    "  list URL [--json]        the volumes there and one level below\n"
    "  check URL [--json]       reads all data, and says what is damaged\n"
    "  delete URL [--take-over] everything; a volume that was not closed only\n"
    "                           with --take-over\n"
    "\n"
    "URL is dir:PATH or s3://BUCKET/PREFIX; for S3 there are --endpoint=URL,\n"
    "--region=NAME, --path-style=yes|no, --profile=NAME and --ca-file=PATH.\n"
    "--help and --version say so.  abdvol(1) has more.\n";

struct abdvol self;

/* --- the end --- */

void finish(int error, const char *why)
{
    self.error = error;
    snprintf(self.why, sizeof self.why, "%s", why ? why : "");
    sem_post(&self.done);
}

static void on_closed(struct volume *volume, int error, void *arg)
{
    (void)arg;
    finish(self.error ? self.error : error,
           self.why[0] ? self.why : volume->why);
}

void close_volume(void)
{
    volume_close(&self.volume, on_closed, NULL);
}

/* Stores live on the loop, to their end. */
static void clean_up(void *arg)
{
    (void)arg;
    if (self.opened)
        volume_finish(&self.volume);
    if (self.store)
        store_destroy(self.store);
    sem_post(&self.done);
}

/* --- the beginning --- */

static void count_data(void)
{
    uint64_t end = volume_blocks(&self.volume), block = 0;

    while (block < end) {
        struct extent extent = map_at(self.volume.map, block, end);

        if (extent.kind == EXTENT_DATA)
            self.data += extent.count * BLOCK_SIZE;
        block += extent.count;
    }
}

static void on_opened(struct volume *volume, int error, void *arg)
{
    (void)arg;
    if (error) {
        finish(error, volume->why);
        return;
    }
    count_data();
    self.command->run();
}

static void begin(void *arg)
{
    char why[STORE_WHY_MAX] = "";
    int err =
        place_store(self.place, abd_loop_at(0), NULL, NULL, &self.store, why);

    (void)arg;
    if (err) {
        finish(err, why);
        return;
    }
    if (self.command->run == list_run) {
        list_run();
        return;
    }
    self.opened = true;
    volume_open(&self.volume, abd_loop_at(0), self.store, &self.options,
                on_opened, NULL);
}

/* --- what is said --- */

static void print_json(void)
{
    char uuid[2 * UUID_SIZE + 1];
    struct json json = {0};
    char *text;

    uuid_print(self.volume.superblock.uuid, uuid);
    json_open_object(&json, NULL);
    json_string(&json, "uuid", uuid);
    json_number(&json, "size", self.volume.superblock.size);
    json_number(&json, "object_size", self.volume.superblock.object_size);
    json_number(&json, "log_objects", self.volume.writer.next_seq - 1);
    json_number(&json, "data_bytes", self.data);
    json_number(&json, "extents", map_extents(self.volume.map));
    if (self.command->run == check_run) {
        json_number(&json, "checked_bytes", self.checked * BLOCK_SIZE);
        json_number(&json, "damaged_blocks", self.damaged);
    }
    json_close_object(&json);
    text = json_finish(&json);
    puts(text ? text : "{}");
    free(text);
}

static void print_text(void)
{
    char uuid[2 * UUID_SIZE + 1];

    uuid_print(self.volume.superblock.uuid, uuid);
    printf("uuid          %s\n", uuid);
    printf("size          %" PRIu64 "\n", self.volume.superblock.size);
    printf("object size   %" PRIu64 "\n", self.volume.superblock.object_size);
    printf("log objects   %" PRIu64 "\n", self.volume.writer.next_seq - 1);
    printf("data          %" PRIu64 " bytes in %" PRIu64 " extents\n",
           self.data, map_extents(self.volume.map));
    if (self.command->run == check_run)
        printf("checked       %" PRIu64 " bytes, %" PRIu64 " damaged blocks\n",
               self.checked * BLOCK_SIZE, self.damaged);
}

static int say(void)
{
    if (self.error) {
        fprintf(stderr, "abdvol: %s: %s\n", self.url,
                self.why[0] ? self.why : strerrordesc_np(self.error));
        return 1;
    }
    if (self.command->run == list_run)
        list_print();
    else if (self.command->run == delete_run)
        printf("%" PRIu64 " objects deleted\n", self.deleted);
    else if (self.json)
        print_json();
    else
        print_text();
    return self.damaged ? 1 : 0;
}

/* --- the command line --- */

__attribute__((noreturn)) static void refuse(const char *what, const char *why)
{
    fprintf(stderr, "abdvol: %s: %s (abdvol --help)\n", what, why);
    exit(2);
}

static uint64_t size_of(const char *option, uint64_t least, uint64_t most)
{
    const char *why = NULL;
    uint64_t size;

    if (parse_size(optarg, &size, &why))
        refuse(option, why);
    if (size < least || size > most || size % BLOCK_SIZE)
        refuse(option, "it is out of bounds, or no multiple of 4096");
    return size;
}

static bool truth_of(const char *option)
{
    const char *why = NULL;
    bool ret = false;

    if (parse_bool(optarg, &ret, &why))
        refuse(option, why);
    return ret;
}

enum {
    OPTION_SIZE = 256,
    OPTION_OBJECT_SIZE,
    OPTION_JSON,
    OPTION_TAKE_OVER,
    OPTION_ENDPOINT,
    OPTION_REGION,
    OPTION_PATH_STYLE,
    OPTION_PROFILE,
    OPTION_CA_FILE,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option long_options[] = {
    {"size", required_argument, NULL, OPTION_SIZE},
    {"object-size", required_argument, NULL, OPTION_OBJECT_SIZE},
    {"json", no_argument, NULL, OPTION_JSON},
    {"take-over", no_argument, NULL, OPTION_TAKE_OVER},
    {"endpoint", required_argument, NULL, OPTION_ENDPOINT},
    {"region", required_argument, NULL, OPTION_REGION},
    {"path-style", required_argument, NULL, OPTION_PATH_STYLE},
    {"profile", required_argument, NULL, OPTION_PROFILE},
    {"ca-file", required_argument, NULL, OPTION_CA_FILE},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0}};

static void take_option(int option)
{
    switch (option) {
    case OPTION_SIZE:
        self.options.size =
            size_of("--size", BLOCK_SIZE, INT64_MAX - INT64_MAX % 4096);
        break;
    case OPTION_OBJECT_SIZE:
        self.options.object_size =
            size_of("--object-size", 64 * 1024, 256 * MIB);
        break;
    case OPTION_JSON:
        self.json = true;
        break;
    case OPTION_TAKE_OVER:
        self.take_over = true;
        break;
    case OPTION_ENDPOINT:
        self.where.s3.endpoint = optarg;
        break;
    case OPTION_REGION:
        self.where.s3.region = optarg;
        break;
    case OPTION_PATH_STYLE:
        self.where.s3.path_style =
            truth_of("--path-style") ? S3_STYLE_PATH : S3_STYLE_HOST;
        break;
    case OPTION_PROFILE:
        self.where.s3.profile = optarg;
        break;
    case OPTION_CA_FILE:
        self.where.s3.ca_file = optarg;
        break;
    case OPTION_HELP:
        fputs(usage, stdout);
        exit(0);
    case OPTION_VERSION:
        puts("abdvol " ABDKIT_VERSION);
        exit(0);
    default:
        exit(2);
    }
}

static const struct command commands[] = {
    {"create", close_volume}, {"info", close_volume}, {"list", list_run},
    {"check", check_run},     {"delete", delete_run}, {NULL, NULL},
};

static void choose(const char *name)
{
    bool creates = strcmp(name, "create") == 0;
    bool deletes = strcmp(name, "delete") == 0;
    const char *why = place_check_url(self.url);

    for (self.command = commands; self.command->name; self.command++)
        if (strcmp(name, self.command->name) == 0)
            break;
    if (!self.command->name)
        refuse(name, "there is no such command");
    if (why)
        refuse(self.url, why);
    if (creates && !self.options.size)
        refuse("create", "--size is needed");
    if (!creates && self.options.size)
        refuse("--size", "it is for create");
    if (!deletes && self.take_over)
        refuse("--take-over", "it is for delete");
    self.options.create = self.options.create_only = creates;
    self.options.read_only = !creates && !deletes;
    self.options.take_over = self.take_over;
    self.options.purpose = deletes ? CLAIM_DELETE : CLAIM_WRITE;
}

static void parse_options(int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        take_option(option);
    if (argc - optind != 2)
        refuse("arguments", "a command and a URL are needed");
    self.url = argv[optind + 1];
    choose(argv[optind]);
}

static void find_place(void)
{
    char why[STORE_WHY_MAX] = "";

    self.where.url = self.url;
    self.where.retry_for_ns = self.options.retry_for_ns;
    self.where.s3.requests = self.options.gets + WRITER_AHEAD + 8;
    self.where.s3.stall_ns = UINT64_C(60000000000);
    if (place_find(&self.where, &self.place, why) != 0) {
        fprintf(stderr, "abdvol: %s: %s\n", self.url, why);
        exit(1);
    }
}

static void wait_for_loop(void)
{
    while (sem_wait(&self.done) < 0)
        ;
}

int main(int argc, char **argv)
{
    struct abd_task task = {{0}}, last = {{0}};
    int err, status;

    self.options = (struct volume_options){
        .object_size = 8 * MIB,
        .seal_after_ns = UINT64_C(5000000000),
        .retry_for_ns = UINT64_C(30000000000),
        .watch_ns = UINT64_C(10000000000),
        .write_memory = 2 * MIB,
        .gets = 64,
    };
    parse_options(argc, argv);
    find_place();
    self.shows_progress = isatty(2);
    sem_init(&self.done, 0, 0);
    err = loops_create(1);
    if (!err)
        err = loops_start();
    if (err) {
        fprintf(stderr, "abdvol: starting: %s\n", strerrordesc_np(err));
        return 1;
    }
    abd_post(abd_loop_at(0), &task, begin, NULL);
    wait_for_loop();
    status = say();
    abd_post(abd_loop_at(0), &last, clean_up, NULL);
    wait_for_loop();
    loops_stop();
    loops_destroy();
    place_free(self.place);
    return status;
}
