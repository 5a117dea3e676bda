/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Jobs: how their parts are submitted, end, and are answered.  See job.h. */
#include "server/job.h"

#include "server/border.h"
#include "server/connection.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/reply.h"
#include "server/request.h"
#include "server/settings.h"
#include "server/transmission.h"
#include "server/worker.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_chunked(const struct job *job)
{
    return job->type == NBD_CMD_READ && !job->whole;
}

/* --- the end of a part --- */

/* It has got something of its own back, and may have waited for that. */
static void tell(struct connection *connection)
{
    if (connection->receive.waits == RECEIVE_WAITS_REPLIES &&
        !connection->receive.stopped)
        transmission_resume(connection);
}

static void give_buffer(struct request *part)
{
    struct connection *connection = part->part.job->connection;

    if (!part->part.buffer)
        return;
    memory_give(part->worker->memory, part->part.buffer,
                part->part.buffer_size);
    connection->held -= memory_cost(part->part.buffer_size);
    part->part.buffer = NULL;
    tell(connection);
}

/* Is it (with its children) to be kept for the next part of its command? */
static bool is_spare(const struct request *part)
{
    const struct job *job = part->part.job;
    const struct command *command = &job->connection->receive.command;

    return command->job == job && part != job->head && !command->spare;
}

static void part_free(struct request *part)
{
    struct worker *worker = part->worker;
    struct connection *connection = part->part.job->connection;

    give_buffer(part);
    connection->requests_held--;
    tell(connection);
    if (is_spare(part)) {
        connection->receive.command.spare = true;
        request_put_reserved(part);
        return;
    }
    request_put(part);
    if (chain.children)
        request_unreserve(worker, chain.children);
}

static void count_traffic(struct traffic *traffic, const struct job *job)
{
    traffic->requests++;
    if (job->error)
        traffic->errors++;
    else if (job->type == NBD_CMD_READ)
        traffic->bytes_read += job->length;
    else if (job->type == NBD_CMD_WRITE)
        traffic->bytes_written += job->length;
}

static void count(struct job *job)
{
    struct connection *connection = job->connection;
    struct worker_counters *counters = &connection->worker->counters;
    uint64_t ns = abd_loop_now_ns() - job->started_ns;

    count_traffic(&connection->traffic, job);
    count_traffic(&connection->lane->traffic, job);
    if (job->started_ns >= connection->worker->turn_ns)
        connection->worker->at_once++;
    counter_add(&counters->requests, 1);
    if (job->type < NBD_CMD_RESIZE)
        histogram_add(&counters->latency[job->type], ns);
    if (job->error)
        counter_add(&counters->errors, 1);
    else if (job->type == NBD_CMD_READ)
        counter_add(&counters->bytes_read, job->length);
    else if (job->type == NBD_CMD_WRITE)
        counter_add(&counters->bytes_written, job->length);
}

static void job_end(struct job *job)
{
    struct connection *connection = job->connection;
    struct request *head = job->head;
    struct list *link;

    count(job);
    if (job->whole) {
        while ((link = list_take_first(&job->all))) {
            struct request *part =
                container_of(link, struct request, part.link);

            if (part != head)
                part_free(part);
        }
    }
    free(job->error_text);
    part_free(head);
    connection->jobs--;
    connection->worker->jobs--;
    connection_job_ended(connection);
}

void part_sent(struct request *part)
{
    struct job *job = part->part.job;

    job->unsent--;
    if (!part->part.final) {
        if (part == job->head) {
            request_release(part);
            give_buffer(part);
        } else {
            part_free(part);
        }
        return;
    }
    if (part != job->head)
        part_free(part);
    job_end(job);
}

/* All parts have ended: one reply for the whole, carried by the head. */
static void job_answer(struct job *job)
{
    job->head->part.final = true;
    reply_queue(job->connection, job->head);
}

