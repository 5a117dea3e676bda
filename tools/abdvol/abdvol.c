/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdvol: looks after the volumes of the object plugin.
 *
 * The main thread parses and prints; everything of a volume runs on the one
 * loop.  A command is a chain of calls that ends in finish(). */
#include "plugins/object/store_wrap.h"
#include "plugins/object/volume.h"

#include "base/json.h"
#include "base/log.h"
#include "base/parse.h"
#include "loop/host.h"
#include "loop/loop.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB         (UINT64_C(1) << 20)
#define READ_BLOCKS 256 /* in one read of `check` */
#define READS       8   /* at once */

static const char usage[] =
    "Usage: abdvol COMMAND URL [OPTIONS]\n"
    "\n"
    "  create URL --size=SIZE [--object-size=SIZE]\n"
    "  info URL [--json]        what is there\n"
    "  check URL [--json]       reads all data, and says what is damaged\n"
    "  delete URL [--take-over] everything; a volume that was not closed only\n"
    "                           with --take-over\n"
    "\n"
    "URL is dir:PATH.  --help and --version say so.  abdvol(1) has more.\n";

/* One read of `check`. */
struct piece {
    struct reader_read read;
    uint8_t *bytes;
    bool busy;
};

static struct {
    const char *command, *url;
    bool json, take_over;
    struct volume_options options;

    struct store *store;
    struct volume volume;
    sem_t done;
    int error;
    char why[2 * STORE_WHY_MAX];

    /* check */
    struct piece pieces[READS];
    uint64_t next, data, checked, damaged; /* blocks */
    unsigned reading;
    bool shows_progress;

    /* delete */
    struct store_call call;
    char prefix[NAME_SIZE], name[STORE_NAME_MAX + 1];
    unsigned stage;
    uint64_t deleted;
    char found[STORE_LIST_MAX][NAME_SIZE];
    unsigned found_n, found_next;
} self;

/* --- the end --- */

static void finish(int error, const char *why)
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

static void close_volume(void)
{
    volume_close(&self.volume, on_closed, NULL);
}

/* --- check --- */

static void read_on(void);

static void show_progress(void)
{
    if (self.shows_progress && self.data)
        fprintf(stderr, "\r%3" PRIu64 "%% of %" PRIu64 " MiB",
                self.checked * 100 / self.data, self.data * BLOCK_SIZE / MIB);
}

/* The first block that can't be read stands for the rest of its read: it is
 * read block by block. */
static void read_ended(struct piece *piece)
{
    struct reader_read *read = &piece->read;

    if (read->error && read->count > 1) {
        uint64_t end = read->block + read->count;

        /* Behind the damaged block it goes on. */
        self.checked += read->error_block - read->block;
        read->count = end - read->error_block;
        read->block = read->error_block;
        if (read->count > 1) {
            fprintf(stderr, "%sblock %" PRIu64 ": %s\n",
                    self.shows_progress ? "\r" : "", read->block, read->why);
            self.damaged++;
            self.checked++;
            read->block++;
            read->count--;
            if (!reader_start(&self.volume.reader, read))
                return;
            read_ended(piece);
            return;
        }
    }
    if (read->error) {
        fprintf(stderr, "%sblock %" PRIu64 ": %s\n",
                self.shows_progress ? "\r" : "", read->block, read->why);
        self.damaged++;
    }
    self.checked += read->count;
    piece->busy = false;
    self.reading--;
    show_progress();
}

static void on_read(struct reader_read *read)
{
    read_ended(container_of(read, struct piece, read));
    read_on();
}

/* The next blocks that hold data. */
static bool next_data(uint64_t *ret_block, uint64_t *ret_count)
{
    uint64_t end = volume_blocks(&self.volume);

    while (self.next < end) {
        struct extent extent = map_at(self.volume.map, self.next, end);

        if (extent.kind == EXTENT_DATA) {
            *ret_block = self.next;
            *ret_count =
                extent.count < READ_BLOCKS ? extent.count : READ_BLOCKS;
            self.next += *ret_count;
            return true;
        }
        self.next += extent.count;
    }
    return false;
}

static void read_on(void)
{
    for (unsigned i = 0; i < READS; i++) {
        struct piece *piece = &self.pieces[i];

        while (!piece->busy &&
               next_data(&piece->read.block, &piece->read.count)) {
            piece->busy = true;
            self.reading++;
            piece->read.into = piece->bytes;
            piece->read.done = on_read;
            if (reader_start(&self.volume.reader, &piece->read))
                read_ended(piece);
        }
    }
    if (self.reading == 0) {
        if (self.shows_progress)
            fputs("\n", stderr);
        close_volume();
    }
}

static void count_data(void)
{
    uint64_t end = volume_blocks(&self.volume), block = 0;

    while (block < end) {
        struct extent extent = map_at(self.volume.map, block, end);

        if (extent.kind == EXTENT_DATA)
            self.data += extent.count;
        block += extent.count;
    }
}

static void check(void)
{
    for (unsigned i = 0; i < READS; i++) {
        self.pieces[i].bytes = malloc((size_t)READ_BLOCKS * BLOCK_SIZE);
        if (!self.pieces[i].bytes) {
            self.error = ENOMEM;
            close_volume();
            return;
        }
    }
    read_on();
}

/* --- delete: log, then epochs, then the superblock --- */

static void delete_stage(void);

static void delete_next(void);

static void on_deleted(struct store_call *call)
{
    if (call->result != STORE_OK) {
        finish(EIO, call->why);
        return;
    }
    self.deleted++;
    delete_next();
}

static void on_found(struct store_call *call, const char *name, uint64_t size)
{
    (void)call;
    (void)size;
    if (strlen(name) < NAME_SIZE)
        strcpy(self.found[self.found_n++], name);
}

