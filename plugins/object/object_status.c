/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What --status shows of a disk on object storage: what the store is asked and
 * answers, which is what a bill is made of, and how the log, the map and the
 * cache are. */
#include "object.h"

static void tell_verb(struct abd_status *status, const char *key,
                      const struct store_counters *counters, uint64_t retries,
                      enum store_verb verb)
{
    const struct histogram *latency = &counters->latency[verb];
    uint64_t total = latency->total;

    abd_status_open(status, key);
    abd_status_number(status, "requests", counters->calls[verb]);
    abd_status_number(status, "failures", counters->failures[verb]);
    abd_status_number(status, "retries", retries);
    abd_status_number(status, "mean_ns", total ? latency->sum_ns / total : 0);
    abd_status_number(status, "p50_ns", histogram_percentile(latency, 0.5));
    abd_status_number(status, "p99_ns", histogram_percentile(latency, 0.99));
    abd_status_number(status, "max_ns", latency->max_ns);
    abd_status_close(status);
}

/* Tries are counted below, retries above. */
static void tell_store(struct abd_status *status, const struct store *top)
{
    static const char *const names[STORE_VERBS] = {"put", "get", "list",
                                                   "delete"};
    const struct store *lowest = top;

    while (lowest->below)
        lowest = lowest->below;
    for (unsigned verb = 0; verb < STORE_VERBS; verb++)
        tell_verb(status, names[verb], &lowest->counters,
                  top->counters.retries[verb], verb);
    abd_status_number(status, "up_bytes", lowest->counters.bytes_up);
    abd_status_number(status, "down_bytes", lowest->counters.bytes_down);
}

static void tell_log(struct abd_status *status, const struct writer *writer)
{
    uint64_t dirty = 0, oldest_ns = 0;

    list_for_each (link, &writer->objects) {
        const struct log_object *object =
            container_of(link, struct log_object, link);

        if (object->state == OBJECT_STORED || object->entries_n == 0)
            continue;
        dirty += object->payload + object->entries_n * LOG_ENTRY_SIZE;
        if (!oldest_ns)
            oldest_ns = abd_loop_now_ns() - object->began_ns;
    }
    abd_status_open(status, "log");
    abd_status_number(status, "written_bytes", writer->bytes_written);
    abd_status_number(status, "stored_bytes", writer->bytes_stored);
    abd_status_number(status, "write_amplification_percent",
                      writer->bytes_written
                          ? writer->bytes_stored * 100 / writer->bytes_written
                          : 0);
    abd_status_number(status, "dirty_bytes", dirty);
    abd_status_number(status, "dirty_age_ns", oldest_ns);
    abd_status_number(status, "objects_stored", writer->objects_stored);
    abd_status_number(status, "objects_in_flight", writer->putting);
    abd_status_number(status, "committed", writer->committed);
    abd_status_number(status, "memory_bytes",
                      (uint64_t)writer->total * WRITER_CHUNK);
    abd_status_close(status);
}

static void tell_cache(struct abd_status *status, const struct reader *reader)
{
    const struct cache *cache = &reader->cache;
    uint64_t asked = cache->hits + cache->misses;

    abd_status_open(status, "cache");
    abd_status_number(status, "hits", cache->hits);
    abd_status_number(status, "misses", cache->misses);
    abd_status_number(status, "hit_percent",
                      asked ? cache->hits * 100 / asked : 0);
    abd_status_number(status, "memory_bytes", cache_bytes(cache));
    abd_status_close(status);
}

void object_status(struct abd_disk *pub, struct abd_status *status)
{
    static const char *const states[] = {
        [VOLUME_SERVING] = "serving",
        [VOLUME_FENCED] = "fenced",
        [VOLUME_FAILED] = "failed",
    };
    const struct object_disk *disk = pub->state;
    const struct volume *volume = &disk->volume;

    abd_status_text(status, "url", disk->config->where.url);
    abd_status_text(status, "state", states[volume->state]);
    abd_status_number(status, "epoch", volume->epoch);
    tell_store(status, disk->store);
    tell_log(status, &volume->writer);
    tell_cache(status, &volume->reader);
    abd_status_open(status, "map");
    abd_status_number(status, "extents", map_extents(volume->map));
    abd_status_number(status, "memory_bytes", map_bytes(volume->map));
    abd_status_close(status);
    abd_status_number(status, "damaged_blocks", volume->reader.damaged);
}