static void note_error(struct job *job, struct request *part, int error)
{
    if (job->error)
        return;
    job->error = error;
    job->error_at = part->error_at == ABD_NO_OFFSET
                        ? ABD_NO_OFFSET
                        : part->part.offset + part->error_at;
    job->error_text = part->error_text;
    part->error_text = NULL;
}

/* Where in the part's data the range of the file lies; UINT64_MAX: nowhere. */
static uint64_t find_file(const struct request *part, int fd,
                          uint64_t fd_offset)
{
    uint64_t at = 0;

    for (unsigned i = 0; part->lent.pieces && i < part->lent.n; i++) {
        const struct abd_piece *piece = &part->lent.pieces[i];

        if (piece->kind == ABD_PIECE_FILE && piece->fd == fd &&
            fd_offset >= piece->fd_offset &&
            fd_offset - piece->fd_offset < piece->length)
            return at + (fd_offset - piece->fd_offset);
        at += piece->length;
    }
    return UINT64_MAX;
}

void job_file_failed(struct job *job, struct request *part, int fd,
                     uint64_t fd_offset, int error)
{
    uint64_t at = find_file(part, fd, fd_offset);

    list_for_each (link, &job->all) {
        if (at != UINT64_MAX)
            break;
        part = container_of(link, struct request, part.link);
        at = find_file(part, fd, fd_offset);
    }
    assert(at != UINT64_MAX);
    part->part.file_failed_at = at;
    job->file_failed = true;
    part->error_at = at;
    note_error(job, part, error);
}

/* A chunk goes out as soon as it is there; the last to end is also the end of
 * the reply. */
static void chunk_ended(struct job *job, struct request *part, int error)
{
    part->part.final = job->issued && job->parts == 0;
    if (error) {
        request_release(part);
        give_buffer(part);
    }
    if (!error || part->part.final)
        reply_queue(job->connection, part);
    else if (part != job->head)
        part_free(part);
}

/* Are the ranges of files that were lent still there?  A simple reply promises
 * data in its header and can't take that back, so a file that was cut short is
 * better noticed before.  (What is cut after this look means to disconnect.) */
static bool files_are_there(const struct request *part)
{
    struct stat stat;

    for (unsigned i = 0; part->lent.pieces && i < part->lent.n; i++) {
        const struct abd_piece *piece = &part->lent.pieces[i];

        if (piece->kind == ABD_PIECE_FILE && fstat(piece->fd, &stat) == 0 &&
            S_ISREG(stat.st_mode) &&
            piece->fd_offset + piece->length > (uint64_t)stat.st_size)
            return false;
    }
    return true;
}

void part_ended(struct request *part, int error)
{
    struct job *job = part->part.job;

    if (!error && job->connection->negotiated.style == NBD_SIMPLE &&
        !files_are_there(part)) {
        request_release(part);
        error = EIO;
    }

    list_remove(&part->part.link);
    job->parts--;
    part->part.failed = error != 0;
    if (error)
        note_error(job, part, error);
    if (is_chunked(job)) {
        chunk_ended(job, part, error);
        return;
    }
    if (job->whole)
        list_append(&job->all, &part->part.link);
    else if (part != job->head)
        part_free(part);
    else if (job->type == NBD_CMD_WRITE)
        give_buffer(part);
    if (job->issued && job->parts == 0)
        job_answer(job);
}

/* --- submitting --- */

/* All of it has parts, or is answered without: the next bytes are a header. */
static void end_command(struct connection *connection)
{
    struct command *command = &connection->receive.command;

    command->state = COMMAND_NONE;
    command->part = NULL;
    command->job = NULL;
    command_release_spare(connection);
}

static void submit(struct connection *connection, struct request *part)
{
    part->part.job->parts++;
    list_append(&connection->parts, &part->part.link);
    border_enter(part, connection->disk);
}

static void submit_whole(struct connection *connection, struct job *job)
{
    struct list all, *link;

    list_init(&all);
    list_append_all(&all, &job->all);
    job->issued = true;
    while ((link = list_take_first(&all)))
        submit(connection, container_of(link, struct request, part.link));
}