static void on_found_all(struct store_call *call)
{
    if (call->result != STORE_OK) {
        finish(EIO, call->why);
    } else if (self.found_n == 0) {
        self.stage++;
        delete_stage();
    } else {
        delete_next();
    }
}

static void delete_next(void)
{
    if (self.found_next == self.found_n) {
        delete_stage(); /* once more: is anything left? */
        return;
    }
    memset(&self.call, 0, sizeof self.call);
    self.call.verb = STORE_DELETE;
    self.call.name = self.found[self.found_next++];
    self.call.done = on_deleted;
    store_start(self.store, &self.call);
}

static void on_volume_deleted(struct store_call *call)
{
    self.deleted++;
    finish(call->result == STORE_OK ? 0 : EIO, call->why);
}

static void delete_stage(void)
{
    static const char *const folders[] = {"log", "epoch"};
    char uuid[2 * UUID_SIZE + 1];

    memset(&self.call, 0, sizeof self.call);
    self.found_n = self.found_next = 0;
    if (self.stage == sizeof folders / sizeof folders[0]) {
        self.call.verb = STORE_DELETE;
        self.call.name = "volume";
        self.call.done = on_volume_deleted;
        store_start(self.store, &self.call);
        return;
    }
    uuid_print(self.volume.superblock.uuid, uuid);
    snprintf(self.prefix, sizeof self.prefix, "%s/%s/", uuid,
             folders[self.stage]);
    self.call.verb = STORE_LIST;
    self.call.name = self.prefix;
    self.call.found = on_found;
    self.call.done = on_found_all;
    store_start(self.store, &self.call);
}

static void on_claimed_and_closed(struct volume *volume, int error, void *arg)
{
    (void)arg;
    if (error)
        finish(error, volume->why);
    else
        delete_stage();
}

/* --- the beginning --- */

static void on_opened(struct volume *volume, int error, void *arg)
{
    (void)arg;
    if (error) {
        finish(error, volume->why);
        return;
    }
    count_data();
    if (strcmp(self.command, "check") == 0)
        check();
    else if (strcmp(self.command, "delete") == 0)
        volume_close(volume, on_claimed_and_closed, NULL);
    else
        close_volume();
}

static void run(void *arg)
{
    char why[STORE_WHY_MAX] = "";
    int err =
        store_dir(abd_loop_at(0), self.url + strlen("dir:"), &self.store, why);

    (void)arg;
    if (!err)
        err = store_retry(self.store, self.options.retry_for_ns, &self.store);
    if (err) {
        finish(err, why[0] ? why : strerrordesc_np(err));
        return;
    }
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
    json_number(&json, "data_bytes", self.data * BLOCK_SIZE);
    json_number(&json, "extents", map_extents(self.volume.map));
    if (strcmp(self.command, "check") == 0) {
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
           self.data * BLOCK_SIZE, map_extents(self.volume.map));
    if (strcmp(self.command, "check") == 0)
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
    if (strcmp(self.command, "delete") == 0)
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

static void parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'},
        {"object-size", required_argument, NULL, 'o'},
        {"json", no_argument, NULL, 'j'},
        {"take-over", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            self.options.size =
                size_of("--size", BLOCK_SIZE, INT64_MAX - INT64_MAX % 4096);
            break;
        case 'o':
            self.options.object_size =
                size_of("--object-size", 64 * 1024, 256 * MIB);
            break;
        case 'j':
            self.json = true;
            break;
        case 't':
            self.take_over = true;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(0);
        case 'V':
            puts("abdvol " ABDKIT_VERSION);
            exit(0);
        default:
            exit(2);
        }
    }
    if (argc - optind != 2)
        refuse("arguments", "a command and a URL are needed");
    self.command = argv[optind];
    self.url = argv[optind + 1];
}

static void choose(void)
{
    bool creates = strcmp(self.command, "create") == 0;
    bool deletes = strcmp(self.command, "delete") == 0;

    if (!creates && !deletes && strcmp(self.command, "info") != 0 &&
        strcmp(self.command, "check") != 0)
        refuse(self.command, "there is no such command");
    if (strncmp(self.url, "dir:", 4) != 0 || !self.url[4])
        refuse(self.url, "it must be dir:PATH");
    if (creates && !self.options.size)
        refuse("create", "--size is needed");
    if (!creates && (self.options.size))
        refuse("--size", "it is for create");
    self.options.create = self.options.create_only = creates;
    self.options.read_only = !creates && !deletes;
    self.options.take_over = self.take_over;
    self.options.purpose = deletes ? CLAIM_DELETE : CLAIM_WRITE;
}

int main(int argc, char **argv)
{
    int err, status;

    self.options = (struct volume_options){
        .object_size = 8 * MIB,
        .seal_after_ns = UINT64_C(5000000000),
        .retry_for_ns = UINT64_C(30000000000),
        .watch_ns = UINT64_C(10000000000),
        .write_memory = 2 * MIB,
        .read_memory = 16 * MIB,
        .gets = 64,
    };
    parse_options(argc, argv);
    choose();
    self.shows_progress = isatty(2);
    sem_init(&self.done, 0, 0);
    err = loops_create(1);
    if (!err)
        err = loops_start();
    if (err) {
        fprintf(stderr, "abdvol: starting: %s\n", strerrordesc_np(err));
        return 1;
    }
    struct abd_task task = {{0}};
    abd_post(abd_loop_at(0), &task, run, NULL);
    while (sem_wait(&self.done) < 0)
        ;
    status = say();
    loops_stop();
    if (self.store) {
        volume_finish(&self.volume);
        store_destroy(self.store);
    }
    for (unsigned i = 0; i < READS; i++)
        free(self.pieces[i].bytes);
    loops_destroy();
    return status;
}