/* Only what always completes before submit() returns may be given data that
 * lies in the receive buffer. */
static void check_inline(const struct request *part)
{
    if (atomic_load_explicit(&part->state, memory_order_relaxed) !=
        REQUEST_PLUGIN)
        return;
    log_write(ABD_ERROR, NULL,
              "%s: submit() of a disk with ABD_DISK_INLINE returned before the "
              "request was completed",
              part->last_owner);
    abort();
}

void command_submit(struct connection *connection, void *in_place)
{
    struct command *command = &connection->receive.command;
    struct request *part = command->part;
    struct job *job = command->job;

    command->part = NULL;
    if (command->issued == command->length && job->whole &&
        part->part.length < command->length) {
        end_command(connection);
        submit_whole(connection, job);
        return;
    }
    command->issued += part->part.length;
    if (command->issued == command->length) {
        job->issued = true;
        end_command(connection);
    } else if (job->type == NBD_CMD_WRITE && job->error) {
        command->state = COMMAND_DROP; /* nobody wants the rest */
        pace_begin(&connection->receive.pace);
        command->drop = command->length - command->issued;
    } else {
        command->state = COMMAND_ISSUE;
    }
    if (in_place)
        part->pub.data = in_place;
    submit(connection, part);
    if (in_place)
        check_inline(part);
    /* What has ended is unwound while the cache still has it. */
    if (connection->disk->pub.flags & ABD_DISK_INLINE)
        requests_unwind(connection->worker);
}

void command_dropped(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    struct job *job = command->job;

    command->dropped = true;
    if (!job) {
        command->state = COMMAND_ISSUE; /* the error is yet to be answered */
        return;
    }
    end_command(connection);
    job->issued = true;
    if (job->parts == 0)
        job_answer(job);
}

/* There will never be memory for what is still to come: it is read and dropped,
 * then the error is answered by the head. */
static void refuse_payload(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    struct job *job = command->job;

    if (command->part != job->head)
        part_free(command->part);
    command->part = NULL;
    command->state = COMMAND_DROP;
    pace_begin(&connection->receive.pace);
    command->drop = command->length - command->issued;
    if (!job->error)
        job->error = command->error;
}

/* There will never be memory for the rest of a READ whose first parts are on
 * their way: one part stands for all that is left, and fails. */
static void fail_rest(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    struct request *part = command->part;
    struct job *job = command->job;

    part->part.length = command->length - command->issued;
    if (command->why)
        part->error_text = strdup(command->why);
    job->issued = true;
    job->parts++;
    list_append(&connection->parts, &part->part.link);
    end_command(connection);
    part_ended(part, command->error);
}

void command_answer_error(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    struct job *job = command->job;

    if (command->part != job->head && is_chunked(job)) {
        fail_rest(connection);
        return;
    }
    if (command->header.type == NBD_CMD_WRITE && !command->dropped) {
        refuse_payload(connection);
        return;
    }
    job->error = command->error;
    if (command->why)
        job->error_text = strdup(command->why);
    job->issued = true;
    job->whole = true; /* one reply, without chunks */
    end_command(connection);
    job_answer(job);
}

void command_abandon(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    struct job *job = command->job;
    struct request *part = command->part;

    if (connection->receive.waits == RECEIVE_WAITS_MEMORY)
        memory_wait_stop(connection->worker->memory,
                         &connection->receive.memory_waiter);
    list_remove(&connection->receive.room_link);
    end_command(connection);
    if (!job)
        return;
    /* A part that was never submitted goes back now; whole ones are all in
     * job->all, the head among them, and end with the job. */
    if (part && part != job->head && !job->whole)
        part_free(part);
    job->error = ESHUTDOWN;
    job->issued = true;
    if (job->parts == 0) {
        assert(job->unsent == 0);
        job_end(job);
    }
}
